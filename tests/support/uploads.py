"""Uploads in every form that S3 knows, signed here from AWS's pages alone, and a door that takes nothing but uploads."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import socket
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from headrace.gateways.http.body import IncomingBody
from headrace.gateways.http.head import CHUNKED, HeadParser, body_length
from headrace.gateways.http.messages import BadFraming, Glanced, Request, Response, render_fields
from headrace.gateways.http.server import HttpServer
from headrace.gateways.s3.auth import Authenticator, Identity
from headrace.gateways.s3.context import Call, Noted
from headrace.gateways.s3.errors import S3Error, error_body
from headrace.gateways.s3.incoming import incoming_body
from headrace.gateways.s3.keys import KeyRing
from headrace.gateways.s3.post_form import answer_post, read_post
from headrace.gateways.s3.routes import Level, Operation, Route
from headrace.gateways.s3.target import read_target
from headrace.gateways.settings import GatewaySettings
from headrace.model.clock import SystemClock
from headrace.model.writing import Body
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import MountTable
from headrace.policy.rules import Action, Policy
from support.gateway import KEY_ID, SECRET

REGION = "us-east-1"
NOW_S = 1_770_000_000.0
EMPTY = hashlib.sha256(b"").hexdigest()
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def day_key(secret: str, date: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for step in (date, REGION, "s3", "aws4_request"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return key


class Signer:
    """A client's side of Signature Version 4, for one request and then for its body's chunks."""

    def __init__(self, *, now_s: float = NOW_S, key_id: str = KEY_ID, secret: str = SECRET) -> None:
        self.stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        self.scope = f"{self.stamp[:8]}/{REGION}/s3/aws4_request"
        self.key = day_key(secret, self.stamp[:8])
        self.key_id = key_id
        self.previous = ""

    def _sign(self, *lines: str) -> str:
        return hmac.new(self.key, "\n".join(lines).encode(), hashlib.sha256).hexdigest()

    def head(self, method: str, path: str, headers: dict[str, str], content: str) -> dict[str, str]:
        """`headers` with those of a signature over all of them."""
        every = {**{n.lower(): v for n, v in headers.items()}, "x-amz-date": self.stamp, "x-amz-content-sha256": content}
        names = sorted(every)
        canonical = "\n".join((method, path, "", *(f"{n}:{every[n]}" for n in names), "", ";".join(names), content))
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        self.previous = self._sign("AWS4-HMAC-SHA256", self.stamp, self.scope, digest)
        every["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key_id}/{self.scope},SignedHeaders={';'.join(names)},Signature={self.previous}"
        )
        return every

    def chunk(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.previous = self._sign("AWS4-HMAC-SHA256-PAYLOAD", self.stamp, self.scope, self.previous, EMPTY, digest)
        return self.previous

    def trailer(self, lines: dict[str, str]) -> str:
        text = "".join(f"{name}:{value}\n" for name, value in sorted(lines.items()))
        digest = hashlib.sha256(text.encode()).hexdigest()
        return self._sign("AWS4-HMAC-SHA256-TRAILER", self.stamp, self.scope, self.previous, digest)


def framed(chunks: list[bytes], signer: Signer | None = None, trailer: dict[str, str] | None = None) -> bytes:
    """The plainest way of writing `aws-chunked`."""
    out = b""
    for chunk in [*chunks, b""]:
        signature = f";chunk-signature={signer.chunk(chunk)}".encode() if signer is not None else b""
        out += b"%x%b\r\n" % (len(chunk), signature) + (chunk + b"\r\n" if chunk else b"")
    for name, value in (trailer or {}).items():
        out += f"{name}:{value}\r\n".encode()
    if signer is not None and trailer is not None:
        out += f"x-amz-trailer-signature:{signer.trailer(trailer)}\r\n".encode()
    return out + b"\r\n"


@dataclass
class Upload:
    """One upload as it goes over the wire. `extra` headers are signed, `added` ones come after the signature."""

    data: bytes = b"x" * 20_000 + b"y" * 9_000 + b"z"
    content: str = "UNSIGNED-PAYLOAD"
    chunk_bytes: int = 10_000
    trailer: dict[str, str] | None = None
    declared: str | None = None
    decoded_length: str | None = ""
    extra: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    tamper: Callable[[bytes], bytes] = bytes
    path: str = "/data/key"
    now_s: float = NOW_S

    def wire(self) -> tuple[dict[str, str], bytes]:
        """Headers and body."""
        headers = {"host": "s3.example", **self.extra}
        streamed = self.content.startswith("STREAMING-")
        if streamed and self.decoded_length is not None:
            headers["x-amz-decoded-content-length"] = self.decoded_length or str(len(self.data))
        if self.trailer is not None or self.declared is not None:
            headers["x-amz-trailer"] = self.declared if self.declared is not None else ",".join(self.trailer or ())
        signer = Signer(now_s=self.now_s)
        headers = signer.head("PUT", self.path, headers, self.content)
        if not streamed:
            return {**headers, **self.added}, self.tamper(self.data)
        chunks = [self.data[at : at + self.chunk_bytes] for at in range(0, len(self.data), self.chunk_bytes)]
        with_signer = signer if "AWS4" in self.content else None
        trailer = self.trailer if self.content.endswith("-TRAILER") else None
        if trailer is None and self.content.endswith("-TRAILER"):
            trailer = {}
        return {**headers, **self.added}, self.tamper(framed(chunks, with_signer, trailer))


def call_for(
    method: str, target: str, headers: dict[str, str], body: bytes, *, cuts: tuple[int, ...] = (), cut_at: int | None = None,
    now_s: float = NOW_S, length: bool = True, asked: list[bool] | None = None,
) -> Call:  # fmt: skip
    """An authenticated call whose body has arrived in pieces cut at `cuts`, and broke off behind `cut_at` bytes."""
    every = {"content-length": str(len(body)), **headers} if length else headers
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in every.items())]
    request = HeadParser(100).parse("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n", "peer")
    give_body(request, body, cuts, cut_at, asked)
    authenticator = Authenticator(KeyRing({KEY_ID: SECRET}), REGION)
    return call_of(request, authenticator.identify(request, now_s), now_s, authenticator)


def call_of(request: Request, identity: Identity, now_s: float, authenticator: Authenticator) -> Call:
    """What an operation would be handed, over a namespace without mounts."""
    route = Route(request.method.decode(), Level.OBJECT, "", Operation.NOT_IMPLEMENTED, Action.WRITE)
    namespace = Namespace(MountTable(()))
    target = read_target(request, "")
    return Call(request, identity, target, route, namespace, Policy(), REGION, now_s, authenticator, Noted(), lambda _: None)


def give_body(request: Request, body: bytes, cuts: tuple[int, ...], cut_at: int | None, asked: list[bool] | None) -> None:
    length = body_length(request)
    if not length:
        return
    wanted = asked if asked is not None else []
    incoming = IncomingBody(length, 1 << 20, lambda: wanted.append(True), lambda on: None)
    wire = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if length == CHUNKED else body
    kept = wire if cut_at is None else wire[:cut_at]
    places = sorted({min(max(cut, 0), len(kept)) for cut in cuts} | {0, len(kept)})
    for start, end in itertools.pairwise(places):
        incoming.feed(kept[start:end])
    if not incoming.done:
        incoming.fail(BadFraming(400, "the body ended early"))
    request.body = incoming


async def read(body: Body) -> bytes:
    """All of a body."""
    return b"".join([bytes(piece) async for piece in body])


async def pieces_until_error(body: Body) -> tuple[bytes, S3Error]:
    """What a body gave out before it turned out to be wrong."""
    given = b""
    try:
        async for piece in body:
            given += piece
    except S3Error as error:
        return given, error
    raise AssertionError(f"a body of {len(given)} bytes was taken that is wrong")


def form_fields(
    policy: dict[str, object] | str, key: str = "user/file", *, now_s: float = NOW_S, secret: str = SECRET, **extra: str
) -> dict[str, str]:
    """A form's fields with a signature over its policy."""
    signer = Signer(now_s=now_s, secret=secret)
    text = policy if isinstance(policy, str) else json.dumps(policy)
    encoded = b64encode(text.encode()).decode()
    return {
        "key": key,
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{KEY_ID}/{signer.scope}",
        "x-amz-date": signer.stamp,
        "policy": encoded,
        "x-amz-signature": hmac.new(signer.key, encoded.encode(), hashlib.sha256).hexdigest(),
        **extra,
    }


def form_body(
    fields: dict[str, str], data: bytes, *, filename: str = "file.bin", boundary: str = "BoundaryOfForms", behind: str = ""
) -> bytes:
    """The plainest way of writing a form."""
    out = b""
    for name, value in fields.items():
        out += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    out += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'.encode()
    out += b"Content-Type: application/octet-stream\r\n\r\n" + data + f"\r\n--{boundary}".encode()
    return out + (behind.encode() if behind else b"--\r\n")


def form_type(boundary: str = "BoundaryOfForms") -> dict[str, str]:
    return {"host": "s3.example", "content-type": f"multipart/form-data; boundary={boundary}"}


class Door:
    """A handler of the real engine that authenticates and takes uploads in, into `objects`."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.refusals: list[S3Error] = []
        self.largest_piece = 0
        self._authenticator = Authenticator(KeyRing({KEY_ID: SECRET}), REGION)

    def form(self, request: Request, head: bytes) -> None: ...

    def glance(self, form: object, head: bytes, date_line: bytes) -> Glanced: ...

    def quick(self, request: Request) -> None: ...

    async def handle(self, request: Request) -> Response:
        try:
            return await self._take(request)
        except S3Error as error:
            self.refusals.append(error)
            return Response(error.status, b"content-type: application/xml\r\n", error_body(error, "", "", ""))

    async def _take(self, request: Request) -> Response:
        now_s = time.time()
        call = call_of(request, self._authenticator.identify(request, now_s), now_s, self._authenticator)
        if request.method == b"POST":
            upload = await read_post(call, self._authenticator)
            data = await self._drain(upload.body)
            etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
            self.objects[f"/{upload.bucket}/{upload.key}"] = (data, dict(upload.body.checksums()))
            return answer_post(upload, etag, f"http://s3.example/{quote(upload.bucket)}/{quote(upload.key)}")
        body = incoming_body(call)
        data = await self._drain(body)
        self.objects[call.path] = (data, dict(body.checksums()))
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return Response(200, render_fields((("etag", f'"{etag}"'),)))

    async def _drain(self, body: AsyncIterator[bytes] | Body) -> bytes:
        whole = bytearray()
        async for piece in body:
            self.largest_piece = max(self.largest_piece, len(piece))
            whole += piece
        return bytes(whole)

    def refuse(self, status: int, reason: str, peer: str) -> Response:
        return Response(status, b"", reason.encode())

    def failed(self, request: Request, error: Exception) -> None: ...

    def finished(self, request: Request, response: Response, sent: int, *, complete: bool) -> None: ...


@contextmanager
def door() -> Iterator[tuple[Door, int]]:
    """A door on a port of this machine, in a thread with its own loop."""
    taking = Door()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    ready = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        server = HttpServer(taking, GatewaySettings(sweep_s=0.05), SystemClock())
        await server.start(sock)
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        await server.drain(1.0)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="door")
    thread.start()
    assert ready.wait(10)
    try:
        yield taking, sock.getsockname()[1]
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()
        sock.close()
