"""Open files instead of bytes, for authorised clients on this host.

One request is the head of a signed GET, framed; or that of a signed POST of `/` with the names of many
objects behind it. The caller is authenticated and the policy asked for each object before anything is
looked up; then either descriptors of segment files go back, or a word that sends the client to the S3
gateway, which answers everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import socket
import stat
from collections.abc import Callable
from functools import partial

import msgspec

from headrace.gateways.http.head import HeadParser
from headrace.gateways.http.messages import BadFraming, Request
from headrace.gateways.s3.auth import Authenticator
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.ranges import Suffix, parse_range
from headrace.gateways.s3.target import check_names, read_target
from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError
from headrace.model.events import AccessRefused, ReadServed
from headrace.model.mounts import Freshness, MountSpec, Residency
from headrace.model.objects import ByteRange, Emit
from headrace.model.reading import FileSlice, Reading
from headrace.namespace.namespace import Namespace
from headrace.policy.rules import Action, Caller, Policy
from headrace.stores.handoff import (
    LENGTH_BYTES,
    MAX_ANSWER_BYTES,
    MAX_HEAD_BYTES,
    MAX_SLICES,
    WINDOW_HEADER,
    Answer,
    Answers,
    Run,
    frame,
)

LEASE_S = 5.0
_MAX_CONNECTIONS = 256
_MAX_LEARNING = 32
_MAX_HEADERS = 32
_IDLE_S = 60.0
_MESSAGE_S = 5.0
_WINDOW = re.compile(rb"(\d{1,18})-(\d{1,18})")
_MAX_WINDOW_BYTES = 16 * 1024 * 1024
_PEER = "this host"
_HEAD_END = b"\r\n\r\n"
_ALONE = msgspec.json.encode(Answer("ask for it alone"))
_ANSWERS_BYTES = 256


def may_hand_over(spec: MountSpec) -> bool:
    """Whether descriptors of this mount's pages may leave the process: only what may lie on a disk and is no one caller's."""
    return spec.residency is Residency.DISK and not spec.acls and all(may_hand_over(member) for member in spec.union)


class Decided(msgspec.Struct, frozen=True):
    """An answer, or one to each of many, and the slices whose descriptors go with it; they keep those open while held."""

    answer: Answer | Answers
    slices: tuple[FileSlice, ...] = ()


Peek = Callable[[str, Request, ByteRange | None], Reading | None]


class HandoffDesk:
    """Decides on requests. `policy` and the namespace's table are looked up anew for each.

    A worker that does not know an object's version yet says no at once and asks for it in the background: the
    client's next read finds it.
    """

    def __init__(
        self, namespace: Namespace, authenticator: Authenticator, policy: Callable[[], Policy], *, clock: Clock, emit: Emit
    ) -> None:
        self._namespace = namespace
        self._authenticator = authenticator
        self._policy = policy
        self._clock = clock
        self._emit = emit
        self._learning: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        for task in self._learning.values():
            task.cancel()
        await asyncio.gather(*self._learning.values(), return_exceptions=True)

    def decide(self, message: bytes) -> Decided:
        """The answer to one message. Raises `BadFraming` for what is neither a GET of an object nor a POST of names."""
        head, end, body = message.partition(_HEAD_END)
        request = HeadParser(_MAX_HEADERS).parse(head + end, _PEER)
        if request.query or not ((request.method == b"GET" and not body) or (request.method == b"POST" and request.path == b"/")):
            raise BadFraming(400, "only a plain GET of an object, or a POST of names to /, is answered here")
        try:
            caller = self._authenticator.identify(request, self._clock.time()).caller
            path = read_target(request, "").path
        except S3Error as error:
            return self._refused(str(error), request, error.caller, "")
        if request.method == b"POST":
            return self._decide_many(request, caller, body)
        return self._decide_one(request, caller, path, self._near)

    def _decide_many(self, request: Request, caller: Caller, body: bytes) -> Decided:
        """Whole objects, as many as descriptors and their answers fit into one message; the others are asked for alone."""
        if hashlib.sha256(body).hexdigest().encode() != request.headers.get(b"x-amz-content-sha256"):
            raise BadFraming(400, "the names are not those that were signed")
        try:
            names = msgspec.json.decode(body, type=list[str])
        except msgspec.MsgspecError as error:
            raise BadFraming(400, f"names are a JSON array of strings: {error}") from error
        if len(names) > MAX_SLICES:
            raise BadFraming(400, f"at most {MAX_SLICES} names are answered at once")
        answers: list[msgspec.Raw] = []
        slices: tuple[FileSlice, ...] = ()
        room = MAX_ANSWER_BYTES - _ANSWERS_BYTES - len(names) * len(_ALONE)
        for name in names:
            one = self._decide_one(request, caller, "/" + name, self._whole) if _is_name(name) else Decided(Answer("no name"))
            encoded = msgspec.json.encode(one.answer)
            if len(slices) + len(one.slices) > MAX_SLICES or len(encoded) > room:
                answers.append(msgspec.Raw(_ALONE))
                continue
            room -= len(encoded)
            slices += one.slices
            answers.append(msgspec.Raw(encoded))
        return Decided(Answers(tuple(answers)), slices)

    def _decide_one(self, request: Request, caller: Caller, path: str, peek: Peek) -> Decided:
        mount = self._namespace.mount_of(path)
        decision = self._policy().decide(caller, Action.READ, path, anonymous_mount=mount is not None and mount.spec.anonymous)
        if not decision.allowed:
            return self._refused(decision.reason, request, caller.key_id, path)
        if mount is None:
            return Decided(Answer("nothing is mounted there"))
        if not may_hand_over(mount.spec):
            skip = "" if self._namespace.table.below(mount.path) else mount.path.strip("/")
            return Decided(Answer("pages of this mount stay in the node", skip_prefix=skip + "/" if skip else ""))
        return self._at_hand(path, request, mount.spec, peek)

    def _refused(self, reason: str, request: Request, caller: str, path: str) -> Decided:
        self._emit(AccessRefused(reason=reason, caller=caller, method="HANDOFF", path=path, peer=request.peer))
        return Decided(Answer("refused"))

    def _at_hand(self, path: str, request: Request, spec: MountSpec, peek: Peek) -> Decided:
        wish = parse_range(request.headers.get(b"range"))
        if isinstance(wish, Suffix):
            return Decided(Answer("a range from the end is asked for over HTTP"))
        started = self._clock.monotonic()
        reading = peek(path, request, wish)
        if reading is None:
            if Freshness.parse(spec.freshness).seconds > 0:
                self._learn(path)
            return Decided(Answer("not at hand"))
        slices = tuple(piece for piece in reading.ready or () if isinstance(piece, FileSlice))
        seconds = self._clock.monotonic() - started
        self._emit(ReadServed(spec.path, path, wish.length if wish else reading.range.length, seconds, reading.served, 200))
        answer = Answer(
            info=reading.info,
            start=reading.range.start,
            runs=tuple(Run(piece.offset, piece.length) for piece in slices),
            lease_s=LEASE_S,
            fresh_s=max(0.0, min(Freshness.parse(spec.freshness).seconds - reading.age_s, LEASE_S)),
            age_s=reading.age_s,
        )
        return Decided(answer, slices)

    def _learn(self, path: str) -> None:
        if path in self._learning or len(self._learning) >= _MAX_LEARNING:
            return
        task = asyncio.ensure_future(self._ask_version(path))
        self._learning[path] = task
        task.add_done_callback(lambda _: self._learning.pop(path, None))

    async def _ask_version(self, path: str) -> None:
        with contextlib.suppress(HeadraceError):
            await self._namespace.info(path)

    def _near(self, path: str, request: Request, wish: ByteRange | None) -> Reading | None:
        """What was wished for, and what lies around it where that is at hand too."""
        peek = self._namespace.peek
        return _files(peek, path, _window(request, wish)) or _files(peek, path, wish)

    def _whole(self, path: str, _request: Request, _wish: ByteRange | None) -> Reading | None:
        """All of an object, however short."""
        return _files(partial(self._namespace.peek, files=True), path, None)


def _is_name(name: str) -> bool:
    bucket, _, key = name.partition("/")
    try:
        check_names(bucket, key)
    except S3Error:
        return False
    return bool(bucket and key)


def _files(peek: Callable[[str, ByteRange | None], Reading | None], path: str, wanted: ByteRange | None) -> Reading | None:
    with contextlib.suppress(HeadraceError):  # whatever it is, the S3 gateway says it in its own words
        reading = peek(path, wanted)
        if reading is None or not reading.ready or not reading.info.etag or len(reading.ready) > MAX_SLICES:
            return None
        if all(isinstance(piece, FileSlice) and _is_plain_file(piece.fd) for piece in reading.ready):
            return reading
    return None


def _window(request: Request, wish: ByteRange | None) -> ByteRange | None:
    match = _WINDOW.fullmatch(request.headers.get(WINDOW_HEADER.encode(), b""))
    if wish is None or match is None:
        return wish
    window = ByteRange(int(match[1]), int(match[2]))
    covers = window.start <= wish.start and wish.end <= window.end
    return window if covers and window.length <= _MAX_WINDOW_BYTES else wish


def _is_plain_file(fd: int) -> bool:
    """A descriptor that may leave: of a file on a disk that still has its name, and that cannot be written through it."""
    status = os.fstat(fd)
    read_only = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    return read_only and stat.S_ISREG(status.st_mode) and status.st_nlink > 0


class HandoffServer:
    """Answers clients on a listening Unix socket, which several workers may share."""

    def __init__(self, desk: HandoffDesk) -> None:
        self._desk = desk
        self._accepting: asyncio.Task[None] | None = None
        self._talks: set[asyncio.Task[None]] = set()

    def start(self, listener: socket.socket) -> None:
        """Accept on `listener` until `close`."""
        listener.setblocking(False)
        self._accepting = asyncio.ensure_future(self._accept(listener))

    async def close(self) -> None:
        """Stop accepting and end the conversations. Descriptors that were handed over stay good."""
        tasks = [*self._talks, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._desk.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(0.1)  # out of descriptors: those in use come back
                continue
            if len(self._talks) >= _MAX_CONNECTIONS:
                connection.close()
                continue
            connection.setblocking(False)
            task = asyncio.ensure_future(self._talk(connection))
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)

    async def _talk(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection, contextlib.suppress(OSError, EOFError, TimeoutError, BadFraming):
            while True:
                head = await _read_head(loop, connection)
                decided = self._desk.decide(head)
                await _send(loop, connection, decided)


async def _read_head(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    async with asyncio.timeout(_IDLE_S):
        data = await loop.sock_recv(connection, LENGTH_BYTES + MAX_HEAD_BYTES)
    async with asyncio.timeout(_MESSAGE_S):
        while True:
            if len(data) >= LENGTH_BYTES:
                length = int.from_bytes(data[:LENGTH_BYTES], "big")
                if not 0 < length <= MAX_HEAD_BYTES or len(data) > LENGTH_BYTES + length:
                    raise BadFraming(400, "a message is one framed request head")
                if len(data) == LENGTH_BYTES + length:
                    return data[LENGTH_BYTES:]
            part = await loop.sock_recv(connection, LENGTH_BYTES + MAX_HEAD_BYTES)
            if not part:
                raise EOFError
            data += part


async def _send(loop: asyncio.AbstractEventLoop, connection: socket.socket, decided: Decided) -> None:
    message = frame(msgspec.json.encode(decided.answer))
    fds = [piece.fd for piece in decided.slices]
    # a client that does not take one answer before the next is asked for is not waited for: BlockingIOError ends it
    sent = socket.send_fds(connection, [message], fds) if fds else 0
    if sent < len(message):
        await loop.sock_sendall(connection, message[sent:])
