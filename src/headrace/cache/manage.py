"""What operators and jobs do with pages: load, free, pin, count."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec

from headrace.cache.directory import PageDirectory
from headrace.cache.fill import Fill, FillAbandoned, Source
from headrace.cache.handles import CachedObject
from headrace.cache.layout import CHUNK_PAGES, SegmentName, pin_path
from headrace.cache.pages import PageCache
from headrace.cache.pins import is_at_or_below
from headrace.cache.plan import WINDOW_CHUNKS, run_at
from headrace.cache.touches import Group
from headrace.model.objects import ObjectInfo
from headrace.stores.store import Store

_BUSY_S = 0.02
_BATCH = 256
_LOOKS = 2


class Freed(msgspec.Struct, frozen=True):
    """What was removed from the tiers."""

    objects: int
    bytes: int


class Loaded(msgspec.Struct, frozen=True):
    """What a load did for one object."""

    bytes_fetched: int
    bytes_present: int


async def load(pages: PageCache, target: CachedObject, source: Source, *, mount: str) -> Loaded:
    """Fill every absent page, a window of chunks at a time. Raises what the store raises."""
    geometry, total = target.geometry, target.geometry.pages(target.size)
    held: list[Fill] = []
    fetched = present = page = 0
    try:
        while page < total or held:
            if held and (len(held) >= WINDOW_CHUNKS or page >= total):
                fetched += await _finished(held[0])
                held.pop(0).release()
                continue
            there = min(pages.holds(target, page), total - page)
            if there:
                present += min((page + there) * geometry.page, target.size) - page * geometry.page
                page += there
                continue
            fill = pages.fills.find(target.object_id, page) or _begin(pages, target, source, page, mount)
            if fill is None:
                await asyncio.sleep(_BUSY_S)
                continue
            fill.hold()
            held.append(fill)
            page = fill.run.last
    finally:
        for fill in held:
            fill.release()
    return Loaded(fetched, present)


def _begin(pages: PageCache, target: CachedObject, source: Source, page: int, mount: str) -> Fill | None:
    last = min(target.geometry.pages(target.size), page - page % CHUNK_PAGES + CHUNK_PAGES)
    there = [False] + [bool(pages.holds(target, other)) for other in range(page + 1, last)]
    run = run_at(target.geometry, target.size, page, last, there)
    return pages.fills.start(target, run, source, mount=mount) if run is not None else None


async def _finished(fill: Fill) -> int:
    """The fill's length once it is over. Raises its error."""
    while not fill.over:
        await fill.changed()
    if fill.error is not None and not isinstance(fill.error, FillAbandoned):
        raise fill.error
    return fill.end - fill.start


async def free_mount(pages: PageCache, tag: bytes, group: Group) -> Freed:
    """Remove every page of a mount, of all versions. Raises `OSError`."""
    objects: set[bytes] = set()
    freed = 0
    for directory in pages.directories:
        # Once more after the first time: what was being merged had its old names, or its new one. What is filled anew may stay.
        for _ in range(_LOOKS):
            names = await directory.run(partial(directory.segments_of_mount, tag))
            for start in range(0, len(names), _BATCH):
                freed += await directory.run(partial(_remove, directory, names[start : start + _BATCH], group))
            pages.forget(names)
            objects.update(name.object_id for name in names)
    freed += pages.drop_mount_in_memory(tag) * pages.geometry.page
    return Freed(len(objects), freed)


def _remove(directory: PageDirectory, names: list[SegmentName], group: Group) -> int:
    freed = 0
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            size = directory.disk.stat(f"{directory.root}/{name.path}").st_size
            directory.remove(name, group)
            freed += size
    return freed


async def free_prefix(inner: Store, pages: PageCache, prefix: str, target_of: Callable[[ObjectInfo], CachedObject]) -> Freed:
    """Remove the pages of the current versions below a prefix. Raises what listing raises, and `OSError`."""
    objects = freed = 0
    async for info in _below(inner, prefix):
        target = target_of(info)
        if target.directory is None:
            removed, size = pages.drop(target, "freed")
        else:
            removed, size = await target.directory.run(partial(pages.drop, target, "freed"))
        objects += removed > 0
        freed += size
    return Freed(objects, freed)


async def mark_pins(inner: Store, prefix: str, target_of: Callable[[ObjectInfo], CachedObject], *, on: bool) -> None:
    """Put the mark on (or take it off) every object below the prefix that has pages. Raises what listing raises."""
    async for info in _below(inner, prefix):
        target = target_of(info)
        if target.directory is not None:
            await target.directory.run(partial(_mark, target.directory, target.object_id, on=on))


def _mark(directory: PageDirectory, object_id: bytes, *, on: bool) -> None:
    path = f"{directory.root}/{pin_path(object_id)}"
    if not on:
        with contextlib.suppress(FileNotFoundError):
            directory.disk.unlink(path)
    elif directory.segments(object_id):
        directory.disk.close(directory.disk.open(path, os.O_WRONLY | os.O_CREAT))


async def cached_bytes(target: CachedObject) -> int:
    """Bytes of one version that are in segments, each counted once. Raises `OSError`."""
    directory = target.directory
    if directory is None:
        return 0
    names = await directory.run(partial(directory.segments, target.object_id))
    extents = sorted(target.geometry.extent(name, target.size) for name in names)
    counted = reached = 0
    for start, end in extents:
        counted += max(0, end - max(start, reached))
        reached = max(reached, end)
    return counted


async def _below(inner: Store, prefix: str) -> AsyncIterator[ObjectInfo]:
    after: str | None = ""
    while after is not None:
        page = await inner.list(prefix, after=after)
        for entry in page.entries:
            if isinstance(entry, ObjectInfo) and is_at_or_below(entry.key, prefix):
                yield entry
        after = page.after
