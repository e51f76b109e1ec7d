"""Listings with staged writes laid over what the store lists."""

from __future__ import annotations

from headrace.model.objects import CommonPrefix, Entry, Listing, ObjectInfo, Version
from headrace.staging.backlog import Backlog, Look, Staged
from headrace.staging.records import Delete, Put
from headrace.stores.keys import rolled_up
from headrace.stores.store import Store

_LAST = "\U0010ffff"


def staged_info(staged: Staged) -> ObjectInfo | None:
    """The object that a staged write makes; None for one that removes it."""
    entry = staged.entry
    if isinstance(entry, Delete):
        return None
    return ObjectInfo(
        key=entry.key,
        size=entry.size,
        # What most stores will call it, so that pages of it stay good when it has arrived there.
        version=Version(f"etag:{entry.etag}"),
        modified_s=float(int(entry.staged_s)),
        etag=entry.etag,
        content_type=entry.attributes.content_type,
        headers=entry.attributes.headers,
        metadata=entry.attributes.metadata,
        checksums=entry.checksums,
        tag_count=len(entry.attributes.tags),
    )


async def list_over(inner: Store, backlog: Backlog, prefix: str, *, delimiter: str, after: str, limit: int) -> Listing:
    """`Store.list` of `inner` as it will be once it has what is staged."""
    with backlog.look() as look:
        return await _list_over(inner, look, prefix, delimiter=delimiter, after=after, limit=limit)


async def _list_over(inner: Store, look: Look, prefix: str, *, delimiter: str, after: str, limit: int) -> Listing:
    position: str | None = after
    while position is not None:
        page = await inner.list(prefix, delimiter=delimiter, after=position, limit=limit)
        over = _staged_entries(look, prefix, delimiter, position, page.after, limit)
        entries: dict[str, Entry] = {}
        for entry in page.entries:
            if isinstance(entry, ObjectInfo) and look.visible(entry.key) is not None:
                continue
            if isinstance(entry, CommonPrefix) and entry.key not in over and not await _survives(inner, look, entry.key):
                continue
            entries[entry.key] = entry
        entries.update(over)
        merged = sorted(entries.values(), key=_key_bytes)
        if len(merged) > limit:
            return Listing(tuple(merged[:limit]), merged[limit - 1].key)
        if merged or page.after is None:
            return Listing(tuple(merged), page.after)
        position = page.after
    return Listing(())


def _staged_entries(look: Look, prefix: str, delimiter: str, after: str, horizon: str | None, limit: int) -> dict[str, Entry]:
    """At most `limit` + 1 entries of staged objects behind `after` and not behind `horizon`, rolled up like the store's."""
    found: dict[str, Entry] = {}
    position = after
    bound = None if horizon is None else horizon.encode()
    while len(found) <= limit:
        key = next(look.keys(prefix, position), None)
        if key is None:
            break
        position = key
        common = rolled_up(key, prefix, delimiter)
        shown = key if common is None else common
        if bound is not None and shown.encode() > bound:
            break
        staged = look.visible(key)
        info = staged_info(staged) if staged is not None else None
        if info is None or shown.encode() <= after.encode():
            continue
        if common is None:
            found[key] = info
        else:
            found[common] = CommonPrefix(common)
            position = common + _LAST
    return found


async def _survives(inner: Store, look: Look, common: str) -> bool:
    """Whether anything that the store has below a common prefix is not about to be removed."""
    if next(look.keys(common, ""), None) is None:
        return True
    after: str | None = ""
    while after is not None:
        page = await inner.list(common, after=after)
        for entry in page.entries:
            staged = look.visible(entry.key)
            if staged is None or isinstance(staged.entry, Put):
                return True
        after = page.after
    return False


def _key_bytes(entry: Entry) -> bytes:
    return entry.key.encode()
