"""An open file: one version of one object, read by position.

Reads of bytes whose segment files are at hand are a `preadv` in the caller's thread. Others go
through the bridge; a reader that goes forward is read ahead for.
"""

from __future__ import annotations

import bisect
import concurrent.futures
import io
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from headrace import bridge
from headrace.gateways.fsspec import Placed
from headrace.model.errors import Unavailable
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.model.reading import FileSlice

BUFFER_BYTES = 64 * 1024
_WINDOW_BYTES = 4 * 1024 * 1024
_FIRST_AHEAD_BYTES = 1024 * 1024
_MOST_AHEAD_BYTES = 8 * 1024 * 1024
_MOST_HELD = 128
_MOST_TAKEN = 64
_TRIES = 3


class Source(Protocol):
    """Where an open file gets what it does not hold."""

    def fetch(
        self, path: str, want: ByteRange, *, version: Version, window: ByteRange | None
    ) -> Coroutine[Any, Any, tuple[Placed, ...]]: ...


@dataclass(slots=True)
class _Held:
    """A slice in use, with what its file looked like when it was handed over."""

    start: int
    end: int
    shift: int
    fd: int
    until: float
    state: tuple[int, int, int]
    owner: FileSlice


@dataclass(frozen=True, slots=True)
class _Coming:
    """A stretch that is being fetched ahead, by the process `pid`: a forked child must not wait for it."""

    stretch: ByteRange
    future: concurrent.futures.Future[tuple[Placed, ...]]
    pid: int

    def covers(self, position: int) -> bool:
        return self.stretch.start <= position < self.stretch.end and self.pid == os.getpid()

    def drop(self) -> None:
        if self.pid == os.getpid():
            self.future.cancel()


def _file_state(fd: int) -> tuple[int, int, int]:
    stat = os.fstat(fd)
    return stat.st_ctime_ns, stat.st_size, stat.st_nlink


class _Slices:
    """The slices that one open file holds, by position; bounded, the oldest go first."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._held: list[_Held] = []
        self._order: list[_Held] = []

    def add(self, placed: Placed, piece: FileSlice) -> None:
        held = _Held(placed.start, placed.end, piece.offset - placed.start, piece.fd, piece.until, _file_state(piece.fd), piece)
        # whatever begins inside the new one would hide the rest of it from `find`
        first, last = bisect.bisect_left(self._starts, held.start), bisect.bisect_left(self._starts, held.end)
        for hiding in self._held[first:last]:
            self._order.remove(hiding)
        self._starts[first:last] = [held.start]
        self._held[first:last] = [held]
        self._order.append(held)
        if len(self._order) > _MOST_HELD:
            self.drop(self._order[0])

    def find(self, position: int) -> _Held | None:
        at = bisect.bisect_right(self._starts, position) - 1
        if at < 0 or self._held[at].end <= position:
            return None
        return self._held[at]

    def drop(self, held: _Held) -> None:
        if held in self._order:
            self._order.remove(held)
            at = bisect.bisect_left(self._starts, held.start)
            del self._starts[at], self._held[at]

    def clear(self) -> None:
        self._starts.clear()
        self._held.clear()
        self._order.clear()


class ObjectReader(io.RawIOBase):
    """Unbuffered reads of `info.version`. Raises `VersionChanged` rather than mix in another version's bytes.

    Positions are kept per reader: threads that share one go through `HeadraceFile`, which locks.
    """

    def __init__(self, source: Source, path: str, info: ObjectInfo, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.info = info
        self.path = path
        self.source = source
        self._size = info.size
        self._position = 0
        self._monotonic = monotonic
        self._slices = _Slices()
        self._last: _Held | None = None
        self._expected = -1
        self._ahead: tuple[Placed, ...] = ()
        self._coming: _Coming | None = None
        self._ahead_bytes = _FIRST_AHEAD_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._size
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        if offset < 0:
            raise ValueError(f"seek to {offset}, before the start of the file")
        self._position = offset
        return offset

    def readinto(self, target: Any) -> int:
        position = self._position
        held = self._last
        # what most reads are, in as few steps as can be: all of it in the slice that the last read came from
        if held is not None and held.start <= position and type(target) is memoryview and position + len(target) <= held.end:
            done = self._from_file(target, position)
            if done:
                self._position = self._expected = position + done
                return done
        view = memoryview(target)
        if self.closed:
            raise ValueError("I/O operation on closed file")
        length = min(len(view), self._size - position)
        if length <= 0:
            return 0
        if length < len(view):
            view = view[:length]
        done = self._from_file(view, position) or self._from_elsewhere(view, position)
        self._position = self._expected = position + done
        return done

    def readall(self) -> bytes:
        left = self._size - self._position
        if left <= 0:
            return b""
        whole = io.BytesIO(bytes(left))
        with whole.getbuffer() as view:
            done = 0
            while done < left:
                done += self.readinto(view[done:])
        return whole.getvalue()

    def close(self) -> None:
        if not self.closed:
            self._slices.clear()
            self._last = None
            self._ahead = ()
            if self._coming is not None:
                self._coming.drop()
                self._coming = None
        super().close()

    def _from_file(self, view: memoryview, position: int) -> int:
        held = self._last
        if held is None or position < held.start or position >= held.end:
            held = self._last = self._slices.find(position)
            if held is None:
                return 0
        if held.until > self._monotonic() and _file_state(held.fd) == held.state:
            room = held.end - position
            done = os.preadv(held.fd, [view if len(view) <= room else view[:room]], position + held.shift)
            if done > 0:
                return done
        self._slices.drop(held)
        self._last = None
        return 0

    def _from_elsewhere(self, view: memoryview, position: int) -> int:
        for _ in range(_TRIES):
            done = self._from_ahead(view, position)
            if done:
                return done
            forward = position == self._expected
            self._take(self._fetch(position, len(view), forward), position)
            done = self._from_file(view, position)
            if done:
                return done
        raise Unavailable(
            f"{self.path}: its pages are dropped faster than they can be read; see `headrace status`", path=self.path
        )

    def _from_ahead(self, view: memoryview, position: int) -> int:
        for placed in self._ahead:
            if placed.start <= position < placed.end and not isinstance(placed.piece, FileSlice):
                done = min(len(view), placed.end - position)
                begin = position - placed.start
                view[:done] = memoryview(placed.piece)[begin : begin + done]
                return done
        return 0

    def _fetch(self, position: int, length: int, forward: bool) -> tuple[Placed, ...]:
        coming, self._coming = self._coming, None
        if coming is not None:
            if coming.covers(position):
                placed = coming.future.result()
                self._look_ahead(placed)
                return placed
            coming.drop()
        if not forward:
            self._ahead_bytes = _FIRST_AHEAD_BYTES
        end = min(self._size, position + max(length, self._ahead_bytes if forward else 0))
        placed = bridge.run(self._work(ByteRange(position, end)))
        if forward:
            self._look_ahead(placed)
        return placed

    def _look_ahead(self, placed: tuple[Placed, ...]) -> None:
        """After a forward read that had to be fetched: fetch the next, larger stretch while this one is consumed."""
        start = placed[-1].end
        if start >= self._size or isinstance(placed[-1].piece, FileSlice):
            return
        self._ahead_bytes = min(self._ahead_bytes * 2, _MOST_AHEAD_BYTES)
        stretch = ByteRange(start, min(self._size, start + self._ahead_bytes))
        self._coming = _Coming(stretch, bridge.submit(self._work(stretch)), os.getpid())

    def _work(self, want: ByteRange) -> Coroutine[Any, Any, tuple[Placed, ...]]:
        begin = want.start - want.start % _WINDOW_BYTES
        window = ByteRange(begin, min(self._size, max(want.end, begin + _WINDOW_BYTES)))
        return self.source.fetch(self.path, want, version=self.info.version, window=window)

    def _take(self, placed: tuple[Placed, ...], position: int) -> None:
        kept = [one for one in placed if one.end > position][:_MOST_TAKEN]
        for one in kept:
            if isinstance(one.piece, FileSlice):
                self._slices.add(one, one.piece)
        buffers = tuple(one for one in placed if not isinstance(one.piece, FileSlice))
        if buffers:
            self._ahead = buffers


class HeadraceFile(io.BufferedReader):
    """A buffered file opened for reading, with what fsspec's own files offer. Threads may share it; it can be pickled."""

    mode = "rb"

    def __init__(self, reader: ObjectReader, *, buffer_bytes: int = BUFFER_BYTES) -> None:
        super().__init__(reader, buffer_bytes)
        self.reader = reader
        self.path = reader.path
        self.size = reader.info.size
        self.blocksize = buffer_bytes

    @property
    def version(self) -> Version:
        """The version whose bytes are read for as long as the file is open."""
        return self.reader.info.version

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.reader.source, self.path, self.reader.info, self.tell(), self.blocksize)


def _reopen(source: Source, path: str, info: ObjectInfo, position: int, buffer_bytes: int) -> HeadraceFile:
    opened = HeadraceFile(ObjectReader(source, path, info), buffer_bytes=buffer_bytes)
    opened.seek(position)
    return opened
