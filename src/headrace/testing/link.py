"""A TCP link in user space: a round-trip time, a shared rate, losses and outages, without root.

Each direction is one wire that all connections share fairly. No more than a bandwidth-delay
product per connection is read ahead, so senders feel the link; setting up a connection costs a
round trip; the end of a direction is passed on in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType

import msgspec

from headrace.model.clock import Clock, SystemClock
from headrace.model.errors import SettingsError
from headrace.testing.lane import Lane

_READ_BYTES = 64 * 1024
_SLACK_BYTES = 256 * 1024
_RESUME_BYTES = 128 * 1024
_RESET = struct.pack("ii", 1, 0)

Address = tuple[str, int]


class LinkSettings(msgspec.Struct, frozen=True):
    """What the link is like. `rtt_s` is both ways together; `rate` is bytes per second each way, 0 for no bound."""

    rtt_s: float = 0.0
    rate: float = 0.0
    loss: float = 0.0
    """Probability that one packet of 1,460 bytes is lost (it then comes a round trip later)."""
    seed: int = 0


class LinkState(StrEnum):
    """`refuse`: connecting fails. `reset`: connections are accepted and reset. `blackhole`: nothing moves."""

    UP = "up"
    REFUSE = "refuse"
    RESET = "reset"
    BLACKHOLE = "blackhole"


class LinkStats(msgspec.Struct, frozen=True):
    """Counters since the start. Bytes are counted when they are put on the wire."""

    state: LinkState
    up_bytes: int
    down_bytes: int
    connections_open: int
    connections_total: int
    failed_dials: int
    lost_units: int
    outages: int


class Flapping(msgspec.Struct, frozen=True):
    """A schedule: up for `up_s`, then `mode` for `down_s`, over and over."""

    up_s: float
    down_s: float
    mode: LinkState = LinkState.BLACKHOLE

    def state_at(self, elapsed_s: float) -> LinkState:
        return LinkState.UP if elapsed_s % (self.up_s + self.down_s) < self.up_s else self.mode

    def next_change(self, elapsed_s: float) -> float:
        """Seconds from `elapsed_s` to the next change of state."""
        within = elapsed_s % (self.up_s + self.down_s)
        return (self.up_s if within < self.up_s else self.up_s + self.down_s) - within


def parse_address(text: str) -> Address:
    """`HOST:PORT`. Raises `SettingsError`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise SettingsError(f"{text!r} is not an address: write HOST:PORT, such as 127.0.0.1:8333")
    return host, int(port)


def bind_keeping_port(address: Address) -> socket.socket:
    """A bound socket that may stop listening and begin again without losing its port.

    The kernel gives a port that it chose itself back when listening ends, so the chosen one is bound by its number.
    """
    with _bound(address) as chosen:
        return _bound(chosen.getsockname()[:2])


def _bound(address: Address) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


class _Flow:
    """One direction of one connection."""

    __slots__ = ("arrived", "buffered", "ended", "finished", "number", "reading", "sink", "source", "writing")

    def __init__(self, number: int, source: socket.socket, sink: socket.socket) -> None:
        self.number = number
        self.source = source
        self.sink = sink
        self.arrived: deque[memoryview] = deque()
        self.buffered = 0
        self.reading = False
        self.writing = False
        self.ended = False
        self.finished = False

    def resume(self, readable: Callable[[_Flow], None]) -> None:
        if not self.reading and not self.ended:
            self.reading = True
            asyncio.get_running_loop().add_reader(self.source.fileno(), readable, self)

    def pause(self) -> None:
        if self.reading:
            self.reading = False
            asyncio.get_running_loop().remove_reader(self.source.fileno())

    def stop_writing(self) -> None:
        if self.writing:
            self.writing = False
            asyncio.get_running_loop().remove_writer(self.sink.fileno())


class _Connection:
    """A client's socket and the one dialled for it; `flows` are empty until the dial succeeded."""

    __slots__ = ("client", "flows", "upstream")

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.upstream: socket.socket | None = None
        self.flows: tuple[_Flow, ...] = ()


class Link:
    """A shaped link from a listening address to `target`. Use as an async context manager."""

    def __init__(
        self,
        target: Address,
        settings: LinkSettings | None = None,
        *,
        listen: Address = ("127.0.0.1", 0),
        clock: Clock | None = None,
    ) -> None:
        self.target = target
        self.settings = settings or LinkSettings()
        self.state = LinkState.UP
        self._listen = listen
        self._clock: Clock = clock or SystemClock()
        rtt = self.settings.rtt_s
        self._up, self._down = (
            Lane(rate=self.settings.rate, delay_s=rtt / 2, loss=self.settings.loss, resend_s=rtt, seed=self.settings.seed + way)
            for way in (0, 1)
        )
        self._limit = int(self.settings.rate * rtt) + _SLACK_BYTES if self.settings.rate else 16 * _SLACK_BYTES
        self._listener: socket.socket | None = None
        self._connections: set[_Connection] = set()
        self._flows: dict[int, tuple[_Flow, _Connection]] = {}
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._dials: set[asyncio.Task[None]] = set()
        self._is_up = asyncio.Event()
        self._total = 0
        self._failed_dials = 0
        self._outages = 0

    async def __aenter__(self) -> Link:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def start(self) -> None:
        """Bind and listen. Raises `OSError` when the address is taken."""
        listener = bind_keeping_port(self._listen)
        listener.listen(1024)
        self._listener = listener
        self._listen = listener.getsockname()[:2]
        self._is_up.set()
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept)

    @property
    def address(self) -> Address:
        """Where clients connect to; the port is known once started."""
        return self._listen

    @property
    def endpoint(self) -> str:
        return f"http://{self._listen[0]}:{self._listen[1]}"

    def stats(self) -> LinkStats:
        return LinkStats(
            state=self.state,
            up_bytes=self._up.carried_bytes,
            down_bytes=self._down.carried_bytes,
            connections_open=len(self._connections),
            connections_total=self._total,
            failed_dials=self._failed_dials,
            lost_units=self._up.lost_units + self._down.lost_units,
            outages=self._outages,
        )

    def set_state(self, state: LinkState) -> None:
        """Take the link down in one of the ways of `LinkState`, or bring it up again."""
        if state == self.state:
            return
        loop = asyncio.get_running_loop()
        before, self.state = self.state, state
        self._outages += before == LinkState.UP
        if before == LinkState.REFUSE:
            self._socket.listen(1024)
            loop.add_reader(self._socket.fileno(), self._accept)
        if state == LinkState.REFUSE:
            # A listening socket that is shut down keeps its port and refuses; nobody else can take the port meanwhile.
            loop.remove_reader(self._socket.fileno())
            self._socket.shutdown(socket.SHUT_RD)
        if state in (LinkState.REFUSE, LinkState.RESET):
            for connection in tuple(self._connections):
                self._abort(connection)
        if state == LinkState.UP:
            self._is_up.set()
            self._wake()
        else:
            self._is_up.clear()

    async def flap(self, schedule: Flapping) -> None:
        """Follow `schedule` until cancelled."""
        started = self._clock.monotonic()
        while True:
            elapsed = self._clock.monotonic() - started
            self.set_state(schedule.state_at(elapsed))
            await asyncio.sleep(max(0.001, schedule.next_change(elapsed)))

    async def close(self) -> None:
        """Stop listening and abort every connection."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        for connection in tuple(self._connections):
            self._abort(connection)
        for dial in tuple(self._dials):
            dial.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()

    @property
    def _socket(self) -> socket.socket:
        if self._listener is None:
            raise RuntimeError("the link is not started")
        return self._listener

    def _accept(self) -> None:
        for _ in range(64):
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            client.setblocking(False)
            self._total += 1
            connection = _Connection(client)
            self._connections.add(connection)
            if self.state == LinkState.RESET:
                self._abort(connection)
                continue
            dial = asyncio.get_running_loop().create_task(self._dial(connection))
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)

    async def _dial(self, connection: _Connection) -> None:
        """The client's first bytes leave one round trip after it connected, as on a real link."""
        half = self.settings.rtt_s / 2
        await asyncio.sleep(half)
        await self._is_up.wait()
        upstream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        upstream.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(upstream, self.target)
        except OSError:
            self._failed_dials += 1
            upstream.close()
            await asyncio.sleep(half)
            self._abort(connection)
            return
        except asyncio.CancelledError:
            upstream.close()
            raise
        if connection not in self._connections:
            upstream.close()
            return
        for end in (connection.client, upstream):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.upstream = upstream
        up = _Flow(next(self._numbers) * 2, connection.client, upstream)
        down = _Flow(up.number + 1, upstream, connection.client)
        connection.flows = (up, down)
        for flow in connection.flows:
            self._flows[flow.number] = (flow, connection)
        down.resume(self._readable)
        await asyncio.sleep(half)
        if connection in self._connections:
            up.resume(self._readable)

    def _lane(self, flow: _Flow) -> Lane:
        return self._down if flow.number & 1 else self._up

    def _readable(self, flow: _Flow) -> None:
        try:
            data = flow.source.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._abort(self._flows[flow.number][1])
            return
        flow.buffered += len(data)
        if not data:
            flow.ended = True
        if flow.ended or flow.buffered >= self._limit:
            flow.pause()
        lane = self._lane(flow)
        lane.offer(flow.number, data, self._clock.monotonic())
        self._wake()

    def _wake(self) -> None:
        """Move what is due and sleep until the next thing is."""
        if self.state == LinkState.BLACKHOLE:
            return
        now = self._clock.monotonic()
        due: float | None = None
        for lane in (self._up, self._down):
            for arrival in lane.advance(now):
                known = self._flows.get(arrival.flow)
                if known is not None:
                    flow, connection = known
                    flow.arrived.append(arrival.data)
                    if not flow.writing:
                        self._write(flow, connection)
            moment = lane.next_at()
            if moment is not None:
                due = moment if due is None else min(due, moment)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.001, due - now), self._wake)

    def _write(self, flow: _Flow, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            while flow.arrived:
                piece = flow.arrived[0]
                if not piece:
                    self._finish(flow, connection)
                    return
                sent = flow.sink.send(piece)
                flow.buffered -= sent
                if sent == len(piece):
                    flow.arrived.popleft()
                else:
                    flow.arrived[0] = piece[sent:]
        except (BlockingIOError, InterruptedError):
            if not flow.writing:
                flow.writing = True
                loop.add_writer(flow.sink.fileno(), self._write, flow, connection)
        except OSError:
            self._abort(connection)
            return
        else:
            flow.stop_writing()
        if flow.buffered <= self._limit - _RESUME_BYTES:
            flow.resume(self._readable)

    def _finish(self, flow: _Flow, connection: _Connection) -> None:
        """The end of one direction has arrived; the connection is over when both have."""
        flow.arrived.clear()
        flow.finished = True
        flow.stop_writing()
        with contextlib.suppress(OSError):
            flow.sink.shutdown(socket.SHUT_WR)
        if all(each.finished for each in connection.flows):
            self._forget(connection)

    def _abort(self, connection: _Connection) -> None:
        """Reset both ends."""
        for end in (connection.client, connection.upstream):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._forget(connection)

    def _forget(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        for flow in connection.flows:
            flow.pause()
            flow.stop_writing()
            self._lane(flow).drop(flow.number)
            self._flows.pop(flow.number, None)
        connection.client.close()
        if connection.upstream is not None:
            connection.upstream.close()
