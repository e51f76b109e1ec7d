"""What jobs and operators do with pages: list, load, free, pin. Each over whatever mounts a path covers."""

from __future__ import annotations

from headrace.cache.store import CachedStore
from headrace.model.errors import NotFound
from headrace.model.objects import Entry, Listing, ObjectInfo, with_key
from headrace.namespace.namespace import Namespace
from headrace.wiring import caches_of


async def list_page(namespace: Namespace, path: str, *, after: str, limit: int) -> Listing:
    """Objects at or below `path`, recursively, as whole namespace paths."""
    if not after:
        single = await _single(namespace, path)
        if single is not None:
            return Listing((single,))
    root, prefix = _split(path)
    base = root.rstrip("/") + "/"
    page = await namespace.list(root, prefix, after=after.removeprefix(base) if after else "", limit=limit)
    entries: list[Entry] = [with_key(e, base + e.key) for e in page.entries if isinstance(e, ObjectInfo)]
    return Listing(tuple(entries), base + page.after if page.after is not None else None)


async def load(namespace: Namespace, path: str) -> int:
    """Bring the object's pages into the cache; its length. Without a cache there is nothing to do."""
    target = namespace.resolve(path)
    for store in caches_of(target.mount.store):
        try:
            loaded = await store.load(target.key)
        except NotFound:
            continue
        return loaded.bytes_fetched + loaded.bytes_present
    return (await namespace.info(path)).size


async def free(namespace: Namespace, path: str, *, prefix: bool) -> int:
    """Drop the pages of one object or of all below `path`; bytes freed."""
    freed = 0
    for store, key in _stores_below(namespace, path, deeper=prefix):
        freed += (await store.free(key if not prefix or not key else key.rstrip("/") + "/")).bytes
    return freed


async def pin(namespace: Namespace, path: str, on: bool) -> None:
    """Keep the pages at and below `path`, or let them go again."""
    for store, key in _stores_below(namespace, path, deeper=True):
        await store.pin(key, on)


async def hold_pin(namespace: Namespace, path: str) -> None:
    """`pin` on, of those stores that do not have it yet."""
    for store, key in _stores_below(namespace, path, deeper=True):
        if not store.has_pin(key):
            await store.pin(key, True)


def _stores_below(namespace: Namespace, path: str, *, deeper: bool) -> list[tuple[CachedStore, str]]:
    table = namespace.table
    plain = path.rstrip("/") or "/"
    found: list[tuple[CachedStore, str]] = []
    mount = table.find(plain)
    if mount is not None:
        key = table.resolve(path if plain != "/" else "/").key
        found += [(store, key) for store in caches_of(mount.store)]
    if deeper:
        found += [(store, "") for below in table.below(plain) for store in caches_of(below.store)]
    if not found:
        raise NotFound(f"nothing is mounted at {path}: see `headrace mount ls`", path=path)
    return found


async def _single(namespace: Namespace, path: str) -> ObjectInfo | None:
    if path.endswith("/"):
        return None
    try:
        return await namespace.info(path)
    except NotFound:
        return None


def _split(path: str) -> tuple[str, str]:
    """A listing's root (the bucket, or `/`) and the prefix below it that mean "at or below `path`"."""
    bucket, _, _rest = path.strip("/").partition("/") if path != "/" else ("", "", "")
    if not bucket:
        return "/", ""
    prefix = path[len(bucket) + 2 :]
    return "/" + bucket, prefix if not prefix or prefix.endswith("/") else prefix + "/"
