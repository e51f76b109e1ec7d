"""A real gateway on a real socket, in a thread with its own loop, over stores in memory; and ways to talk to it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import uvloop
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from headrace.gateways.data_port import serve
from headrace.gateways.s3.keys import KeyRing
from headrace.gateways.s3.server import S3Gateway, Server
from headrace.gateways.settings import GatewaySettings
from headrace.gateways.webhdfs.server import WebHdfsGateway
from headrace.model.mounts import MountSpec, WriteMode
from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.reading import Buffer, Piece, Reading, Served
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.policy.rules import Policy
from headrace.stores.keys import cut_range
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store

KEY_ID = "analyst"
SECRET = "a-secret-for-tests-only"
DEADLINE_S = 10.0


class MovableClock:
    """The machine's clock, moved by `offset_s`."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time() + self.offset_s


class ReadyReading(Reading):
    """A hit: all of it at hand."""

    __slots__ = ()

    def __init__(self, info: ObjectInfo, byte_range: ByteRange, ready: tuple[Piece, ...]) -> None:
        super().__init__(info, byte_range, served=Served.HIT, ready=ready)

    async def __aiter__(self) -> Any:
        for piece in self.ready or ():
            assert isinstance(piece, Buffer)
            yield piece

    async def aclose(self) -> None:
        """Nothing is held."""


class WarmStore(MemoryStore):
    """A memory store that answers reads at once, as a warm cache does."""

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        found = self._find(key)
        cut = cut_range(byte_range, found.info.size, key)
        return ReadyReading(found.info, cut, (memoryview(found.body)[cut.start : cut.end],))


def spec_of(path: str, *, anonymous: bool, writable: bool, acls: bool) -> MountSpec:
    write = WriteMode.THROUGH if writable else WriteMode.NONE
    return MountSpec(path=path, store="memory://", anonymous=anonymous, write=write, create_buckets=writable, acls=acls)


class RunningGateway:
    """A gateway that serves; its state may be changed between requests."""

    def __init__(
        self, stores: dict[str, Store], settings: GatewaySettings, anonymous: tuple[str, ...], policy: Policy, *,
        writable: bool, acls: bool = False,
    ) -> None:  # fmt: skip
        self.stores = stores
        self.events: list[object] = []
        self.clock = MovableClock()
        self.keys = KeyRing({KEY_ID: SECRET})
        self.namespace = Namespace(
            MountTable(
                Mount(path, spec_of(path, anonymous=path in anonymous, writable=writable, acls=acls), store)
                for path, store in stores.items()
            )
        )
        self.gateway = S3Gateway(self.namespace, self.keys, policy, clock=self.clock, emit=self.events.append, settings=settings)
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-tokens-"))
        self.webhdfs = WebHdfsGateway(
            self.namespace, self.keys, lambda: self.gateway.policy, clock=self.clock, emit=self.events.append,
            settings=settings.webhdfs, region=settings.region, folder=self.folder / "tokens",
        )  # fmt: skip
        self.loop: asyncio.AbstractEventLoop
        self.server: Server
        self.host = "127.0.0.1"
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something on the server's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_S)

    def sign(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> bytes:
        """A whole signed request's head (and body) as bytes. `path` is sent and signed as it stands."""
        return signed_request(self.endpoint, method, path, headers, **options)

    def talk(self, data: bytes, **options: Any) -> list[Answer]:
        return exchange(self.host, self.port, data, **options)

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> Answer:
        """One signed request and its answer."""
        return self.talk(self.sign(method, path, headers, **options), heads=method == "HEAD")[0]


class Answer:
    """One parsed response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def code(self) -> str:
        text = self.body.decode("utf-8", "replace")
        return text.partition("<Code>")[2].partition("</Code>")[0]

    def __repr__(self) -> str:
        return f"Answer({self.status}, {self.headers}, {self.body[:300]!r})"


def signed_request(
    endpoint: str, method: str, path: str, headers: dict[str, str] | None = None, *,
    body: bytes = b"", key_id: str = KEY_ID, secret: str = SECRET, region: str = "us-east-1", host: str = "", presign: int = 0,
    close: bool = True, tamper: Callable[[AWSRequest], None] | None = None,
) -> bytes:  # fmt: skip
    """Signed by botocore, so that both sides of a signature are not our own."""
    base = f"http://{host}" if host else endpoint
    request = AWSRequest(method, base + path, headers=dict(headers or {}), data=body or None)
    request.context["signing"] = {}
    credentials = Credentials(key_id, secret)
    if presign:
        S3SigV4QueryAuth(credentials, "s3", region, expires=presign).add_auth(request)
    else:
        S3SigV4Auth(credentials, "s3", region).add_auth(request)
    if tamper is not None:
        tamper(request)
    target = request.url.partition("://")[2].partition("/")[2]
    return raw_request(method, "/" + target, base.partition("://")[2], dict(request.headers.items()), body, close=close)


def raw_request(method: str, target: str, host: str, headers: dict[str, str], body: bytes = b"", *, close: bool = True) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "content-length"]
    if body:
        lines.append(f"content-length: {len(body)}")
    if close:
        lines.append("connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def exchange(
    host: str, port: int, data: bytes, *, heads: bool = False, eof: bool = False, timeout_s: float = DEADLINE_S
) -> list[Answer]:
    """Send `data`, read until the server closes, and split the answers."""
    with socket.create_connection((host, port), timeout=timeout_s) as sock:
        with suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(data)
        if eof:
            sock.shutdown(socket.SHUT_WR)
        received = bytearray()
        try:
            while chunk := sock.recv(1 << 18):
                received += chunk
        except ConnectionResetError:
            received += b""
    return split_answers(bytes(received), heads=heads)


def split_answers(raw: bytes, *, heads: bool = False) -> list[Answer]:
    answers = []
    while raw:
        head, found, raw = raw.partition(b"\r\n\r\n")
        assert found, f"an answer without an end of its head: {head!r}"
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        if status == 100:
            answers.append(Answer(status, headers, b""))
            continue
        length = 0 if heads or status in (204, 304) else int(headers["content-length"])
        answers.append(Answer(status, headers, raw[:length]))
        assert len(raw) >= length, f"a body of {len(raw)} bytes where {length} were announced"
        raw = raw[length:]
    return answers


@contextmanager
def gateway(
    stores: dict[str, Store] | None = None, *, settings: GatewaySettings | None = None, anonymous: tuple[str, ...] = (),
    policy: Policy | None = None, loop: str = "uvloop", writable: bool = False,
    acls: bool = False,
) -> Iterator[RunningGateway]:  # fmt: skip
    """A gateway over `stores` by mount path; the default is one warm store at `/data`."""
    if stores is None:
        stores = {"/data": WarmStore()}
    running = RunningGateway(
        stores, settings or GatewaySettings(sweep_s=0.05), anonymous, policy or Policy(), writable=writable, acls=acls
    )
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    running.port = sock.getsockname()[1]
    ready = threading.Event()

    async def main(stop: asyncio.Event) -> None:
        running.server = await serve(running.gateway, running.webhdfs, sock)
        ready.set()
        await stop.wait()
        await running.server.drain(1.0)

    def work() -> None:
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            running.loop = runner.get_loop()
            stopper.append(asyncio.Event())
            runner.run(main(stopper[0]))

    stopper: list[asyncio.Event] = []
    thread = threading.Thread(target=work, name="gateway")
    thread.start()
    assert ready.wait(DEADLINE_S)
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(stopper[0].set)
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        sock.close()
        shutil.rmtree(running.folder)


def until(condition: Callable[[], bool], *, deadline_s: float = DEADLINE_S) -> None:
    """Poll until `condition` holds."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
