"""AccountStore: all buckets of an account as one store; a key's first component is the bucket."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from headrace.model.errors import BucketNotEmpty, NotFound, Unsupported
from headrace.model.objects import ByteRange, CommonPrefix, Entry, Listing, ObjectInfo, Version, with_key
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody, attributes_of
from headrace.stores.account_uploads import AccountUploads
from headrace.stores.buckets import Buckets
from headrace.stores.keys import check_key, check_text, rolled_up
from headrace.stores.store import Store
from headrace.stores.urls import is_bucket_name

_MAX_OPEN_BUCKETS = 256
_MAX_BUCKETS_PER_PAGE = 50
_LAST = "\U0010ffff"


class AccountStore(Store):
    """`bucket/key` over per-bucket stores. An empty bucket shows as a CommonPrefix when listed with `/`.

    `open_bucket` makes the store of a bucket that may not be there: its verbs then raise `NotFound`. The 256 used last are
    kept, the others dropped without a `close`: what they share is closed by whoever made this one.
    """

    def __init__(self, buckets: Buckets, open_bucket: Callable[[str], Store]) -> None:
        self._buckets = buckets
        self._open_bucket = open_bucket
        self._stores: OrderedDict[str, Store] = OrderedDict()

    async def info(self, key: str) -> ObjectInfo:
        store, inner = self.find(key)
        return with_key(await store.info(inner), key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        store, inner = self.find(key)
        reading = await store.read(inner, byte_range, version=version)
        reading.info = with_key(reading.info, key)
        return reading

    async def tags(self, key: str) -> Pairs:
        store, inner = self.find(key)
        return await store.tags(inner)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        store, inner = self.find(info.key)
        return await store.part(with_key(info, inner), number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        store, inner = self.find(key)
        return with_key(await store.write(inner, body, attributes, condition=condition), key)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        (origin, inner_source), (target, inner) = self.find(source.key), self.find(key)
        if origin is target:
            told = await target.copy(with_key(source, inner_source), inner, attributes, condition=condition)
            return with_key(told, key)
        if attributes is None:
            attributes = attributes_of(source, await origin.tags(inner_source))
        reading = await origin.read(inner_source, version=source.version)
        return with_key(await target.write(inner, ReadingBody(reading), attributes, condition=condition), key)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        store, inner = self.find(key)
        await store.delete(inner, condition=condition)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        store, inner = self.find(key)
        await store.set_tags(inner, tags)

    def multipart(self) -> AccountUploads:
        return AccountUploads(self._buckets, self.find)

    def buckets(self) -> Buckets:
        return self._buckets

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        check_text(prefix, delimiter, after)
        bucket, slash, _ = prefix.partition("/")
        if slash:
            if not is_bucket_name(bucket):
                return Listing(())
            return await self._list_bucket(bucket, prefix, delimiter, after, limit)
        if "/" in delimiter and delimiter != "/":
            raise Unsupported(f"delimiter {delimiter!r} across buckets: begin the prefix with a bucket's name and a slash")
        names = [bucket.name for bucket in await self._buckets.list()]
        # Compared with the slash, as keys are: `a-b/x` sorts before `a/x`.
        roots = sorted((name + "/" for name in names if name.startswith(prefix)), key=str.encode)
        if delimiter == "/":
            return _cut([CommonPrefix(root) for root in roots], after, limit)
        return await self._list_flat(roots, prefix, delimiter, after, limit)

    def find(self, key: str) -> tuple[Store, str]:
        """The store of the key's bucket, and the key within it. Raises `NotFound` for a key that names no bucket."""
        check_text(key)
        bucket, _, inner = key.partition("/")
        if not key:
            check_key(key)
        if not inner or not is_bucket_name(bucket):
            raise NotFound(f"{key!r}: a key begins with a bucket's name and a slash", path=key)
        return self._store(bucket), inner

    async def _list_flat(self, roots: Sequence[str], prefix: str, delimiter: str, after: str, limit: int) -> Listing:
        entries: list[Entry] = []
        visited = 0
        for position, root in enumerate(roots):
            if (root + _LAST).encode() <= after.encode():
                continue
            common = rolled_up(root, prefix, delimiter)
            if common is not None:
                if common.encode() > after.encode() and (not entries or entries[-1].key != common):
                    entries.append(CommonPrefix(common))
            else:
                visited += 1
                page = await self._list_bucket(root[:-1], root, delimiter, after, limit - len(entries))
                entries.extend(page.entries)
                if page.after is not None:
                    return Listing(tuple(entries), page.after)
            is_last = position == len(roots) - 1
            if not is_last and (len(entries) >= limit or visited >= _MAX_BUCKETS_PER_PAGE):
                return Listing(tuple(entries), common or root + _LAST)
        return Listing(tuple(entries))

    async def _list_bucket(self, bucket: str, prefix: str, delimiter: str, after: str, limit: int) -> Listing:
        root = bucket + "/"
        inside = after.startswith(root)
        if not inside and after.encode() > root.encode():
            return Listing(())
        start = after[len(root) :] if inside else ""
        page = await self._store(bucket).list(prefix[len(root) :], delimiter=delimiter, after=start, limit=limit)
        entries = tuple([_under(root, entry) for entry in page.entries])
        return Listing(entries, None if page.after is None else root + page.after)

    def _store(self, bucket: str) -> Store:
        store = self._stores.get(bucket)
        if store is None:
            store = self._stores[bucket] = self._open_bucket(bucket)
            if len(self._stores) > _MAX_OPEN_BUCKETS:
                self._stores.popitem(last=False)
        else:
            self._stores.move_to_end(bucket)
        return store


def _under(root: str, entry: Entry) -> Entry:
    key = root + entry.key
    return CommonPrefix(key) if isinstance(entry, CommonPrefix) else with_key(entry, key)


def _cut(entries: list[CommonPrefix], after: str, limit: int) -> Listing:
    behind = [entry for entry in entries if entry.key.encode() > after.encode()]
    return Listing(tuple(behind[:limit]), behind[limit - 1].key if len(behind) > limit else None)


async def check_empty(store: Store, name: str) -> None:
    """Raises `BucketNotEmpty` when the bucket of `store` holds anything: for services that remove it all the same."""
    if (await store.list(limit=1)).entries:
        raise BucketNotEmpty(f"bucket {name!r} holds objects", path=name)
    if (await store.multipart().list(limit=1)).uploads:
        raise BucketNotEmpty(f"bucket {name!r} holds unfinished uploads: complete or abort them", path=name)
