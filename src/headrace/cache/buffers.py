"""Memory that fills grow in, used again: to get fresh pages from the system costs more than to put the bytes there."""

from __future__ import annotations

import asyncio
import contextlib
import mmap

_MAPPED_FROM_BYTES = 256 * 1024
_HUGE_BYTES = 4 << 20
_IDLE_S = 5.0


class Buffers:
    """Keeps at most `keep_bytes` of large buffers; all of them go when none was asked for during some seconds.

    A buffer is used again only when no view of it is left, which the interpreter itself counts: whoever still reads or sends
    the bytes of a fill keeps them, however long.
    """

    def __init__(self, *, keep_bytes: int) -> None:
        self._keep_bytes = keep_bytes
        self._kept: list[mmap.mmap] = []
        self._kept_bytes = 0
        self._idle: asyncio.TimerHandle | None = None
        self._asked_s = 0.0

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, length: int) -> memoryview:
        """Writable memory of that length, whatever lies in it."""
        if length <= _MAPPED_FROM_BYTES:
            return memoryview(bytearray(length))
        size = 1 << (length - 1).bit_length()
        loop = asyncio.get_running_loop()
        self._asked_s = loop.time()
        room = next((one for one in self._kept if len(one) == size and _unused(one)), None)
        if room is None:
            room = _mapped(size)
            if self._kept_bytes + size <= self._keep_bytes:
                self._kept.append(room)
                self._kept_bytes += size
                if self._idle is None:
                    self._idle = loop.call_later(_IDLE_S, self._look)
        return memoryview(room)[:length]

    def close(self) -> None:
        """Keep none any more."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._kept.clear()
        self._kept_bytes = 0

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        left_s = self._asked_s + _IDLE_S - loop.time()
        if left_s <= 0:
            self._idle = None
            self.close()
        else:
            self._idle = loop.call_later(left_s, self._look)


def _unused(room: mmap.mmap) -> bool:
    try:
        room.resize(len(room))  # changes nothing, and is refused while views of it are about
    except BufferError:
        return False
    return True


def _mapped(size: int) -> mmap.mmap:
    room = mmap.mmap(-1, size)
    if size >= _HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            # A buffer is written once: in small pages most of its time goes into getting each of them.
            room.madvise(mmap.MADV_HUGEPAGE)
    return room
