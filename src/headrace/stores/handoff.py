"""HandoffStore: a store behind a node on this host, whose cached pages come as open files instead of bytes.

The node is asked over a Unix socket with the head of a normal signed request. What is at hand there
comes back as descriptors of segment files; for everything else the store around it is asked.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import hashlib
import os
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, FileSlice, Reading, Served
from headrace.model.sigv4 import SigningIdentity, UnsignedRequest, quote_path, sign_headers
from headrace.model.uploads import Part, Upload
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart
from headrace.stores.passing import PassingUploads
from headrace.stores.store import Store

MAX_HEAD_BYTES = 16 * 1024
MAX_ANSWER_BYTES = 64 * 1024
MAX_SLICES = 64
WINDOW_HEADER = "x-headrace-window"
LENGTH_BYTES = 4

_WINDOW_BYTES = 4 * 1024 * 1024
_TIMEOUT_S = 2.0
_AWAY_S = 5.0
_AT_ONCE = 8
_MAX_LEASES = 64
_MAX_SKIPPED = 256
_SKIP_S = 30.0
_PIECE_BYTES = 1024 * 1024
_NAMES_BYTES = MAX_HEAD_BYTES - 2048

T = TypeVar("T")


class Run(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of the object, in order: `length` bytes at `offset` of the descriptor that came at this place."""

    offset: int
    length: int


class Answer(msgspec.Struct, frozen=True):
    """What the node says to one request. Without runs: ask over HTTP."""

    reason: str = ""
    skip_prefix: str = ""
    """Do not ask for paths that begin so: nothing of that mount is ever handed over."""
    info: ObjectInfo | None = None
    start: int = 0
    runs: tuple[Run, ...] = ()
    lease_s: float = 0.0
    """How long the descriptors may be read before the node is asked again."""
    fresh_s: float = 0.0
    """How much longer the version counts as the store's current one."""
    age_s: float = 0.0


class Answers(msgspec.Struct, frozen=True):
    """What the node says to a request for many objects: an `Answer` to each, in order; descriptors come in the same order."""

    answers: tuple[msgspec.Raw, ...] = ()
    """None where the request was refused as a whole."""


def frame(body: bytes) -> bytes:
    """A message as it goes over the socket: its length in four bytes, then itself."""
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def remote_version(info: ObjectInfo) -> Version:
    """The version that an S3 client of the node sees: it knows no other identity than these two."""
    return Version(f"id:{info.version_id}") if info.version_id else Version(f"etag:{info.etag}")


class _Descriptor:
    """Owns a descriptor that was received."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)


class _Lease:
    """Open files with consecutive bytes of one version, and until when they may be read."""

    def __init__(self, answer: Answer, info: ObjectInfo, fds: list[_Descriptor], now: float) -> None:
        self.info = info
        self.start = answer.start
        self.until = now + answer.lease_s
        self.fresh_until = now + min(answer.lease_s, answer.fresh_s)
        self._age = answer.age_s - now
        self._runs = tuple(zip(answer.runs, fds, strict=True))
        self.end = answer.start + sum(run.length for run in answer.runs)

    def reading(self, byte_range: ByteRange | None, now: float) -> Reading | None:
        """The bytes of `byte_range` (cut at the object's end) if all are here."""
        wanted = byte_range or ByteRange(0, self.info.size)
        end = min(wanted.end, self.info.size)
        if not self.start <= wanted.start < end <= self.end:
            return None
        return _LeasedReading(self.info, ByteRange(wanted.start, end), self._cut(wanted.start, end), self._age + now)

    def _cut(self, start: int, end: int) -> tuple[FileSlice, ...]:
        slices = []
        at = self.start
        for run, owner in self._runs:
            first, last = max(start, at), min(end, at + run.length)
            if first < last:
                slices.append(FileSlice(owner.fd, run.offset + first - at, last - first, owner, until=self.until))
            at += run.length
        return tuple(slices)


class _LeasedReading(Reading):
    __slots__ = ("_slices",)

    def __init__(self, info: ObjectInfo, byte_range: ByteRange, slices: tuple[FileSlice, ...], age_s: float) -> None:
        super().__init__(info, byte_range, served=Served.HIT, age_s=age_s, ready=slices)
        self._slices = slices

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        for piece in self._slices:
            done = 0
            while done < piece.length:
                data = os.pread(piece.fd, min(_PIECE_BYTES, piece.length - done), piece.offset + done)
                if not data:
                    raise HeadraceError(
                        f"{self.info.key}: its pages were dropped while they were read; read again", path=self.info.key
                    )
                yield data
                done += len(data)

    async def aclose(self) -> None:
        return


class HandoffChannel:
    """Asks the node on this host. Never raises: whatever goes wrong means that HTTP is asked instead."""

    def __init__(self, socket_path: str, identity: SigningIdentity, host: str, clock: Clock) -> None:
        self._path = socket_path
        self._identity = identity
        self._host = host
        self._clock = clock
        self._idle: list[socket.socket] = []
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._away_until = 0.0
        self._skipped: OrderedDict[str, float] = OrderedDict()

    async def ask(self, key: str, byte_range: ByteRange | None) -> _Lease | None:
        """Open files around `byte_range` of `key` (`bucket/key…`), when the node has them at hand."""
        if self._is_skipped(key):
            return None
        asked = await self._asked(frame(self._head(key, byte_range)), Answer)
        return None if asked is None else self._lease(asked[0], asked[1], self._clock.monotonic())

    async def ask_many(self, keys: Sequence[str]) -> dict[str, _Lease]:
        """Open files with all bytes of those of the first 64 `keys` that the node has at hand, as far as they fit."""
        wanted = [key for key in keys if not self._is_skipped(key)][:MAX_SLICES]
        while wanted and len(body := msgspec.json.encode(wanted)) > _NAMES_BYTES:
            wanted = wanted[: len(wanted) // 2]
        if not wanted:
            return {}
        asked = await self._asked(frame(self._head_of_many(body) + body), Answers)
        if asked is None or len(asked[0].answers) != len(wanted):
            return {}
        found: dict[str, _Lease] = {}
        now, taken = self._clock.monotonic(), 0
        for key, raw in zip(wanted, asked[0].answers, strict=True):
            answer = msgspec.json.decode(raw, type=Answer)
            lease = self._lease(answer, asked[1][taken : taken + len(answer.runs)], now)
            taken += len(answer.runs)
            if lease is not None:
                lease.info = msgspec.structs.replace(lease.info, key=key)
                found[key] = lease
        return found

    def _is_skipped(self, key: str) -> bool:
        now = self._clock.monotonic()
        return now < self._away_until or any(key.startswith(prefix) and now < until for prefix, until in self._skipped.items())

    async def _asked(self, message: bytes, kind: type[T]) -> tuple[T, list[_Descriptor]] | None:
        async with self._gate:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    body, fds = await self._exchange(message)
                return msgspec.json.decode(body, type=kind), fds
            except (OSError, EOFError, TimeoutError, msgspec.MsgspecError):
                self._away_until = self._clock.monotonic() + _AWAY_S
                return None

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _lease(self, answer: Answer, fds: list[_Descriptor], now: float) -> _Lease | None:
        if answer.skip_prefix:
            self._skipped[answer.skip_prefix] = now + _SKIP_S
            if len(self._skipped) > _MAX_SKIPPED:
                self._skipped.popitem(last=False)
        if answer.info is None or not answer.runs or len(fds) != len(answer.runs):
            return None
        info = msgspec.structs.replace(answer.info, version=remote_version(answer.info))
        return _Lease(answer, info, fds, now)

    def _head(self, key: str, byte_range: ByteRange | None) -> bytes:
        path = b"/" + quote_path(key.encode())
        headers = [("host", self._host)]
        if byte_range is not None:
            start = byte_range.start - byte_range.start % _WINDOW_BYTES
            headers.append(("range", f"bytes={byte_range.start}-{byte_range.end - 1}"))
            headers.append((WINDOW_HEADER, f"{start}-{max(byte_range.end, start + _WINDOW_BYTES)}"))
        return self._signed(UnsignedRequest(b"GET", path, (), tuple((name.encode(), value.encode()) for name, value in headers)))

    def _head_of_many(self, body: bytes) -> bytes:
        hashed = hashlib.sha256(body).hexdigest().encode()
        return self._signed(UnsignedRequest(b"POST", b"/", (), ((b"host", self._host.encode()),), hashed))

    def _signed(self, unsigned: UnsignedRequest) -> bytes:
        added = sign_headers(unsigned, self._identity, self._clock.time())
        pairs = (*unsigned.headers, *((name.encode(), value.encode()) for name, value in added))
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in pairs)
        return unsigned.method + b" " + unsigned.path + b" HTTP/1.1\r\n" + lines + b"\r\n"

    async def _exchange(self, message: bytes) -> tuple[bytes, list[_Descriptor]]:
        loop = asyncio.get_running_loop()
        reused = bool(self._idle)
        sock = self._idle.pop() if reused else await self._connect()
        try:
            try:
                await loop.sock_sendall(sock, message)
                answer = await _receive(loop, sock)
            except (ConnectionError, EOFError):
                if not reused:
                    raise
                sock.close()  # the worker behind it has ended since; its successor listens
                self.close()
                sock = await self._connect()
                await loop.sock_sendall(sock, message)
                answer = await _receive(loop, sock)
        except BaseException:  # whatever it is: tidied up here, raised on
            sock.close()
            raise
        self._idle.append(sock)
        return answer

    async def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self._path)
        except BaseException:  # whatever it is: tidied up here, raised on
            sock.close()
            raise
        return sock


async def _receive(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> tuple[bytes, list[_Descriptor]]:
    """One framed message and the descriptors that came with it. Raises `EOFError` for anything else."""
    data = bytearray()
    fds: list[_Descriptor] = []
    wanted = LENGTH_BYTES
    while len(data) < wanted:
        try:
            part, ancillary, flags, _ = sock.recvmsg(MAX_ANSWER_BYTES, socket.CMSG_SPACE(MAX_SLICES * 4), socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            await _readable(loop, sock)
            continue
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                fds.extend(_Descriptor(fd) for fd in numbers)
        data += part
        if not part or flags & socket.MSG_CTRUNC:
            raise EOFError("the node closed the connection, or sent more than it may")
        if len(data) >= LENGTH_BYTES:
            wanted = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "big")
            if wanted > LENGTH_BYTES + MAX_ANSWER_BYTES or len(data) > wanted:
                raise EOFError("the node sent more than it may")
    return bytes(data[LENGTH_BYTES:]), fds


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready = loop.create_future()
    loop.add_reader(sock, _mark, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _mark(ready: asyncio.Future[None]) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        ready.set_result(None)


class HandoffStore(Store):
    """Reads from open files what the node has at hand, and everything else from `inner`, an account store of that node."""

    def __init__(self, inner: Store, channel: HandoffChannel, clock: Clock) -> None:
        self._inner = inner
        self._channel = channel
        self._clock = clock
        self._leases: OrderedDict[str, _Lease] = OrderedDict()

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        now = self._clock.monotonic()
        lease = self._held(key, now)
        if lease is not None and now < lease.fresh_until:
            found = lease.reading(byte_range, now)
            if found is not None:
                return found
        return self._inner.peek(key, byte_range, files=files)

    async def info(self, key: str) -> ObjectInfo:
        return await self._inner.info(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        now = self._clock.monotonic()
        held = self._held(key, now)
        if held is not None and (held.info.version == version or (version is None and now < held.fresh_until)):
            found = held.reading(byte_range, now)
            if found is not None:
                return found
        lease = await self._channel.ask(key, byte_range)
        if lease is not None:
            lease.info = msgspec.structs.replace(lease.info, key=key)
            self._leases[key] = lease
            self._leases.move_to_end(key)
            if len(self._leases) > _MAX_LEASES:
                self._leases.popitem(last=False)
            if version is None or lease.info.version == version:
                found = lease.reading(byte_range, self._clock.monotonic())
                if found is not None:
                    return found
        return await self._inner.read(key, byte_range, version=version)

    async def at_hand(self, keys: Sequence[str]) -> dict[str, Reading]:
        """Those of `keys` that the node hands over whole, asked for together. Nothing is kept for later reads."""
        now = self._clock.monotonic()
        read = {key: lease.reading(None, now) for key, lease in (await self._channel.ask_many(keys)).items()}
        return {key: reading for key, reading in read.items() if reading is not None}

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        return await self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit)

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        return await self._inner.tags(key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self._inner.part(info, number)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        try:
            return await self._inner.write(key, body, attributes, condition=condition)
        finally:
            self.forget(key)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        try:
            return await self._inner.copy(source, key, attributes, condition=condition)
        finally:
            self.forget(key)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        try:
            await self._inner.delete(key, condition=condition)
        finally:
            self.forget(key)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        try:
            await self._inner.set_tags(key, tags)
        finally:
            self.forget(key)

    def multipart(self) -> Multipart:
        return _HandoffUploads(self._inner.multipart(), self)

    def buckets(self) -> Buckets:
        return self._inner.buckets()

    def forget(self, key: str) -> None:
        """Ask again for an object that was written here."""
        self._leases.pop(key, None)

    async def close(self) -> None:
        self._leases.clear()
        self._channel.close()
        await self._inner.close()

    def _held(self, key: str, now: float) -> _Lease | None:
        lease = self._leases.get(key)
        if lease is not None and now >= lease.until:
            del self._leases[key]
            return None
        return lease


class _HandoffUploads(PassingUploads):
    def __init__(self, inner: Multipart, store: HandoffStore) -> None:
        super().__init__(inner)
        self._store = store

    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        try:
            return await self.inner.complete(upload, parts, condition=condition, checksums=checksums)
        finally:
            self._store.forget(upload.key)
