"""The global tree: paths in, the stores' objects out. What every gateway calls."""

from __future__ import annotations

from headrace.model.errors import NotFound, ReadOnly
from headrace.model.mounts import WriteMode
from headrace.model.objects import ByteRange, CommonPrefix, Listing, ObjectInfo, Version, with_key
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody, attributes_of
from headrace.namespace.merge import LAST, Source, merge_listings
from headrace.namespace.table import Mount, MountTable, Target
from headrace.stores.keys import rolled_up


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

    def peek(self, path: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        """`Store.peek` of the store that `path` leads to. The Reading's key is the store's own."""
        target = self.table.resolve(path)
        return target.mount.store.peek(target.key, byte_range, files=files)

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
