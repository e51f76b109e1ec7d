"""A proxy between us and a store in which things go wrong on purpose, counted.

    async with FaultProxy(("127.0.0.1", 8333), [Fault("cut", Cut(at=65536), When(method="GET"))]) as proxy:
        ...                                     # speak to proxy.endpoint
        assert proxy.happened["cut"] == 1       # the fault really took place

As a program: `python -m headrace.testing.proxy --target HOST:PORT --faults FILE.json` (a list of `Written`).
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from headrace.model.errors import SettingsError
from headrace.model.sigv4 import SigningIdentity
from headrace.testing.exchange import Exchange, Sender, Stopped, reset
from headrace.testing.http_faults import Fault, Plan, Tampering, TcpFault, Written
from headrace.testing.http_head import read_head
from headrace.testing.link import Address, bind_keeping_port, parse_address

_SEEN_AT_MOST = 100_000


class Seen(msgspec.Struct, frozen=True):
    """One request that came by, and how many bytes of body went back (`status` 0: none was answered)."""

    method: str
    target: str
    range: str
    status: int
    body_bytes: int


class FaultProxy:
    """An HTTP/1.1 proxy for one server. `happened` counts faults that took place, by name.

    With `identity`, requests that a fault changes are signed anew, so that the server takes them.
    """

    def __init__(
        self,
        target: Address,
        faults: Sequence[Fault] = (),
        *,
        tcp_faults: Sequence[TcpFault] = (),
        seed: int = 0,
        listen: Address = ("127.0.0.1", 0),
        identity: SigningIdentity | None = None,
    ) -> None:
        self.target = target
        self.plan: Plan[Fault] = Plan(faults, seed=seed)
        self.tcp_plan: Plan[TcpFault] = Plan(tcp_faults, seed=seed + 1)
        self.happened: Counter[str] = Counter()
        self.seen: deque[Seen] = deque(maxlen=_SEEN_AT_MOST)
        self._identity = identity
        self._listen = listen
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._started = 0.0

    async def __aenter__(self) -> FaultProxy:
        self._listener = bind_keeping_port(self._listen)
        self._listen = self._listener.getsockname()[:2]
        self._started = time.monotonic()
        self.accept()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @property
    def address(self) -> Address:
        return self._listen

    @property
    def endpoint(self) -> str:
        return f"http://{self._listen[0]}:{self._listen[1]}"

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._tasks)

    def accept(self) -> None:
        """Take connections (again)."""
        if self._accepting is None and self._listener is not None:
            self._listener.listen(1024)
            self._accepting = asyncio.get_running_loop().create_task(self._accept_all(self._listener))

    def refuse(self, *, cut: bool = True) -> None:
        """Refuse new connections on the same port; with `cut` also reset the open ones."""
        if self._accepting is not None and self._listener is not None:
            self._accepting.cancel()
            self._accepting = None
            self._listener.shutdown(socket.SHUT_RD)
            self.happened["refuse"] += 1
        if cut:
            for task in tuple(self._tasks):
                task.cancel()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        tasks = [*self._tasks, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    async def _accept_all(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            task = loop.create_task(self._serve(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=client)
        elapsed = time.monotonic() - self._started
        broken = self.tcp_plan.choose(elapsed)
        try:
            if broken:
                await self._relay_bytes(reader, writer, broken)
            else:
                while await self._relay_one(reader, writer):
                    pass
        except (Stopped, OSError, EOFError, asyncio.LimitOverrunError):
            writer.transport.abort()
        except asyncio.CancelledError:
            reset(writer)
            raise
        finally:
            writer.close()

    async def _relay_one(self, client: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False when the connection is over."""
        head = await read_head(client)
        if head is None:
            return False
        method, target, _ = head.first.split(" ", 2)
        byte_range = head.get("range")
        faults = self.plan.choose(time.monotonic() - self._started, method=method, target=target, ranged=bool(byte_range))
        exchange = Exchange(self.target, Sender(self.happened, client, writer), faults, identity=self._identity)
        try:
            return await exchange.run(head)
        finally:
            self.seen.append(Seen(method, target, byte_range, exchange.status, exchange.body_bytes))

    async def _relay_bytes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: list[TcpFault]) -> None:
        up, upstream = await asyncio.open_connection(*self.target)
        ways = [(reader, upstream, False), (up, writer, True)]
        try:
            async with asyncio.TaskGroup() as group:
                for source, sink, down in ways:
                    mine = [(fault.name, fault.action) for fault in faults if fault.down == down]
                    group.create_task(self._pump(source, sink, Tampering(mine)))
        except* (Stopped, OSError):
            writer.transport.abort()
        finally:
            upstream.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, tampering: Tampering) -> None:
        sender = Sender(self.happened, source, sink)
        for strike in tampering.edge():
            await sender.strike(strike)
        while data := await source.read(65536):
            for step in tampering.feed(data):
                await sender.step(step)
        if sink.can_write_eof():
            sink.write_eof()


async def _run(options: argparse.Namespace, faults: list[Fault]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    target, listen = parse_address(options.target), parse_address(options.listen)
    async with FaultProxy(target, faults, seed=options.seed, listen=listen) as proxy:
        loop.add_signal_handler(signal.SIGUSR1, lambda: _say(dict(proxy.happened)))
        _say({"listen": f"{proxy.address[0]}:{proxy.address[1]}"})
        await stop.wait()


def _say(line: dict[str, str] | dict[str, int]) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m headrace.testing.proxy", description="An HTTP proxy that does wrong.")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="port 0: the kernel chooses")
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="the server behind")
    parser.add_argument("--faults", required=True, metavar="FILE", help="JSON list of {name, action: {type, …}, when: {…}}")
    parser.add_argument("--seed", type=int, default=0, help="seed of what strikes by chance")
    options = parser.parse_args(arguments)
    try:
        written = msgspec.json.decode(Path(options.faults).read_bytes(), type=list[Written])
        asyncio.run(_run(options, [Fault(each.name, each.action, each.when) for each in written]))
    except (SettingsError, msgspec.ValidationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
