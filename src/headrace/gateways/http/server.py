"""Accepting connections, one coarse timer for all of them, and stopping without cutting anybody off."""

from __future__ import annotations

import asyncio
import socket

import msgspec

from headrace.gateways.http.dates import format_date
from headrace.gateways.http.messages import Handler
from headrace.gateways.http.outlet import Outlets, bound_unsent
from headrace.gateways.http.protocol import Connection
from headrace.gateways.settings import GatewaySettings
from headrace.model.clock import Clock


class ConnectionStats(msgspec.Struct, frozen=True):
    """Counters of one server: open connections, all accepted, refused for number, cut for slowness."""

    open: int
    accepted: int
    refused: int
    cut_slow: int


class HttpServer:
    """Serves one handler on one listening socket."""

    def __init__(self, handler: Handler, settings: GatewaySettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.now_s = clock.monotonic()
        """Monotonic seconds as of the last sweep: exact enough for deadlines, free on the hot path."""
        self.outlets = Outlets()
        self.draining = False
        self.cut_slow = 0
        self._handler = handler
        self._connections: set[Connection] = set()
        self._accepted = 0
        self._refused = 0
        self._listener: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._date_second = -1
        self.idle_until_s = 0.0
        """The deadline of whoever was answered since the last sweep."""
        self.date_line = b""
        """The `date` header as of the last sweep."""
        self._tell_time()

    async def start(self, sock: socket.socket) -> None:
        """Accept on `sock`, which is bound already."""
        bound_unsent(sock)
        self._listener = await self.loop.create_server(lambda: Connection(self, self._handler), sock=sock, backlog=1024)
        self._timer = self.loop.call_later(self.settings.sweep_s, self._sweep)

    def admit(self, connection: Connection) -> bool:
        """Called by every new connection; False when there are too many, and it must refuse."""
        self._accepted += 1
        full = len(self._connections) >= self.settings.max_connections
        self._connections.add(connection)
        if full:
            self._refused += 1
        return not full

    def forget(self, connection: Connection) -> None:
        """Called by every connection at its end."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def stats(self) -> ConnectionStats:
        return ConnectionStats(len(self._connections), self._accepted, self._refused, self.cut_slow)

    async def drain(self, deadline_s: float) -> bool:
        """Stop accepting, let running requests finish, then close. False when some had to be cut at the deadline."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self._connections):
            connection.shutdown()
        finished = True
        if self._connections:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), deadline_s)
            except TimeoutError:
                finished = False
        for connection in tuple(self._connections):
            connection.abort()
        while self._connections:
            self._empty.clear()
            await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()
        return finished

    def _tell_time(self) -> None:
        self.now_s = self.clock.monotonic()
        self.idle_until_s = self.now_s + self.settings.idle_timeout_s
        second = int(self.clock.time())
        if second != self._date_second:
            self._date_second = second
            self.date_line = b"date: %s\r\n" % format_date(second).encode()

    def _sweep(self) -> None:
        self._tell_time()
        self.outlets.windows.sweep(self.loop.time())
        for connection in tuple(self._connections):
            connection.check(self.now_s)
        self._timer = self.loop.call_later(self.settings.sweep_s, self._sweep)
