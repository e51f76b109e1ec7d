"""The Buckets contract: the first components of an account's keys, which exist even while they hold nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod

from headrace.model.errors import NotFound, Unsupported
from headrace.model.uploads import Bucket


class Buckets(ABC):
    """The buckets of a store that has them."""

    @abstractmethod
    async def list(self) -> tuple[Bucket, ...]:
        """All of them, sorted by the name's bytes."""

    @abstractmethod
    async def create(self, name: str) -> Bucket:
        """Make an empty bucket. Raises `BucketExists`, and `InvalidKey` for a name that S3 does not allow."""

    async def set_acl(self, name: str, acl: str) -> None:  # noqa: ARG002  a default for most
        """Keep a text with the bucket, in place of what was kept; `Bucket.acl` tells it. Raises `NotFound`."""
        raise Unsupported(f"bucket {name!r}: this store keeps no access control lists", path=name)

    async def find(self, name: str) -> Bucket:
        """The bucket of that name. Raises `NotFound`."""
        for bucket in await self.list():
            if bucket.name == name:
                return bucket
        raise NotFound(f"there is no bucket {name!r}", path=name)

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Remove an empty bucket. Raises `NotFound`, `BucketNotEmpty`."""
