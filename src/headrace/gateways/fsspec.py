"""What fsspec asks, in calls of the namespace: directories on flat keys, ranges of one version, open files.

A path here is fsspec's: `bucket/key` without a slash in front, `` for the root. A directory is
whatever has keys below it; a key that ends with a slash only marks its directory.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from headrace.model.errors import CorruptData, HeadraceError, InvalidRange, NotFound, VersionChanged
from headrace.model.objects import ByteRange, CommonPrefix, ObjectInfo, Version
from headrace.model.reading import Buffer, FileSlice, Piece, Reading
from headrace.namespace.buckets import NamespaceBuckets
from headrace.namespace.namespace import Namespace
from headrace.stores.keys import PAGE_KEYS

END = 2**63 - 1
"""As the end of a range: the object's own."""

_MERGE_GAP_BYTES = 64 * 1024
_MERGED_BYTES = 8 * 1024 * 1024
_RANGES_AT_ONCE = 16
_INLINE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Node:
    """A file or directory at `path`. `info` is None for a directory."""

    path: str
    info: ObjectInfo | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A piece and where in its object it begins."""

    start: int
    piece: Piece

    @property
    def end(self) -> int:
        return self.start + (self.piece.length if isinstance(self.piece, FileSlice) else len(self.piece))


def split(path: str) -> tuple[str, str]:
    """`bucket/key` as (`bucket`, `key`)."""
    bucket, _, key = path.partition("/")
    return bucket, key


async def stat(namespace: Namespace, path: str) -> Node:
    """What is at `path`. An object hides a directory of the same name. Raises `NotFound`."""
    bucket, key = split(path)
    if not bucket:
        return Node("")
    if not key:
        if await NamespaceBuckets(namespace).has(bucket):
            return Node(bucket)
        raise NotFound(f"nothing is to be had at /{bucket}: `headrace mount ls` shows what is mounted, and how it is", path=path)
    try:
        return Node(path, await namespace.info("/" + path))
    except NotFound:
        below = await namespace.list("/" + bucket, key + "/", limit=1)
        if below.entries:
            return Node(path)
        raise


async def object_at(namespace: Namespace, path: str) -> ObjectInfo:
    """The object at `path`. Raises `NotFound`, and `IsADirectoryError` where there is only a directory."""
    node = await stat(namespace, path)
    if node.info is None:
        raise IsADirectoryError(f"{path} is a directory")
    return node.info


async def children(namespace: Namespace, path: str) -> list[Node]:
    """What lies directly below the directory `path`, or the file itself, sorted by path. Raises `NotFound`."""
    bucket, key = split(path)
    root, prefix = ("/" + bucket, f"{key}/" if key else "") if bucket else ("/", "")
    base = f"{bucket}/" if bucket else ""
    found: list[Node] = []
    marked = False
    after: str | None = ""
    while after is not None:
        page = await namespace.list(root, prefix, delimiter="/", after=after, limit=PAGE_KEYS)
        for entry in page.entries:
            if isinstance(entry, CommonPrefix):
                found.append(Node(base + entry.key.removesuffix("/")))
            elif entry.key == prefix:
                marked = True
            else:
                found.append(Node(base + entry.key, entry))
        after = page.after
    if found or marked:
        return sorted(found, key=lambda node: node.path)
    node = await stat(namespace, path)
    return [node] if node.info is not None else []


async def below(namespace: Namespace, path: str, name_prefix: str = "") -> AsyncIterator[Node]:
    """Every file below the directory `path` whose path within it begins with `name_prefix`, sorted by key."""
    bucket, key = split(path)
    root = "/" + bucket
    base = f"{bucket}/" if bucket else ""
    prefix = (f"{key}/" if key else "") + name_prefix
    after: str | None = ""
    while after is not None:
        page = await namespace.list(root, prefix, after=after, limit=PAGE_KEYS)
        for entry in page.entries:
            if isinstance(entry, ObjectInfo):
                yield Node(base + entry.key, entry)
        after = page.after


async def tree(namespace: Namespace, path: str, *, folders: bool, name_prefix: str = "") -> list[Node]:
    """Every file below `path` (with `folders`, every directory too), or the file itself, sorted by path."""
    files: dict[str, Node] = {}
    seen: set[str] = set()
    async for node in below(namespace, path, name_prefix):
        cut = node.path.rfind("/", len(path) + 1)
        while folders and cut > 0 and node.path[:cut] not in seen:
            seen.add(node.path[:cut])
            cut = node.path.rfind("/", len(path) + 1, cut)
        if not node.path.endswith("/"):
            files[node.path] = node
    if not files and not seen and not name_prefix:
        try:
            alone = await stat(namespace, path)
        except NotFound:
            return []
        return [alone] if alone.info is not None or folders else []
    if folders and path:
        seen.add(path)
    files.update({name: Node(name) for name in seen})
    return [files[name] for name in sorted(files)]


async def fetch(
    namespace: Namespace, path: str, want: ByteRange, *, version: Version, window: ByteRange | None = None
) -> tuple[Placed, ...]:
    """Bytes of `version` that cover `want`: as many open files around it as are at hand within `window`, else `want`.

    Raises `VersionChanged` when the object is another by now.
    """
    if window is not None:
        wide = _peek(namespace, path, window, version)
        if wide is not None:
            return wide
    reading = await namespace.read("/" + path, want, version=version)
    if reading.info.version != version:
        await reading.aclose()
        raise VersionChanged(f"{path} was changed while it was open: open it again", path=path)
    placed = await _placed(reading)
    if window is not None and isinstance(placed[0].piece, FileSlice):
        return _peek(namespace, path, window, version) or placed
    return placed


def _peek(namespace: Namespace, path: str, window: ByteRange, version: Version) -> tuple[Placed, ...] | None:
    try:
        reading = namespace.peek("/" + path, window)
    except HeadraceError:
        return None
    if reading is None or reading.ready is None or reading.info.version != version:
        return None
    if not all(isinstance(piece, FileSlice) for piece in reading.ready):
        return None
    return _place(reading.range.start, reading.ready)


async def _placed(reading: Reading) -> tuple[Placed, ...]:
    if reading.ready is not None:
        return _place(reading.range.start, reading.ready)
    return (Placed(reading.range.start, await _drain(reading)),)


def _place(start: int, pieces: Sequence[Piece]) -> tuple[Placed, ...]:
    placed = []
    for piece in pieces:
        placed.append(Placed(start, piece))
        start = placed[-1].end
    return tuple(placed)


async def _drain(reading: Reading) -> bytes:
    parts: list[Buffer] = []
    try:
        async for part in reading:
            parts.append(part)  # noqa: PERF401 (a comprehension could not be left half way through)
    finally:
        await reading.aclose()
    return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)


def slice_bytes(piece: FileSlice, offset: int, length: int) -> bytes:
    """`length` bytes at `offset` of a slice; fewer only when its file was damaged. Blocks on the disk."""
    return os.pread(piece.fd, length, piece.offset + offset)


async def body(reading: Reading) -> bytes:
    """All bytes of a reading, whichever way it carries them."""
    if reading.ready is None:
        return await _drain(reading)
    if reading.range.length > _INLINE_BYTES:
        whole = await asyncio.to_thread(_join, reading.ready)
    else:
        whole = _join(reading.ready)
    if len(whole) == reading.range.length:
        return whole
    raise VersionChanged(f"{reading.info.key}: its pages were dropped while they were read; read again", path=reading.info.key)


def _join(pieces: Sequence[Piece]) -> bytes:
    parts = [slice_bytes(piece, 0, piece.length) if isinstance(piece, FileSlice) else piece for piece in pieces]
    return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)


async def read_range(
    namespace: Namespace, path: str, start: int | None, end: int | None, *, version: Version | None = None
) -> tuple[ObjectInfo, bytes]:
    """Bytes `start` to `end` of the object as it is now, as Python slices count: negative ones from the end."""
    if (start or 0) < 0 or (end or 0) < 0:
        info = await namespace.info("/" + path)
        first, last, _ = slice(start, end).indices(info.size)
        start, end, version = first, last, version or info.version
    first = start or 0
    if end is not None and end <= first:
        return await namespace.info("/" + path), b""
    wanted = None if not first and end in (None, END) else ByteRange(first, end if end is not None else END)
    try:
        reading = namespace.peek("/" + path, wanted) if version is None else None
        if reading is None or reading.ready is None:
            reading = await namespace.read("/" + path, wanted, version=version)
    except InvalidRange:
        return await namespace.info("/" + path), b""
    return reading.info, await body(reading)


async def copy_out(namespace: Namespace, path: str, target: Path, progress: Callable[[int], None]) -> None:
    """The object as the local file `target`, which appears whole or not at all. `progress` is told of bytes written."""
    reading = await namespace.read("/" + path)
    aside = target.with_name(f".{target.name[:64]}.{uuid.uuid4().hex[:8]}.part")
    try:
        with aside.open("wb") as out:
            if reading.ready is not None:
                for piece in reading.ready:
                    progress(await asyncio.to_thread(_write_piece, piece, out))
            else:
                async for part in reading:
                    progress(await asyncio.to_thread(_write_piece, part, out))
            written = out.tell()
        if written != reading.range.length:
            raise CorruptData(f"{path}: {written} bytes of {reading.range.length} came; copy it again", path=path)
        await asyncio.to_thread(aside.replace, target)
    finally:
        aside.unlink(missing_ok=True)
        await reading.aclose()


def _write_piece(piece: Piece, out: BinaryIO) -> int:
    if not isinstance(piece, FileSlice):
        return out.write(piece)
    done = 0
    while done < piece.length:
        data = slice_bytes(piece, done, min(_INLINE_BYTES, piece.length - done))
        if not data:
            break
        done += out.write(data)
    return done


@dataclass(frozen=True, slots=True)
class Span:
    """One of many ranges that a caller wants; `index` is its place in the caller's list."""

    index: int
    start: int
    end: int


def merge_spans(spans: Sequence[Span]) -> list[tuple[ByteRange, list[Span]]]:
    """Neighbouring spans joined into the ranges that are worth one request each. Pure."""
    merged: list[tuple[ByteRange, list[Span]]] = []
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        if merged:
            last, members = merged[-1]
            joined = ByteRange(last.start, max(last.end, span.end))
            if span.start - last.end <= _MERGE_GAP_BYTES and joined.length <= _MERGED_BYTES:
                merged[-1] = (joined, [*members, span])
                continue
        merged.append((ByteRange(span.start, span.end), [span]))
    return merged


async def read_spans(namespace: Namespace, path: str, spans: Sequence[Span]) -> dict[int, bytes]:
    """Many ranges of one object, all of one version, by `Span.index`. Ranges are cut at the object's end."""
    groups = merge_spans([span for span in spans if span.end > span.start])
    answer = {span.index: b"" for span in spans}
    if not groups:
        await namespace.info("/" + path)
        return answer
    info, data = await read_range(namespace, path, groups[0][0].start, groups[0][0].end)
    _deal(answer, groups[0], data)
    gate = asyncio.Semaphore(_RANGES_AT_ONCE)

    async def one(group: tuple[ByteRange, list[Span]]) -> None:
        if group[0].start >= info.size:
            return
        async with gate:
            _, data = await read_range(namespace, path, group[0].start, group[0].end, version=info.version)
        _deal(answer, group, data)

    tasks = [asyncio.ensure_future(one(group)) for group in groups[1:]]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return answer


def _deal(answer: dict[int, bytes], group: tuple[ByteRange, list[Span]], data: bytes) -> None:
    base = group[0].start
    for span in group[1]:
        answer[span.index] = data[span.start - base : span.end - base]
