"""The way past the transport: a duplicate of a connection's socket, for slices of files (uvloop has no `sendfile` of its own).

Long slices are copied through one buffer that stays in the processor's cache, or straight out of a mapping: that costs no
more than `sendfile` does for so many pages, and a client on the same machine then finds the bytes in the cache too.

What the kernel takes from us beyond what it could send is bounded. Each client that asks for much and reads nothing would
hold megabytes of kernel memory otherwise, and filling them holds up everybody else's answers. A client that takes all of
it at once is offered more: it goes to sleep, and has to be woken, for every piece otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import socket
import struct
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import cast

from headrace.gateways.http.windows import Windows
from headrace.model.reading import FileSlice, Piece

UNSENT_BYTES = 256 * 1024
"""What the kernel takes from us before the client's window lets it out."""

_WIDE_BYTES = 1024 * 1024
_WIDE_MAX = 64
_BRISK_BYTES_PER_S = 32 * 1024 * 1024
_SHORT_BYTES = 256 * 1024
_LONG_BYTES = 2 * 1024 * 1024
_SCRATCH_BYTES = 1024 * 1024
_STEP_MIN_BYTES = 64 * 1024


def bound_unsent(sock: socket.socket, most: int = UNSENT_BYTES) -> None:
    """Bound what the kernel takes. What a listening socket accepts inherits it. Raises `OSError`."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most)


def slices_ahead(pieces: Sequence[Piece]) -> tuple[FileSlice, ...]:
    """The slices that come before any other piece."""
    return tuple(cast("FileSlice", piece) for piece in takewhile(lambda piece: isinstance(piece, FileSlice), pieces))


class Outlets:
    """What the outlets of one loop share: a buffer, mappings, and how many outlets are wide."""

    __slots__ = ("scratch", "wide", "windows")

    def __init__(self) -> None:
        # Aligned to pages, where the kernel reads at full speed.
        self.scratch = memoryview(mmap.mmap(-1, _SCRATCH_BYTES))
        self.windows = Windows()
        self.wide = 0


class Outlet:
    """One duplicate. `writable` is called once after `watch`, when the client has taken bytes."""

    __slots__ = ("_loop", "_shared", "_sock", "_step", "_wide", "_writable", "watched_s", "watching")

    def __init__(
        self, original: socket.socket, loop: asyncio.AbstractEventLoop, shared: Outlets, writable: Callable[[], None]
    ) -> None:
        self._sock = socket.socket(fileno=os.dup(original.fileno()))
        self._sock.setblocking(False)
        self._loop = loop
        self._shared = shared
        self._writable = writable
        self._step = _SCRATCH_BYTES
        self._wide = False
        self.watching = False
        self.watched_s = 0.0

    def send(self, data: bytes) -> int:
        """How many of the bytes, behind which slices follow, the socket took. Raises `OSError`."""
        try:
            return self._sock.send(data, socket.MSG_MORE)
        except BlockingIOError:
            return 0

    def send_slices(self, slices: Sequence[FileSlice], done: int, most: int) -> tuple[int, bool]:
        """How many bytes of the slices, from `done` of the first on, the socket took, and whether it may take more at once.

        Raises `OSError`, also when a file is shorter than its slice.
        """
        piece = slices[0]
        left = min(piece.length - done, most)
        try:
            if piece.length < _SHORT_BYTES and len(slices) > 1:
                return self._send_gathered(slices, done, most)
            if piece.length >= _SHORT_BYTES:
                mapped = self._shared.windows.view(piece, piece.offset + done, min(left, _SCRATCH_BYTES), self._loop.time())
                if mapped is not None:
                    return self._send_mapped(piece, mapped, piece.offset + done)
            return self._send_long(piece, done, left) if piece.length >= _LONG_BYTES else self._send_file(piece, done, left)
        except BlockingIOError:
            return 0, False

    def watch(self) -> None:
        """Have `writable` called when the client has taken bytes."""
        if not self.watching:
            self.watching = True
            self.watched_s = self._loop.time()
            self._loop.add_writer(self._sock.fileno(), self._took)

    def unwatch(self) -> None:
        if self.watching:
            self.watching = False
            self._loop.remove_writer(self._sock.fileno())

    def close(self) -> None:
        self.unwatch()
        self._shared.wide -= self._wide
        self._wide = False
        self._sock.close()

    def reset_on_close(self) -> None:
        """Let the kernel throw away what it still holds, so that the client learns of the cut at once."""
        with contextlib.suppress(OSError):  # the connection is gone already
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send_gathered(self, slices: Sequence[FileSlice], done: int, most: int) -> tuple[int, bool]:
        """Short slices in a row by one call: a client that is woken for each falls asleep between them."""
        room, offset = min(most, self._step), done
        buffer, filled = self._shared.scratch, 0
        for piece in slices:
            wanted = min(piece.length - offset, room - filled)
            try:
                count = os.preadv(piece.fd, (buffer[filled : filled + wanted],), piece.offset + offset, os.RWF_NOWAIT)
            except BlockingIOError:
                count = 0
            filled, offset = filled + count, 0
            if count < wanted or filled == room:
                break
        if not filled:
            return self._send_file(slices[0], done, min(slices[0].length - done, most))
        sent = self._sock.send(buffer[:filled])
        self._step = min(_SCRATCH_BYTES, max(_STEP_MIN_BYTES, 2 * sent))
        return sent, sent == filled

    def _send_mapped(self, piece: FileSlice, mapped: memoryview, offset: int) -> tuple[int, bool]:
        sent = self._sock.send(mapped)
        if os.fstat(piece.fd).st_size < offset + sent:
            raise OSError("a file was cut while it was sent")
        return sent, sent == len(mapped)

    def _send_long(self, piece: FileSlice, done: int, most: int) -> tuple[int, bool]:
        offset = piece.offset + done
        buffer = self._shared.scratch[: min(most, self._step)]
        count = -1
        with contextlib.suppress(BlockingIOError):  # not in memory any more: let the kernel read ahead and send
            count = os.preadv(piece.fd, (buffer,), offset, os.RWF_NOWAIT)
        if count <= 0:
            return self._send_file(piece, done, most)
        sent = self._sock.send(buffer[:count])
        # What a slow client leaves must be read again: offer it no more than twice what it took.
        self._step = min(_SCRATCH_BYTES, max(_STEP_MIN_BYTES, 2 * sent))
        return sent, sent == count

    def _send_file(self, piece: FileSlice, done: int, most: int) -> tuple[int, bool]:
        sent = os.sendfile(self._sock.fileno(), piece.fd, piece.offset + done, most)
        if not sent:
            raise OSError("a file was cut while it was sent")
        return sent, True

    def _took(self) -> None:
        self.unwatch()
        # At least half of the bound has left since.
        took, waited_s = (_WIDE_BYTES if self._wide else UNSENT_BYTES) // 2, self._loop.time() - self.watched_s
        brisk = took >= waited_s * _BRISK_BYTES_PER_S
        if brisk != self._wide and (self._wide or self._shared.wide < _WIDE_MAX):
            self._widen(brisk)
        self._writable()

    def _widen(self, wide: bool) -> None:
        with contextlib.suppress(OSError):  # the connection is gone already: its next write says so
            bound_unsent(self._sock, _WIDE_BYTES if wide else UNSENT_BYTES)
        self._wide = wide
        self._shared.wide += 1 if wide else -1
