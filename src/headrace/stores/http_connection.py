"""One connection to a store: one exchange at a time, bytes held are bounded, every wait has its end."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import cast

from headrace.stores.http_answer import CHUNKED, MAX_HEAD_BYTES, UNTIL_CLOSE, BadAnswer, ChunkedBody, Head, read_head
from headrace.stores.sending import Sending

KEPT_S = 15.0
"""How long a connection is kept that nobody uses."""

_HELD_BYTES = 256 * 1024
"""So much of a body waits for its reader; then no more is read."""
_RESUME_BYTES = 64 * 1024
_UNSENT_BYTES = 512 * 1024
_MAX_INTERIM = 16
_JOINED_BYTES = 64 * 1024


class ConnectionCut(OSError):
    """The connection ended before the answer did."""


class Answer:
    """What comes back for one request: a head, then a body as it comes. It outlives its exchange on the connection."""

    __slots__ = ("_connection", "_held", "_pieces", "_waiter", "error", "head", "is_complete", "is_early")

    def __init__(self, connection: Connection) -> None:
        self.head: Head | None = None
        self.is_complete = False
        """Whether all of the body has arrived."""
        self.is_early = False
        """Whether it began before all of the request had been sent."""
        self.error: Exception | None = None
        """Why no more will."""
        self._connection = connection
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None

    async def begun(self) -> Head:
        """The head. Raises what the exchange ended with before it came."""
        while self.head is None:
            await self._changed()
        return self.head

    async def piece(self) -> bytes:
        """The next bytes of the body; empty at its end. Raises when the rest will not come."""
        while not self._pieces:
            if self.is_complete:
                return b""
            await self._changed()
        piece = self._pieces.popleft()
        self._held -= len(piece)
        if self._held <= _RESUME_BYTES and not self.is_complete:
            self._connection.resume(self)
        return piece

    def take_all(self) -> list[bytes] | None:
        """All of a body that has arrived already, or None."""
        if not self.is_complete:
            return None
        pieces = list(self._pieces)
        self._pieces.clear()
        return pieces

    def close(self) -> None:
        """Give up the rest; the connection ends with it. Does nothing to a body that has arrived."""
        if not self.is_complete:
            self._connection.abort_exchange(self)

    def add(self, piece: bytes) -> bool:
        """Called by the connection; True when it should read no more for now."""
        self._pieces.append(piece)
        self._held += len(piece)
        return self._held > _HELD_BYTES

    def wake(self) -> None:
        """Called by the connection after a change."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _changed(self) -> None:
        if self.error is not None:
            raise self.error
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Connection(asyncio.Protocol):
    """Requests out, answers in. `freed` is called when another request may follow, `lost` at the end."""

    def __init__(self, patience_s: float, freed: Callable[[Connection], None], lost: Callable[[Connection], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.uses = 0
        self.is_heard = False
        """Whether any byte of the present answer has come."""
        self._patience_s = patience_s
        self._freed = freed
        self._lost = lost
        self._answer: Answer | None = None
        self._is_head = False
        self._buffer = b""
        self._interim = 0
        self._left = 0
        self._chunks: ChunkedBody | None = None
        self._unsent = 0
        self._drained: asyncio.Future[None] | None = None
        self._is_full = False
        self._reads = True
        self._is_lost = False
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent now."""
        return not self._is_lost and self._answer is None and not self.transport.is_closing() and self.loop.time() < self._due

    @property
    def _is_sent(self) -> bool:
        """Whether the system has taken all of the request."""
        return not self._unsent and not self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._expect(self.loop.time() + KEPT_S)

    async def exchange(self, method: str, head: bytes, body: bytes | Sending) -> Answer:
        """Send a request and wait for the answer's head. Raises `OSError`, `TimeoutError`, `BadAnswer` and what a source raises.

        An answer that comes before all of a `Sending` was sent ends the sending, and the connection with its body.
        """
        answer = self._begin(method)
        if isinstance(body, Sending):
            return await self._stream(answer, head, body)
        if len(body) <= _JOINED_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))
        try:
            await answer.begun()
        except BaseException:  # whatever it is: tidied up here, raised on
            self.abort_exchange(answer)
            raise
        return answer

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def abort_exchange(self, answer: Answer) -> None:
        """End the connection if it is still busy with `answer`."""
        if self._answer is answer:
            self._fail(ConnectionCut("the answer was given up"))

    def resume(self, answer: Answer) -> None:
        """Read on for `answer`, whose reader has caught up."""
        if self._answer is answer and not self._reads:
            self._reads = True
            self._expect(self.loop.time() + self._patience_s)
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.transport.abort()  # an answer that nobody asked for: whose the next one would be is not known
            return
        self.is_heard = True
        if not self._unsent or answer.head is not None:
            self._expect(self.loop.time() + self._patience_s)
        try:
            if answer.head is None:
                self._take_head(answer, data)
            else:
                self._take_body(answer, data)
        except BadAnswer as error:
            self._fail(error)

    def eof_received(self) -> bool:
        answer = self._answer
        if answer is not None and answer.head is not None and answer.head.length == UNTIL_CLOSE:
            self._complete(answer)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        answer = self._answer
        if answer is not None:
            where = "before an answer" if answer.head is None else "in the middle of the body"
            why = f": {exc}" if exc is not None else ""
            self._end(answer, ConnectionCut(f"the connection ended {where}{why}"))
        self._flow()
        self._lost(self)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._flow()

    def _begin(self, method: str) -> Answer:
        if not self.is_usable:
            raise ConnectionCut("the connection ended before an answer")
        answer = self._answer = Answer(self)
        self.uses += 1
        self.is_heard = False
        self._is_head = method == "HEAD"
        self._interim = 0
        self._unsent = 0
        self._expect(self.loop.time() + self._patience_s)
        return answer

    async def _stream(self, answer: Answer, head: bytes, body: Sending) -> Answer:
        self._unsent = body.length
        sender = self.loop.create_task(self._deliver(answer, head, body))
        try:
            await answer.begun()
        except BaseException as error:  # whatever it is: tidied up here, raised on
            self.abort_exchange(answer)
            await _stopped(sender, body)
            if isinstance(error, Exception) and body.error is not None:
                raise body.error from None
            raise
        if answer.is_early:
            await _stopped(sender, body)
        else:
            await asyncio.wait((sender,))  # all was sent: only the source has still to be closed
        return answer

    async def _deliver(self, answer: Answer, head: bytes, body: Sending) -> None:
        """Send a body as its source gives it. The store must take each piece in time; the source may take its own."""
        try:
            if self._unsent:
                self._due = math.inf
                self.transport.write(head)
            async for piece in body.pieces():
                if self._answer is not answer or answer.head is not None:
                    return
                self._unsent -= len(piece)
                self._expect(self.loop.time() + self._patience_s)
                self.transport.write(piece)
                if self._is_full:
                    await self._room()
                if self._unsent and self._answer is answer and answer.head is None:
                    self._due = math.inf
            if not body.length:
                self.transport.write(head)  # it alone makes an object: only now its body is known to be right
        except BaseException as error:  # whatever a source raises is the write's own error
            if self._answer is answer:
                self._fail(error if isinstance(error, Exception) else ConnectionCut("the request was given up"))
            if not isinstance(error, Exception):
                raise

    async def _room(self) -> None:
        self._drained = self.loop.create_future()
        try:
            await self._drained
        finally:
            self._drained = None

    def _flow(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _take_head(self, answer: Answer, data: bytes) -> None:
        seen = max(len(self._buffer) - 3, 0)
        data = self._buffer + data if self._buffer else data
        while True:
            end = data.find(b"\r\n\r\n", seen) + 4
            if end > MAX_HEAD_BYTES or (end < 4 and len(data) > MAX_HEAD_BYTES):
                raise BadAnswer(f"its head is longer than {MAX_HEAD_BYTES} bytes")
            if end < 4:
                self._buffer = data
                return
            head = read_head(data[:end], is_head=self._is_head)
            data, self._buffer, seen = data[end:], b"", 0
            if head.status >= 200:
                break
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise BadAnswer(f"more than {_MAX_INTERIM} heads came before its own")
            if not data:
                return
        answer.head = head
        answer.is_early = not self._is_sent
        if answer.is_early:
            self._expect(self.loop.time() + self._patience_s)
        self._left = head.length
        self._chunks = ChunkedBody() if head.length == CHUNKED else None
        if data or not head.length:
            self._take_body(answer, data)
        answer.wake()

    def _take_body(self, answer: Answer, data: bytes) -> None:
        is_full = extra = False
        if self._chunks is not None:
            for piece in self._chunks.feed(data) if data else ():
                is_full = answer.add(piece)
            is_complete, extra = self._chunks.done, self._chunks.extra
        elif self._left == UNTIL_CLOSE:
            is_complete = False
            is_full = answer.add(data)
        else:
            extra = len(data) > self._left
            data = data[: self._left] if extra else data
            self._left -= len(data)
            is_complete = not self._left
            if data:
                is_full = answer.add(data)
        if is_complete:
            self._complete(answer, extra=extra)
        elif is_full and self._reads:
            self._reads = False
            self._due = math.inf
            self.transport.pause_reading()
        answer.wake()

    def _complete(self, answer: Answer, *, extra: bool = False) -> None:
        """All of the answer is here: the next request may follow, if all that was agreed on has been kept."""
        head = answer.head
        is_sent = self._is_sent
        answer.is_complete = True
        self._answer = None
        answer.wake()
        if head is None or not head.keeps_alive or extra or not is_sent or self.transport.is_closing():
            self.transport.abort()
            return
        if not self._reads:
            self._reads = True
            self.transport.resume_reading()
        self._expect(self.loop.time() + KEPT_S)
        self._freed(self)

    def _fail(self, error: Exception) -> None:
        answer = self._answer
        if answer is not None:
            self._end(answer, error)
        self.transport.abort()
        self._flow()

    def _end(self, answer: Answer, error: Exception) -> None:
        self._answer = None
        answer.error = error
        answer.wake()

    def _expect(self, due: float) -> None:
        """Something must have happened by `due`. One timer serves for all: it is set anew only to ring earlier."""
        self._due = due
        if due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            self._timer = self.loop.call_at(due, self._rung)

    def _rung(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._due > self.loop.time():
            if self._due < math.inf:
                self._expect(self._due)
        elif self._answer is None:
            self.transport.abort()
        elif self._unsent or self.transport.get_write_buffer_size():
            self._fail(TimeoutError(f"took no byte of the body for {self._patience_s:g} s"))
        else:
            self._fail(TimeoutError(f"no answer in time ({self._patience_s:g} s)"))


async def _stopped(sender: asyncio.Task[None], body: Sending) -> None:
    sender.cancel()
    await asyncio.wait((sender,))
    await body.stop()
