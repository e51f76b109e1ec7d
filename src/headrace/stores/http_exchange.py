"""What a connection and whoever asked share: the answer on its way, and the one deadline that holds."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

from headrace.stores.http_answer import Head

_HELD_BYTES = 256 * 1024
"""So much of a body waits for its reader; then no more is read."""
_RESUME_BYTES = 64 * 1024


class ConnectionCut(OSError):
    """The connection ended before the answer did."""


class Exchanger(Protocol):
    """What an answer needs of its connection."""

    loop: asyncio.AbstractEventLoop

    def resume(self, answer: Answer) -> None:
        """Read on for `answer`, whose reader has caught up."""

    def abort_exchange(self, answer: Answer) -> None:
        """End the connection if it is still busy with `answer`."""


class Answer:
    """What comes back for one request: a head, then a body as it comes. It outlives its exchange on the connection."""

    __slots__ = ("_connection", "_held", "_pieces", "_waiter", "error", "head", "is_complete", "is_early")

    def __init__(self, connection: Exchanger) -> None:
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


class Deadline:
    """Calls `rung` when something should have happened and has not.

    One timer serves for all: it is set anew only to ring earlier.
    """

    __slots__ = ("_loop", "_rung", "_timer", "_timer_at", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop, rung: Callable[[], None]) -> None:
        self.due = math.inf
        """In seconds of the loop's clock. May be set to `math.inf`: nothing is waited for."""
        self._loop = loop
        self._rung = rung
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def within(self, seconds: float) -> None:
        """From now on something must have happened by then."""
        self.due = due = self._loop.time() + seconds
        if due < self._timer_at:
            self._set(due)

    def cancel(self) -> None:
        """Nothing will be called any more."""
        self.due = math.inf
        if self._timer is not None:
            self._timer.cancel()

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self.due <= self._loop.time():
            self._rung()
        elif self.due < math.inf:
            self._set(self.due)
