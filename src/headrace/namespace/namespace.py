"""The global tree: paths in, the stores' objects out. What every gateway calls."""

from __future__ import annotations

import msgspec

from headrace.model.errors import AccessDenied, NotFound, ReadOnly, Unsupported
from headrace.model.mounts import WriteMode
from headrace.model.objects import ByteRange, CommonPrefix, Listing, ObjectInfo, Version, with_key
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody, attributes_of
from headrace.namespace.merge import LAST, Source, merge_listings
from headrace.namespace.table import Mount, MountTable, Target
from headrace.stores.keys import rolled_up


class BucketInfo(msgspec.Struct, frozen=True):
    """A first component of the namespace, as S3 callers see it."""

    name: str
    created_s: float = 0.0


class Namespace:
    """Paths are `/bucket/key`, the key exactly as its store keeps it.

    `table` may be replaced at any time; every call uses the one it finds at its start.
    Raises what the stores raise, with `NotFound` also where nothing is mounted.
    """

    def __init__(self, table: MountTable | None = None) -> None:
        self.table = table or MountTable()

    def resolve(self, path: str) -> Target:
        return self.table.resolve(path)

    def mount_of(self, path: str) -> Mount | None:
        return self.table.find(path)

    def peek(self, path: str, byte_range: ByteRange | None) -> Reading | None:
        """`Store.peek` of the store that `path` leads to. The Reading's key is the store's own."""
        target = self.table.resolve(path)
        return target.mount.store.peek(target.key, byte_range)

    async def info(self, path: str) -> ObjectInfo:
        target = self._object_target(path)
        return with_key(await target.mount.store.info(target.key), path)

    async def read(self, path: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        """`Store.read`. The Reading's key is the store's own."""
        target = self._object_target(path)
        return await target.mount.store.read(target.key, byte_range, version=version)

    async def tags(self, path: str) -> tuple[tuple[str, str], ...]:
        target = self._object_target(path)
        return await target.mount.store.tags(target.key)

    async def part(self, path: str, info: ObjectInfo, number: int) -> ByteRange:
        """`Store.part` of the object that `info` describes at `path`."""
        target = self._object_target(path)
        return await target.mount.store.part(with_key(info, target.key), number)

    async def write(self, path: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        """`Store.write`. Raises `ReadOnly` where the mount takes no writes, before the body is touched."""
        target = self.writable(path)
        return with_key(await target.mount.store.write(target.key, body, attributes, condition=condition), path)

    async def copy(
        self, source: ObjectInfo, path: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        """`Store.copy` of the object that `source` describes by its path; between two mounts the bytes pass through here."""
        origin, target = self._object_target(source.key), self.writable(path)
        inner = with_key(source, origin.key)
        if origin.mount is target.mount:
            info = await target.mount.store.copy(inner, target.key, attributes, condition=condition)
            return with_key(info, path)
        if attributes is None:
            attributes = attributes_of(source, await origin.mount.store.tags(origin.key))
        reading = await origin.mount.store.read(origin.key, version=source.version)
        info = await target.mount.store.write(target.key, ReadingBody(reading), attributes, condition=condition)
        return with_key(info, path)

    async def delete(self, path: str, *, condition: Condition = ALWAYS) -> None:
        """`Store.delete`. Raises `ReadOnly`."""
        target = self.writable(path)
        await target.mount.store.delete(target.key, condition=condition)

    async def set_tags(self, path: str, tags: Pairs) -> None:
        """`Store.set_tags`. Raises `ReadOnly`."""
        target = self.writable(path)
        await target.mount.store.set_tags(target.key, tags)

    def writable(self, path: str) -> Target:
        """Where a write to `path` goes. Raises `NotFound` where nothing is mounted, `ReadOnly` where nothing may be written."""
        target = self._object_target(path)
        if target.mount.spec.write is WriteMode.NONE:
            raise ReadOnly(f'{target.mount.path} takes no writes: set write = "through" on the mount', path=path)
        return target

    async def create_bucket(self, name: str) -> None:
        """A new first component. Raises `AccessDenied` unless an account mount at `/` allows it, and as `Buckets.create`."""
        await self.account(name).store.buckets().create(name)

    async def delete_bucket(self, name: str) -> None:
        """Take an empty first component away. Raises as `create_bucket` and `Buckets.delete`."""
        await self.account(name).store.buckets().delete(name)

    def is_mounted(self, name: str) -> bool:
        """Whether the first component `name` is made by a mount, and not one of the buckets of an account."""
        path = "/" + name
        mount = self.table.find(path)
        return bool(self.table.below(path)) or (mount is not None and mount.path == path)

    def account(self, name: str) -> Mount:
        """The mount whose buckets may be made and removed. Raises `AccessDenied` with the reason why `name` may not."""
        path = "/" + name
        mount = self.table.find(path)
        if mount is None or mount.path != "/" or self.is_mounted(name):
            raise AccessDenied(f"{path} is made by mounts: see `headrace mount add`", path=path)
        if not mount.spec.create_buckets:
            raise AccessDenied("the mount at / lets no buckets be made or removed: set create_buckets = true on it", path=path)
        if mount.spec.write is WriteMode.NONE:
            raise ReadOnly('/ takes no writes: set write = "through" on the mount', path=path)
        return mount

    async def list(self, root: str, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        """`Store.list` of everything below `root` (`/` or `/bucket…`), keys relative to it.

        Mounts below hide what the store above them has at their paths, and show as prefixes
        even while they are empty.
        """
        table = self.table
        base = table.find(root)
        nested = table.below(root)
        if base is None and not nested and root != "/":
            raise NotFound(f"nothing is mounted at {root}: see `headrace mount ls`", path=root)
        hidden = tuple(_relative(root, mount.path) + "/" for mount in nested)
        sources: list[Source] = []
        if base is not None:
            sources.append(_Below(base, table.resolve(root).key, "", hidden, prefix, delimiter).source())
        for mount, inner in zip(nested, hidden, strict=True):
            deeper = tuple(h for h in hidden if h != inner and h.startswith(inner))
            sources.append(_Below(mount, "", inner, deeper, prefix, delimiter).source())
        return await merge_listings(sources, after=after, limit=limit)

    async def buckets(self) -> tuple[BucketInfo, ...]:
        """First components of the namespace, sorted: mounts, and an account mount's buckets."""
        created_s = await self._created_s()
        names: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await self.list("/", delimiter="/", after=after)
            names.extend(e.key[:-1] for e in page.entries if isinstance(e, CommonPrefix))
            after = page.after
        return tuple(BucketInfo(name, created_s.get(name, 0.0)) for name in names)

    async def _created_s(self) -> dict[str, float]:
        """When the account's buckets were made, as far as that is told."""
        root = self.table.find("/")
        if root is None:
            return {}
        try:
            return {bucket.name: bucket.created_s for bucket in await root.store.buckets().list()}
        except Unsupported:
            return {}

    async def has_bucket(self, name: str) -> bool:
        """Whether `/name` exists. Raises `Unavailable` where that cannot be known now."""
        path = "/" + name
        mount = self.table.find(path)
        if self.is_mounted(name):
            return True
        if mount is None:
            return False
        key = self.table.resolve(path).key
        try:
            inside = await mount.store.list(key + "/", limit=1)
        except NotFound:
            return False
        # An empty bucket of an account is a bucket; an empty directory of a plain store is nothing.
        return bool(inside.entries) or await self._is_prefix(mount, key)

    async def _is_prefix(self, mount: Mount, name: str) -> bool:
        after: str | None = name
        while after is not None and after < name + "/":
            page = await mount.store.list(name, delimiter="/", after=after)
            if any(entry.key == name + "/" for entry in page.entries):
                return True
            after = page.after
        return False

    def _object_target(self, path: str) -> Target:
        target = self.table.resolve(path)
        if not target.key:
            raise NotFound(f"{path} is a mount, not an object", path=path)
        return target


def _relative(root: str, path: str) -> str:
    return path[1:] if root == "/" else path[len(root) + 1 :]


class _Below:
    """One mount's part of a listing: its keys seen from the listing's root, less what deeper mounts hide."""

    def __init__(self, mount: Mount, key: str, inner: str, hidden: tuple[str, ...], prefix: str, delimiter: str) -> None:
        self._store = mount.store
        self._outer = f"{key}/" if key else ""
        self._inner = inner
        self._hidden = hidden
        self._prefix = prefix
        self._delimiter = delimiter

    def source(self) -> Source:
        return Source(self._page, self._rolled() or self._inner)

    def _rolled(self) -> str | None:
        """The prefix that stands for all of the mount, where one does."""
        return rolled_up(self._inner, self._prefix, self._delimiter) if self._inner.startswith(self._prefix) else None

    async def _page(self, after: str, limit: int) -> Listing:
        inner, prefix = self._inner, self._prefix
        if not prefix.startswith(inner) and not inner.startswith(prefix):
            return Listing(())
        rolled = self._rolled()
        if rolled is not None:
            return Listing((CommonPrefix(rolled),) if rolled > after else ())
        begun = after.startswith(inner)
        if after > inner and not begun:
            return Listing(())
        return await self._visible(prefix[len(inner) :], after[len(inner) :] if begun else "", limit)

    async def _visible(self, prefix: str, after: str, limit: int) -> Listing:
        outer, inner, hidden = self._outer, self._inner, self._hidden
        if not outer and not inner and not hidden:
            return await self._store.list(prefix, delimiter=self._delimiter, after=after, limit=limit)
        entries: list[ObjectInfo | CommonPrefix] = []
        start: str | None = after
        while start is not None and len(entries) < limit:
            page = await self._store.list(
                outer + prefix, delimiter=self._delimiter, after=outer + start if start else "", limit=limit - len(entries)
            )
            last_hidden = ""
            for entry in page.entries:
                key = inner + entry.key[len(outer) :]
                last_hidden = next((h for h in hidden if key.startswith(h)), "")
                if not last_hidden:
                    entries.append(with_key(entry, key) if isinstance(entry, ObjectInfo) else CommonPrefix(key))
            start = page.after[len(outer) :] if page.after is not None else None
            if start is not None and last_hidden:
                start = last_hidden[len(inner) :] + LAST
        return Listing(tuple(entries), inner + start if start is not None else None)
