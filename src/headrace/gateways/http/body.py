"""Bodies of requests: decoding them as a state machine, and waiting for them with bounded memory."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable

from headrace.gateways.http.head import CHUNKED
from headrace.gateways.http.messages import BadFraming

_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_MAX_LINE_BYTES = 4096
_MAX_TRAILER_BYTES = 16384


class BodyDecoder:
    """Takes bytes as they come and gives out the body's. `feed` returns what it did not need."""

    def __init__(self, length: int) -> None:
        self.done = length == 0
        self._chunked = length == CHUNKED
        self._left = 0 if self._chunked else length
        self._line = b""
        self._trailer = -1
        self._after_chunk = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Decoded pieces, and the bytes behind the body's end. Raises `BadFraming`."""
        pieces: list[bytes] = []
        while data and not self.done:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                pieces.append(piece)
                self._after_chunk = self._chunked and not self._left
                self.done = not self._chunked and not self._left
            else:
                data = self._take_line(data)
        return pieces, data

    def _take_line(self, data: bytes) -> bytes:
        end = data.find(b"\n")
        self._line += data if end < 0 else data[: end + 1]
        if len(self._line) > _MAX_LINE_BYTES:
            raise BadFraming(400, "a line of a chunked body is too long")
        if end < 0:
            return b""
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise BadFraming(400, "a line of a chunked body does not end with CR LF")
        self._line_done(line[:-2])
        return data[end + 1 :]

    def _line_done(self, line: bytes) -> None:
        if self._trailer >= 0:
            self._trailer += len(line)
            if line and (self._trailer > _MAX_TRAILER_BYTES or not _TRAILER_LINE.fullmatch(line)):
                raise BadFraming(400, "malformed trailer")
            self.done = not line
        elif self._after_chunk:
            if line:
                raise BadFraming(400, "a chunk is longer than it says")
            self._after_chunk = False
        else:
            match = _CHUNK_LINE.fullmatch(line)
            if match is None:
                raise BadFraming(400, "malformed chunk size")
            self._left = int(match[1], 16)
            if not self._left:
                self._trailer = 0


class IncomingBody:
    """A body while it arrives. At most `_HIGH` bytes wait here; then the connection stops reading."""

    _HIGH = 256 * 1024

    def __init__(self, length: int, max_bytes: int, wanted: Callable[[], None], flow: Callable[[bool], None]) -> None:
        self.length = None if length == CHUNKED else length
        self._decoder = BodyDecoder(length)
        self._allowed: int | None = max_bytes
        self._given = 0
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._failure: BadFraming | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._wanted = wanted
        self._flow = flow
        self.started = False
        self.received = 0

    @property
    def done(self) -> bool:
        """Whether all of it has arrived."""
        return self._decoder.done

    @property
    def starved(self) -> bool:
        """Whether somebody waits for the client to send more."""
        return self._waiter is not None

    def allow(self, max_bytes: int | None) -> None:
        """`Body.allow`."""
        self._allowed = max_bytes

    def feed(self, data: bytes) -> bytes:
        """Take in what arrived; returns the bytes behind the body. Raises `BadFraming`."""
        self.received += len(data)
        pieces, rest = self._decoder.feed(data)
        for piece in pieces:
            self._pieces.append(piece)
            self._waiting += len(piece)
        if self._waiting > self._HIGH:
            self._flow(False)
        self._wake()
        return rest

    def fail(self, failure: BadFraming) -> None:
        """The rest will not come."""
        self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_allowed(self, length: int) -> None:
        if self._allowed is not None and length > self._allowed:
            raise BadFraming(413, "the body is longer than is taken here")

    def at_hand(self) -> bytes | None:
        """`Body.at_hand`."""
        if not self._decoder.done or self._failure is not None or self._given:
            return None
        self._check_allowed(self._waiting)
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._given, self._waiting = len(data), 0
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._check_allowed(self.length or 0)
        if not self.started:
            self.started = True
            self._wanted()
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._waiting -= len(piece)
                if self._waiting <= self._HIGH // 2:
                    self._flow(True)
                self._given += len(piece)
                self._check_allowed(self._given)
                yield piece
            if self._failure is not None:
                raise self._failure
            if self._decoder.done:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
