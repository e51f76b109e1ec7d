"""The Buckets contract: the first components of an account's keys, which exist even while they hold nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod

from headrace.model.uploads import Bucket


class Buckets(ABC):
    """The buckets of a store that has them."""

    @abstractmethod
    async def list(self) -> tuple[Bucket, ...]:
        """All of them, sorted by the name's bytes."""

    @abstractmethod
    async def create(self, name: str) -> Bucket:
        """Make an empty bucket. Raises `BucketExists`, and `InvalidKey` for a name that S3 does not allow."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Remove an empty bucket. Raises `NotFound`, `BucketNotEmpty`."""
