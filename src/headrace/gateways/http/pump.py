"""Getting one answer out: bytes, pieces of memory, slices of files, or a stream, with back-pressure.

Buffers go through the transport, slices of files through an `Outlet`, and only while nothing is queued in the transport,
so that bytes never overtake each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import cast

from headrace.gateways.http.messages import Chunks
from headrace.gateways.http.outlet import Outlet, Outlets, slices_ahead
from headrace.model.reading import Buffer, FileSlice, Piece, Reading

WRITE_BYTES = 256 * 1024
"""The longest body that is handed to the transport at once."""
_HIGH_WATER_BYTES = 512 * 1024
_COPY_BYTES = 16 * 1024
_TURN_BYTES = 2 * 1024 * 1024


class Pump:
    """Writes one answer at a time to one transport. `done(complete)` is called for each that `begin` did not finish."""

    __slots__ = (
        "_done", "_drained", "_early", "_failed", "_head", "_loop", "_offset", "_outlet", "_pieces", "_shared", "_total",
        "_waiting", "_writing", "body_sent", "failure", "paused", "streaming", "transport",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        done: Callable[[bool], None],
        shared: Outlets,
    ) -> None:
        self.transport = transport
        self._loop = loop
        self._shared = shared
        self._done = done
        self._outlet: Outlet | None = None
        self._pieces: tuple[Piece, ...] = ()
        self._offset = 0
        self._head = b""
        self._total = 0
        self._writing = False
        self._waiting = False
        self._drained: asyncio.Future[None] | None = None
        self.streaming: Reading | Chunks | None = None
        self.failure: Exception | None = None
        """What broke the last stream."""
        self.body_sent = 0
        self.paused = False
        self._early = False
        self._failed = False
        transport.set_write_buffer_limits(_HIGH_WATER_BYTES)

    def begin(self, head: bytes, body: bytes | Reading | Chunks) -> bool:
        """Start an answer. True when all of it was taken at once; else `done` is called later.

        `Chunks`, and a `Reading` without ready pieces, are left in `streaming`, for `stream`.
        """
        if isinstance(body, bytes):
            self.transport.write(head + body if body else head)
            self.body_sent = len(body)
            self._total += len(body)
            return True
        self.body_sent = 0
        if isinstance(body, Chunks) or body.ready is None:
            self.streaming = body
            self._head = head
            return False
        ready, size = body.ready, body.range.length
        if size <= WRITE_BYTES and FileSlice not in map(type, ready):
            self.put(head, cast("tuple[Buffer, ...]", ready), size)
            return True
        self._head = head
        self._pieces = ready
        self._offset = 0
        self._writing = self._early = True
        self.resume()
        self._early = False
        return not self._writing and not self._failed

    def put(self, head: bytes, body: tuple[Buffer, ...], size: int) -> None:
        """A whole answer, short enough for the transport to hold, with a body of `size` bytes."""
        if size <= _COPY_BYTES:
            self.transport.write(b"".join((head, *body)))
        else:
            self.transport.writelines((head, *body))
        self.body_sent = size
        self._total += size

    async def stream(self) -> None:
        """Send what is in `streaming`. Ends the answer incomplete when it fails; never short."""
        reading = self.streaming
        assert reading is not None  # noqa: S101  the connection calls only then
        complete = False
        framed = isinstance(reading, Chunks) and reading.framed
        self.failure = None
        try:
            self.transport.write(self._head)
            self._head = b""
            async for buffer in reading:
                self.transport.write(b"%x\r\n%b\r\n" % (len(buffer), bytes(buffer)) if framed else buffer)
                self.body_sent += len(buffer)
                self._total += len(buffer)
                if self.paused:
                    self._drained = self._loop.create_future()
                    await self._drained
                    self._drained = None
            if framed:
                self.transport.write(b"0\r\n\r\n")
            complete = isinstance(reading, Chunks) or self.body_sent == reading.range.length
        except Exception as error:  # noqa: BLE001  whatever broke the body, the connection is aborted: it cannot look whole
            self.failure = error
        finally:
            self.streaming = None
            await reading.aclose()
            self._done(complete)

    def resume(self) -> None:
        """Go on where the client's slowness stopped the answer."""
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            return
        if self._waiting:
            self._waiting = False
            self.transport.set_write_buffer_limits(_HIGH_WATER_BYTES)
        if not self._writing:
            return
        try:
            while self._pieces and not self.paused and not self._waiting:
                piece = self._pieces[0]
                if isinstance(piece, FileSlice):
                    if not self._send_slices():
                        return
                elif not self._send_buffer(piece):
                    return
                else:
                    self._pieces = self._pieces[1:]
                    self._offset = 0
        except OSError as error:
            self.failure = error
            self._end(False)
            return
        if not self._pieces:
            if self._head:
                self.transport.write(self._head)
                self._head = b""
            self._end(True)

    def _send_buffer(self, piece: bytes | bytearray | memoryview) -> bool:
        view = memoryview(piece)
        while self._offset < len(view):
            if self.paused:
                return False
            part = view[self._offset : self._offset + WRITE_BYTES]
            if self._head:
                self.transport.writelines((self._head, part))
                self._head = b""
            else:
                self.transport.write(part)
            self._offset += len(part)
            self.body_sent += len(part)
        return True

    def _send_slices(self) -> bool:
        """The slices up to the next piece that is none; False when some are left for later."""
        piece = self._pieces[0]
        if len(self._pieces) == 1 and isinstance(piece, FileSlice) and piece.length <= _COPY_BYTES:
            return self._send_short(piece)
        if self.transport.get_write_buffer_size():
            self._wait_for_flush()
            return False
        self._pass(0)
        outlet = self._opened()
        if self._head and not self._send_head(outlet):
            return False
        turn = _TURN_BYTES
        while slices := slices_ahead(self._pieces):
            if turn <= 0:
                self._loop.call_soon(self.resume)
                return False
            sent, more = outlet.send_slices(slices, self._offset, turn)
            turn -= sent
            self.body_sent += sent
            self._pass(sent)
            if not more and self._pieces:
                outlet.watch()
                return False
        return True

    def _send_short(self, piece: FileSlice) -> bool:
        data = os.pread(piece.fd, piece.length, piece.offset)
        if len(data) != piece.length:
            raise OSError("a file was cut while it was read")
        if not self._send_buffer(data):
            return False
        self._pieces = ()
        return True

    def _pass(self, sent: int) -> None:
        """Go on behind so many bytes of the slices."""
        self._offset += sent
        while self._pieces and isinstance(piece := self._pieces[0], FileSlice) and self._offset >= piece.length:
            self._offset -= piece.length
            self._pieces = self._pieces[1:]

    def _send_head(self, outlet: Outlet) -> bool:
        self._head = self._head[outlet.send(self._head) :]
        if self._head:
            outlet.watch()
        return not self._head

    def _opened(self) -> Outlet:
        if self._outlet is None:
            self._outlet = Outlet(self.transport.get_extra_info("socket"), self._loop, self._shared, self.resume)
        return self._outlet

    def _wait_for_flush(self) -> None:
        """Be resumed when the transport holds nothing more."""
        self._waiting = True
        self.transport.set_write_buffer_limits(0)
        if not self.paused:
            self._loop.call_soon(self.resume)

    def _end(self, complete: bool) -> None:
        self._writing = False
        self._pieces = ()
        self._head = b""
        if self._outlet is not None:
            self._outlet.unwatch()
        self._total += self.body_sent
        self._failed = not complete
        if not self._early or self._failed:
            self._done(complete)

    def blocked(self) -> bool:
        """Whether bytes wait for the client to take them."""
        watching = self._outlet is not None and self._outlet.watching
        return watching or self.paused or self.transport.get_write_buffer_size() > 0

    def moved(self) -> int:
        """A count that grows as the client takes bytes."""
        return self._total + (self.body_sent if self._writing else 0) - self.transport.get_write_buffer_size()

    def reset_on_close(self) -> None:
        """Let the kernel throw away what it still holds, so that the client learns of the cut at once."""
        with contextlib.suppress(OSError):  # the connection is gone already
            self._opened().reset_on_close()

    def lost(self) -> None:
        """The connection is gone: free what is held."""
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None
        if self._drained is not None and not self._drained.done():
            self._drained.cancel()
        if self._writing:
            self._end(False)
