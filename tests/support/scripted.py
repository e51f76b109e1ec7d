"""An HTTP server on loopback that answers what a test says, byte for byte, and records what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Answer = Callable[[str, dict[str, str]], bytes | None]
"""From request line and headers to the raw answer; None: the connection is kept open without one."""


@dataclass
class Scripted:
    """`requests` holds request lines and headers in the order they came."""

    port: int = 0
    connections: int = 0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    drop_next: bool = False
    """Close the connection of the next request instead of answering it."""
    bodies: list[bytes] = field(default_factory=list)
    """As much of each request's body as came."""

    arrival: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by each request that comes."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def asked(self, count: int) -> None:
        """Return once that many requests have come."""
        while len(self.requests) < count:
            self.arrival.clear()
            await self.arrival.wait()


def http_answer(status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> bytes:
    """A raw answer; `length` overrides the announced one, and `_` in names of headers stands for `-`."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def scripted(
    answer: Answer, *, close_after: bool = False, cut_after: int | None = None, takes_bodies: bool = True
) -> AsyncIterator[Scripted]:
    """With `close_after`, each connection ends after one answer; with `cut_after`, after so many bytes of a body.

    Without `takes_bodies`, no byte of a body is read.
    """
    state = Scripted()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *rest = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
                state.requests.append((first, headers))
                state.arrival.set()
                length = int(headers.get("content-length", "0"))
                if length and takes_bodies:
                    body = bytearray()
                    state.bodies.append(b"")
                    while len(body) < min(length, length if cut_after is None else cut_after):
                        piece = await reader.read(min(65536, length - len(body)))
                        if not piece:
                            return
                        body += piece
                        state.bodies[-1] = bytes(body)
                    if cut_after is not None and cut_after < length:
                        return
                data = answer(first, headers)
                if state.drop_next:
                    state.drop_next = False
                    return
                if data is None:
                    await asyncio.Event().wait()
                else:
                    writer.write(data)
                    await writer.drain()
                if close_after:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
