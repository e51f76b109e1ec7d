"""One connection to a store: one exchange at a time, bytes held are bounded, every wait has its end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import cast

from headrace.stores.http_answer import AnswerReader, BadAnswer
from headrace.stores.http_exchange import Answer, ConnectionCut, Deadline
from headrace.stores.sending import Sending

KEPT_S = 15.0
"""How long a connection is kept that nobody uses."""

_UNSENT_BYTES = 512 * 1024
_JOINED_BYTES = 64 * 1024


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
        self._reader = AnswerReader(is_head=False)
        self._unsent = 0
        self._drained: asyncio.Future[None] | None = None
        self._is_full = False
        self._reads = True
        self._is_lost = False
        self._deadline = Deadline(self.loop, self._rung)

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent now."""
        return (
            not self._is_lost
            and self._answer is None
            and not self.transport.is_closing()
            and self.loop.time() < self._deadline.due
        )

    @property
    def _is_sent(self) -> bool:
        """Whether the system has taken all of the request."""
        return not self._unsent and not self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._deadline.within(KEPT_S)

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
            self._deadline.within(self._patience_s)
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.transport.abort()  # an answer that nobody asked for: whose the next one would be is not known
            return
        self.is_heard = True
        reader = self._reader
        was_begun = reader.head is not None
        try:
            pieces = reader.feed(data)
        except BadAnswer as error:
            self._fail(error)
            return
        if not was_begun and reader.head is not None:
            answer.head = reader.head
            answer.is_early = not self._is_sent
        if answer.head is not None or not self._unsent:
            self._deadline.within(self._patience_s)
        is_full = False
        for piece in pieces:
            is_full = answer.add(piece)
        if reader.is_complete:
            self._complete(answer)
        elif is_full and self._reads:
            self._reads = False
            self._deadline.due = math.inf
            self.transport.pause_reading()
        answer.wake()

    def eof_received(self) -> bool:
        self._reader.end()
        if self._answer is not None and self._reader.is_complete:
            self._complete(self._answer)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._deadline.cancel()
        answer = self._answer
        if answer is not None:
            where = "before an answer" if answer.head is None else "in the middle of the body"
            why = f": {exc}" if exc is not None else ""
            self._fail(ConnectionCut(f"the connection ended {where}{why}"))
        self.resume_writing()
        self._lost(self)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _begin(self, method: str) -> Answer:
        if not self.is_usable:
            raise ConnectionCut("the connection ended before an answer")
        answer = self._answer = Answer(self)
        self.uses += 1
        self.is_heard = False
        self._reader = AnswerReader(is_head=method == "HEAD")
        self._unsent = 0
        self._deadline.within(self._patience_s)
        return answer

    async def _stream(self, answer: Answer, head: bytes, body: Sending) -> Answer:
        self._unsent = body.length
        sender = self.loop.create_task(self._deliver(answer, head, body))
        try:
            await answer.begun()
            if not answer.is_early:
                await asyncio.wait((sender,))  # all was sent: only the source has still to be closed
        except BaseException as error:  # whatever it is: tidied up here, raised on
            self.abort_exchange(answer)
            await _stopped(sender, body)
            if isinstance(error, Exception) and body.error is not None:
                raise body.error from None
            raise
        if answer.is_early:
            await _stopped(sender, body)
        return answer

    async def _deliver(self, answer: Answer, head: bytes, body: Sending) -> None:
        """Send a body as its source gives it. The store must take each piece in time; the source may take its own.

        The head leaves with the first piece: there are stores that make an empty object of a head without a body.
        """
        unsaid = [head]
        try:
            if self._unsent:
                self._deadline.due = math.inf
            async for piece in body.pieces():
                if self._answer is not answer or answer.head is not None:
                    return
                self._unsent -= len(piece)
                self._deadline.within(self._patience_s)
                self.transport.writelines((*unsaid, piece))
                unsaid.clear()
                if self._is_full:
                    await self._room()
                if self._unsent and self._answer is answer and answer.head is None:
                    self._deadline.due = math.inf
            if unsaid:
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

    def _complete(self, answer: Answer) -> None:
        """All of the answer is here: the next request may follow, if all that was agreed on has been kept."""
        head = answer.head
        answer.is_complete = True
        self._answer = None
        answer.wake()
        if head is None or not head.keeps_alive or self._reader.extra or not self._is_sent or self.transport.is_closing():
            self.transport.abort()
            return
        if not self._reads:
            self._reads = True
            self.transport.resume_reading()
        self._deadline.within(KEPT_S)
        self._freed(self)

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.error = error
            answer.wake()
        self.transport.abort()

    def _rung(self) -> None:
        if self._answer is None:
            self.transport.abort()
        elif self._is_sent:
            self._fail(TimeoutError(f"no answer in time ({self._patience_s:g} s)"))
        else:
            self._fail(TimeoutError(f"took no byte of the body for {self._patience_s:g} s"))


async def _stopped(sender: asyncio.Task[None], body: Sending) -> None:
    sender.cancel()
    await asyncio.wait((sender,))
    await body.stop()
