"""CopyingAccountStore: an account whose service copies from bucket to bucket by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable

from headrace.model.errors import VersionChanged
from headrace.model.objects import ObjectInfo, with_key
from headrace.model.writing import ALWAYS, Attributes, Condition
from headrace.stores.account import AccountStore
from headrace.stores.buckets import Buckets
from headrace.stores.http_reads import is_version
from headrace.stores.store import Store


class BucketStore(Store):
    """A bucket's store whose service copies, also out of the account's other buckets."""

    name: str
    """The bucket."""

    @abstractmethod
    async def copy_from(
        self, bucket: str, source: ObjectInfo, key: str, attributes: Attributes | None, condition: Condition
    ) -> ObjectInfo | None:
        """`copy` of an object of `bucket`; None: the bytes have to pass through here."""

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        copied = await self.copy_from(self.name, source, key, attributes, condition)
        if copied is not None:
            return copied
        known = await self.info(source.key)  # what a listing says of it lacks attributes
        if not is_version(known, source.version):
            raise VersionChanged(f"{source.key!r} is now {known.version.token}, not {source.version.token}", path=source.key)
        return await super().copy(known, key, attributes, condition=condition)


class CopyingAccountStore(AccountStore):
    """An account over per-bucket stores that share its connections, which `close_shared` frees."""

    def __init__(
        self, buckets: Buckets, open_bucket: Callable[[str], BucketStore], close_shared: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(buckets, open_bucket)
        self._close_shared = close_shared

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
        await self._close_shared()
