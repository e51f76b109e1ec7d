"""One request through the fault proxy, and the carrying out of faults on a stream."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from urllib.parse import parse_qsl

from headrace.model.sigv4 import SigningIdentity, UnsignedRequest, sign_headers
from headrace.testing.http_faults import (
    Answer,
    Corrupt,
    Cut,
    Delay,
    Extend,
    Fault,
    HalfClose,
    Hang,
    IgnoreRange,
    Meanwhile,
    Rewrite,
    Slow,
    StreamAction,
    Strike,
    Tampering,
    Truncate,
)
from headrace.testing.http_head import Head, read_body, read_head
from headrace.testing.link import Address

_LINGER_RESET = struct.pack("ii", 1, 0)


class Stopped(Exception):
    """A fault has ended the connection."""


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection by a reset."""
    end: socket.socket | None = writer.get_extra_info("socket")
    if end is not None:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    writer.transport.abort()


class Sender:
    """Carries out what a `Tampering` says on one direction of a connection; `reader` is its other direction."""

    def __init__(self, happened: Counter[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.happened = happened
        self.reader = reader
        self.writer = writer
        self._rate = 0.0
        self.sent_bytes = 0

    async def step(self, step: bytes | Strike) -> None:
        """Send, or strike. Raises `Stopped` when the connection is over."""
        if isinstance(step, Strike):
            await self.strike(step)
            return
        size = max(1, int(self._rate / 20)) if self._rate else len(step)
        for start in range(0, len(step), size):
            piece = step[start : start + size]
            await self.send(piece)
            self.sent_bytes += len(piece)
            if self._rate:
                await asyncio.sleep(len(piece) / self._rate)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def strike(self, strike: Strike) -> None:
        self.happened[strike.name] += 1
        match strike.action:
            case Slow(rate):
                self._rate = rate
            case Meanwhile(hook):
                await hook()
            case Cut(reset=hard):
                if hard:
                    reset(self.writer)
                self.writer.close()
                raise Stopped
            case HalfClose():
                self.writer.write_eof()
                await self._until_gone()
            case Hang():
                await self._until_gone()
            case Corrupt():
                pass

    async def _until_gone(self) -> None:
        """The other side of a hang gives up: its end shows only when looked for."""
        while not (self.reader.at_eof() or self.writer.is_closing()):  # noqa: ASYNC110 - a reader has no event for its end
            await asyncio.sleep(0.02)
        raise Stopped


class Exchange:
    """One request of a client, passed to the server with `faults`."""

    def __init__(
        self, target: Address, sender: Sender, faults: Sequence[Fault], *, identity: SigningIdentity | None = None
    ) -> None:
        self._target = target
        self._identity = identity
        self._sender = sender
        self._faults = faults
        self.status = 0

    @property
    def body_bytes(self) -> int:
        return self._sender.sent_bytes

    async def run(self, head: Head) -> bool:
        """Relay; False when the connection must not be used again. Raises `Stopped`, `OSError`, `EOFError`."""
        for fault in self._faults:
            match fault.action:
                case Delay(seconds):
                    self._count(fault)
                    await asyncio.sleep(seconds)
                case Hang(at=None):
                    await self._sender.strike(Strike(fault.name, Hang()))
                case Answer() as answer:
                    self._count(fault)
                    return await self._answer(head, answer)
        reader, writer = await asyncio.open_connection(*self._target, limit=1 << 20)
        try:
            await self._send_request(head, writer)
            answer_head = await self._read_answer_head(reader)
            await self._relay(head, answer_head, reader)
        finally:
            writer.close()
        return "close" not in answer_head.get("connection").lower() and "close" not in head.get("connection").lower()

    def _count(self, fault: Fault) -> None:
        self._sender.happened[fault.name] += 1

    async def _answer(self, head: Head, answer: Answer) -> bool:
        async for _ in read_body(self._sender.reader, head, until_end=False):
            pass
        self.status = answer.status
        body = b"" if head.first.startswith("HEAD ") else answer.body.encode()
        headers = (*answer.headers, ("Content-Length", str(len(body))), ("Content-Type", "application/xml"))
        await self._sender.send(Head(f"HTTP/1.1 {answer.status} Injected", headers).encode() + body)
        return True

    async def _send_request(self, head: Head, writer: asyncio.StreamWriter) -> None:
        if head.get("range"):
            for fault in self._faults:
                if isinstance(fault.action, IgnoreRange):
                    self._count(fault)
                    head = self._without_range(head)
        if head.get("expect"):
            await self._sender.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = head.replace("expect", "")
        writer.write(head.encode())
        async for data in read_body(self._sender.reader, head, until_end=False):
            writer.write(b"%x\r\n%b\r\n" % (len(data), data) if head.chunked else data)
            await writer.drain()
        if head.chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _without_range(self, head: Head) -> Head:
        """What a caller that asked for no range would have sent; where the range was signed, by the proxy's own identity."""
        head = head.replace("range", "")
        if self._identity is None or not head.get("authorization"):
            return head
        method, target, _ = head.first.split(" ")
        path, _, query = target.partition("?")
        signed = tuple((name, head.get(name).encode()) for name in ("host", "if-match") if head.get(name))
        pairs = tuple((name.encode(), value.encode()) for name, value in parse_qsl(query, keep_blank_values=True))
        request = UnsignedRequest(method.encode(), path.encode(), pairs, tuple((name.encode(), value) for name, value in signed))
        for name, value in sign_headers(request, self._identity, time.time()):
            head = head.replace(name, value)
        return head

    async def _read_answer_head(self, reader: asyncio.StreamReader) -> Head:
        while True:
            head = await read_head(reader)
            if head is None:
                raise EOFError("the server closed without an answer")
            self.status = int(head.first.split(" ")[1])
            if self.status >= 200:
                return head

    async def _relay(self, asked: Head, head: Head, reader: asyncio.StreamReader) -> None:
        bodiless = asked.first.startswith("HEAD ") or self.status in (204, 304)
        length = 0 if bodiless else head.length
        limit: int | None = None
        behind = b""
        stream: list[tuple[str, StreamAction]] = []
        announced = head
        for fault in self._faults:
            match fault.action:
                case Rewrite(headers, status):
                    self._count(fault)
                    for name, value in headers:
                        announced = announced.replace(name, value)
                    if status:
                        announced = Head(f"HTTP/1.1 {status} Injected", announced.headers)
                case Truncate(at) if not bodiless:
                    self._count(fault)
                    limit = at
                    announced = announced.replace("content-length", str(at))
                case Extend(extra, announce) if not bodiless:
                    self._count(fault)
                    behind += b"X" * extra
                    if announce and length is not None:
                        announced = announced.replace("content-length", str(length + extra))
                case Cut() | HalfClose() | Corrupt() | Slow() | Meanwhile() | Hang(int()):
                    stream.append((fault.name, fault.action))
        await self._sender.send(announced.encode())
        if bodiless:
            return
        await self._relay_body(head, reader, Tampering(stream, length=length), limit)
        if behind:
            await self._sender.send(behind)

    async def _relay_body(self, head: Head, reader: asyncio.StreamReader, tampering: Tampering, limit: int | None) -> None:
        for strike in tampering.edge():
            await self._sender.strike(strike)
        left = limit
        async for data in read_body(reader, head, until_end=True):
            taken = data if left is None else data[:left]
            for step in tampering.feed(taken):
                if isinstance(step, bytes) and head.chunked:
                    await self._sender.send(b"%x\r\n%b\r\n" % (len(step), step))
                else:
                    await self._sender.step(step)
            if left is not None:
                left -= len(taken)
                if not left:
                    return
        for strike in tampering.edge():
            await self._sender.strike(strike)
        if head.chunked:
            await self._sender.send(b"0\r\n\r\n")
