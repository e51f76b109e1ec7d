"""Answers that take long: white space while the work lasts, then what it came to."""

from __future__ import annotations

import asyncio
import socket

import pytest

from headrace.gateways.http.messages import Chunks
from headrace.gateways.s3.answers import patiently
from headrace.model.errors import ConditionFailed, NoSpace
from headrace.model.objects import ObjectInfo, Version
from headrace.model.writing import ALWAYS, Attributes, Condition
from headrace.stores.memory import MemoryStore
from support.gateway import DEADLINE_S, gateway

INFO = ObjectInfo("k", 1, Version("etag:e"), etag="e")


async def test_what_is_done_soon_is_answered_plainly() -> None:
    async def work() -> ObjectInfo:
        return INFO

    response = await patiently(work(), lambda info: f"<Done>{info.etag}</Done>")
    assert isinstance(response.body, bytes)
    assert response.body.endswith(b"<Done>e</Done>")


async def test_what_fails_soon_raises() -> None:
    async def work() -> ObjectInfo:
        raise ConditionFailed("no")

    with pytest.raises(ConditionFailed):
        await patiently(work(), lambda info: info.etag)


@pytest.mark.parametrize("fails", [False, True])
async def test_what_takes_long_ends_in_its_document_or_in_its_error(fails: bool) -> None:
    gate = asyncio.Event()

    async def work() -> ObjectInfo:
        await gate.wait()
        if fails:
            raise NoSpace("full")
        return INFO

    response = await patiently(work(), lambda info: f"<Done>{info.etag}</Done>", patience_s=0.001)
    assert isinstance(response.body, Chunks)
    pieces = aiter(response.body)
    assert (await anext(pieces)).startswith(b"<?xml")
    assert await anext(pieces) == b" "
    gate.set()
    rest = b"".join([piece async for piece in pieces]).strip()
    assert rest.startswith(b"<Error><Code>InsufficientStorage" if fails else b"<Done>e</Done>")


async def test_the_work_goes_on_when_nobody_waits() -> None:
    gate, done = asyncio.Event(), asyncio.Event()

    async def work() -> ObjectInfo:
        await gate.wait()
        done.set()
        return INFO

    waiting = asyncio.create_task(patiently(work(), lambda info: info.etag))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    async with asyncio.timeout(DEADLINE_S):
        await done.wait()


class SlowCopies(MemoryStore):
    """Copies wait for a word."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        await self.go.wait()
        return await super().copy(source, key, attributes, condition=condition)


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_a_slow_copy_keeps_its_connection_alive(monkeypatch: pytest.MonkeyPatch, version: bytes) -> None:
    monkeypatch.setattr(patiently, "__kwdefaults__", {"patience_s": 0.01})
    store = SlowCopies()
    store.put("source", b"bytes")
    with gateway({"/data": store}, writable=True) as running:
        request = running.sign("PUT", "/data/copy", {"x-amz-copy-source": "data/source"}).replace(b"HTTP/1.1", version)
        with socket.create_connection((running.host, running.port), timeout=DEADLINE_S) as sock:
            sock.sendall(request)
            received = b""
            while received.count(b" ") < 40:
                received += sock.recv(4096)
            running.loop.call_soon_threadsafe(store.go.set)
            while piece := sock.recv(4096):
                received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert (b"transfer-encoding: chunked" in head) == (version == b"HTTP/1.1")
    assert body.rstrip(b"\r\n0").endswith(b"</CopyObjectResult>")
    assert body.endswith(b"\r\n0\r\n\r\n") == (version == b"HTTP/1.1")
    assert store.body("copy") == b"bytes"
