"""Copies, removals and directories for Python callers, in calls of the namespace. Paths as in `gateways/fsspec.py`."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from headrace.gateways.fsspec import below, object_at, split, stat
from headrace.gateways.writing import check_object_path
from headrace.model.errors import AccessDenied, BucketNotEmpty, HeadraceError, NotFound, Unsupported, VersionChanged
from headrace.model.objects import ObjectInfo, with_key
from headrace.model.writing import ALWAYS, BytesBody, Condition, attributes_of
from headrace.namespace.buckets import NamespaceBuckets
from headrace.namespace.namespace import Namespace

_REMOVED_AT_ONCE = 32
_MOVED_AT_ONCE = 16

Removal = Coroutine[Any, Any, None]


async def copy(namespace: Namespace, source: str, target: str, *, condition: Condition = ALWAYS) -> tuple[ObjectInfo, ObjectInfo]:
    """The object at `source` at `target`, too: what it was, and what was made of it.

    Raises `NotFound`, `IsADirectoryError`, `VersionChanged`, and as `Store.copy`.
    """
    check_object_path(target)
    info = await object_at(namespace, source)
    return info, await namespace.copy(info, "/" + target, condition=condition)


async def remove_versions(namespace: Namespace, objects: Sequence[ObjectInfo]) -> None:
    """Remove what `objects` describe by their paths, as long as it is still that. Raises the first error when all were tried."""

    async def all_of_them() -> AsyncIterator[Removal]:
        for info in objects:
            yield _remove_version(namespace, info)

    await _remove_each(all_of_them())


async def _remove_version(namespace: Namespace, info: ObjectInfo) -> None:
    try:
        await namespace.delete(info.key, condition=Condition(if_match=info.etag))
    except NotFound:
        return
    except Unsupported:
        # The store compares nothing as it removes, so it is asked just before.
        now = await namespace.info(info.key)
        if now.version != info.version:
            raise VersionChanged(f"{info.key} was changed meanwhile: it was not removed", path=info.key) from None
        await namespace.delete(info.key)


async def remove(namespace: Namespace, path: str) -> None:
    """Remove the object at `path`. Raises `NotFound`, and `IsADirectoryError` where there is only a directory."""
    await object_at(namespace, path)
    await namespace.delete("/" + path)


async def remove_all(namespace: Namespace, paths: Sequence[str]) -> None:
    """`remove` each. Raises the first error when all were tried."""

    async def each() -> AsyncIterator[Removal]:
        for path in paths:
            yield remove(namespace, path)

    await _remove_each(each())


async def remove_below(namespace: Namespace, path: str) -> int:
    """Remove the object at `path` and all below it; how many that were. The bucket goes, too, unless a mount makes it.

    Raises `NotFound`, and the first error when everything was tried; `ValueError` for the root.
    """
    bucket, key = split(path)
    if not bucket:
        raise ValueError("everything in every mount would be removed: name a bucket")

    async def found() -> AsyncIterator[Removal]:
        if key:
            with suppress(NotFound):
                await namespace.info("/" + path)
                yield namespace.delete("/" + path)
        async for node in below(namespace, path):
            yield namespace.delete("/" + node.path)

    count = await _remove_each(found())
    if key and not count:
        raise NotFound(f"there is no {path}: `headrace ls` shows what there is", path=path)
    if not key:
        with suppress(AccessDenied, Unsupported):  # a mount's own bucket stays, empty
            await NamespaceBuckets(namespace).delete(bucket)
    return count


async def move_below(namespace: Namespace, source: str, target: str, *, most: int | None = None) -> None:
    """Move every object below the directory `source`, marks of directories too, to below `target`, within one mount.

    Each by itself: copied first, removed when all are there, so what breaks it off leaves no object nowhere. Raises
    `Unsupported`, with nothing done, when there are more than `most`; and what copying and removing raise.
    """
    moved: list[ObjectInfo] = []
    async for node in below(namespace, source):
        if node.info is not None:
            moved.append(with_key(node.info, "/" + node.path))
            if most is not None and len(moved) > most:
                raise Unsupported(f"/{source} holds more than {most} objects: move what is in it bit by bit", path=source)
    copying: set[asyncio.Task[ObjectInfo]] = set()
    try:
        for info in moved:
            if len(copying) >= _MOVED_AT_ONCE:
                ended, copying = await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
            path = f"/{target}{info.key.removeprefix('/')[len(source) :]}"
            copying.add(asyncio.ensure_future(_copy_below(namespace, info, path)))
        await asyncio.gather(*copying)
    finally:
        for task in copying:
            task.cancel()
    await remove_versions(namespace, [info for info in moved if not _marks_directory(info)])
    for info in sorted(filter(_marks_directory, moved), key=lambda info: info.key, reverse=True):
        with suppress(NotFound):
            await namespace.delete(info.key)


def _marks_directory(info: ObjectInfo) -> bool:
    return info.key.endswith("/") and not info.size


async def _copy_below(namespace: Namespace, info: ObjectInfo, path: str) -> ObjectInfo:
    if not _marks_directory(info):
        return await namespace.copy(info, path)
    # Not copied: to some stores it is no object but a directory of theirs.
    return await namespace.write(path, BytesBody(b""), attributes_of(info, ()))


async def _remove_each(removals: AsyncIterator[Removal]) -> int:
    failures: list[Exception] = []
    running: set[asyncio.Task[None]] = set()
    count = 0

    async def one(removing: Removal) -> None:
        try:
            await removing
        except (HeadraceError, OSError) as error:
            failures.append(error)

    try:
        async for removing in removals:
            count += 1
            running.add(asyncio.ensure_future(one(removing)))
            if len(running) >= _REMOVED_AT_ONCE:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
    if failures:
        failures[0].add_note(f"{len(failures)} of {count} objects were not removed")
        raise failures[0]
    return count


async def make_directory(namespace: Namespace, path: str, *, parents: bool = True, exist_ok: bool = False) -> None:
    """Make the bucket of `path` where it is missing; below a bucket, directories are there as soon as they hold something.

    Raises `FileExistsError` for a bucket that is there, `NotFound` for a missing one without `parents`, `AccessDenied`.
    """
    bucket, key = split(path)
    if not bucket:
        raise FileExistsError("/ is there already")
    if await NamespaceBuckets(namespace).has(bucket):
        if not key and not exist_ok:
            raise FileExistsError(f"/{bucket} is there already")
        return
    if key and not parents:
        raise NotFound(f"there is no /{bucket}: make it first", path=bucket)
    await NamespaceBuckets(namespace).create(bucket)


async def remove_directory(namespace: Namespace, path: str) -> None:
    """Remove an empty bucket, or what only marks a directory. Raises `NotFound`, and `OSError` for one that holds something."""
    bucket, key = split(path)
    if not key:
        try:
            await NamespaceBuckets(namespace).delete(bucket)
        except BucketNotEmpty as error:
            raise OSError(errno.ENOTEMPTY, "the bucket holds something: remove that first, or use rm", path) from error
        return
    page = await namespace.list("/" + bucket, key + "/", limit=2)
    marker = f"{key}/"
    if any(entry.key != marker for entry in page.entries):
        raise OSError(errno.ENOTEMPTY, "the directory holds something: use rm with recursive=True", path)
    if page.entries:
        await namespace.delete(f"/{bucket}/{marker}")
        return
    if (await stat(namespace, path)).info is not None:
        raise NotADirectoryError(f"{path} is an object: use rm")
