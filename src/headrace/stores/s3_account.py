"""S3AccountStore: all buckets of an S3 account as one store."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from headrace.model.objects import ObjectInfo, with_key
from headrace.model.writing import ALWAYS, Attributes, Condition
from headrace.stores.account import AccountStore
from headrace.stores.s3_buckets import S3Buckets
from headrace.stores.s3_requests import S3Requests
from headrace.stores.store import Store


class BucketStore(Store):
    """A bucket's store that copies out of its account's other buckets by itself."""

    name: str
    """The bucket."""

    @abstractmethod
    async def copy_from(
        self, bucket: str, source: ObjectInfo, key: str, attributes: Attributes | None, condition: Condition
    ) -> ObjectInfo | None:
        """`copy` of an object of `bucket`; None: the bytes have to pass through here."""


class S3AccountStore(AccountStore):
    """An account over per-bucket stores that share its connections."""

    def __init__(self, requests: S3Requests, open_bucket: Callable[[str], BucketStore]) -> None:
        super().__init__(S3Buckets(requests, open_bucket), open_bucket)
        self._requests = requests

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        (origin, inner_source), (target, inner) = self.find(source.key), self.find(key)
        if origin is not target and isinstance(origin, BucketStore) and isinstance(target, BucketStore):
            told = await target.copy_from(origin.name, with_key(source, inner_source), inner, attributes, condition)
            if told is not None:
                return with_key(told, key)
        return await super().copy(source, key, attributes, condition=condition)

    async def close(self) -> None:
        for store in self._stores.values():
            await store.close()
        await self._requests.close()
