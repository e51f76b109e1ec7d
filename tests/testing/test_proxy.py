"""The fault proxy between a plain client and a plain server: every fault, seen from the client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headrace.testing.http_faults import (
    Action,
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
    TcpFault,
    Truncate,
    When,
    Written,
)
from headrace.testing.http_head import Head, read_body, read_head
from headrace.testing.proxy import FaultProxy

BODY = bytes(range(256)) * 1000
SRC = str(Path(__file__).parents[2] / "src")


async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server of one object: HEAD, GET, ranges, chunked at `/chunked`; PUT answers the length it got."""
    with contextlib.suppress(ConnectionError):
        while (head := await read_head(reader)) is not None:
            method, target, _ = head.first.split(" ")
            got = b"".join([data async for data in read_body(reader, head, until_end=False)])
            body, status, extra = BODY, 200, [("ETag", '"right"')]
            if head.get("range"):
                start, end = (int(x) for x in head.get("range").removeprefix("bytes=").split("-"))
                body, status = BODY[start : end + 1], 206
                extra.append(("Content-Range", f"bytes {start}-{end}/{len(BODY)}"))
            if method == "PUT":
                body = b"%d" % len(got)
            if target == "/chunked":
                writer.write(Head("HTTP/1.1 200 OK", (("Transfer-Encoding", "chunked"),)).encode())
                for start in range(0, len(body), 100_000):
                    piece = body[start : start + 100_000]
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(Head(f"HTTP/1.1 {status} OK", (*extra, ("Content-Length", str(len(body))))).encode())
                if method != "HEAD":
                    writer.write(body)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxied(*actions: Action, tcp: tuple[TcpFault, ...] = ()) -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(store, "127.0.0.1", 0)
    faults = [Fault("fault", action) for action in actions]
    async with FaultProxy(server.sockets[0].getsockname()[:2], faults, tcp_faults=tcp) as proxy:
        yield proxy
    server.close()


class Client:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def get(self, target: str = "/o", *, method: str = "GET", headers: str = "", body: bytes = b"") -> tuple[Head, bytes]:
        self.writer.write(f"{method} {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n".encode() + body)
        head = await read_head(self.reader)
        if head is None:
            raise EOFError("no answer")
        parts = read_body(self.reader, head, until_end=True)
        return head, b"" if method == "HEAD" or " 100 " in head.first else b"".join([data async for data in parts])


@contextlib.asynccontextmanager
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(*proxy.address)
    async with asyncio.timeout(10):
        yield Client(reader, writer)
    writer.close()


async def test_without_faults_everything_passes_as_it_is() -> None:
    async with proxied() as proxy, client(proxy) as c:
        assert (await c.get())[1] == BODY
        assert (await c.get("/chunked"))[1] == BODY
        head, body = await c.get(headers="range: bytes=10-19\r\n")
        assert (head.first, body) == ("HTTP/1.1 206 OK", BODY[10:20])
        assert (await c.get(method="HEAD"))[0].length == len(BODY)
        put = "content-length: 5\r\nexpect: 100-continue\r\n"
        head, _ = await c.get(method="PUT", headers=put, body=b"12345")
        assert head.first == "HTTP/1.1 100 Continue"
        assert [(seen.method, seen.status) for seen in list(proxy.seen)[:4]] == [
            ("GET", 200), ("GET", 200), ("GET", 206), ("HEAD", 200)]  # fmt: skip
        assert proxy.seen[2].body_bytes == 10
        assert not proxy.happened


async def test_an_answer_comes_instead_of_the_stores_and_only_as_often_as_said() -> None:
    async with proxied(Answer(503, (("Retry-After", "1"),))) as proxy, client(proxy) as c:
        head, _ = await c.get()
        assert head.first.startswith("HTTP/1.1 503")
        assert head.get("retry-after") == "1"
        assert (await c.get())[1] == BODY
        assert proxy.happened == {"fault": 1}


@pytest.mark.parametrize("at", [0, 1, 65536, -1])
@pytest.mark.parametrize("reset", [True, False])
async def test_a_cut_ends_the_body_in_front_of_its_byte(at: int, reset: bool) -> None:
    async with proxied(Cut(at, reset=reset)) as proxy, client(proxy) as c:
        with pytest.raises((EOFError, ConnectionError)):
            await c.get()
        assert proxy.happened == {"fault": 1}
        assert proxy.seen[0].body_bytes == at % len(BODY)


async def test_one_byte_is_corrupted() -> None:
    async with proxied(Corrupt(70_000)) as proxy, client(proxy) as c:
        _, body = await c.get()
        assert [i for i in range(len(BODY)) if body[i] != BODY[i]] == [70_000]
        assert proxy.happened == {"fault": 1}


@pytest.mark.parametrize("action", [Hang(at=None), Hang(at=1000), HalfClose(1000)])
async def test_a_hang_lasts_until_the_client_leaves_and_then_nothing_is_left(action: Action) -> None:
    async with proxied(action) as proxy:
        async with client(proxy) as c:
            with pytest.raises((TimeoutError, EOFError)):
                await asyncio.wait_for(c.get(), 0.3)
            assert proxy.happened == {"fault": 1}
        async with asyncio.timeout(5):
            while proxy.connections:
                await asyncio.sleep(0.01)


async def test_slow_and_delayed_answers_take_their_time_and_are_whole() -> None:
    async with proxied(Slow(1_000_000), Delay(0.2)) as proxy, client(proxy) as c:
        started = time.monotonic()
        assert (await c.get())[1] == BODY
        assert time.monotonic() - started >= 0.2 + 0.25
        assert proxy.happened == {"fault": 2}


async def test_headers_are_rewritten_and_the_status_too() -> None:
    action = Rewrite((("ETag", '"wrong"'), ("Content-Range", "")), status=200)
    async with proxied(action) as proxy, client(proxy) as c:
        head, body = await c.get(headers="range: bytes=0-9\r\n")
        assert (head.get("etag"), head.get("content-range"), body) == ('"wrong"', "", BODY[:10])
        assert head.first.split()[1] == "200"


async def test_a_truncated_body_looks_whole_and_an_extended_one_too_long() -> None:
    async with proxied(Truncate(100)) as proxy, client(proxy) as c:
        head, body = await c.get()
        assert (head.length, body) == (100, BODY[:100])
    async with proxied(Extend(5, announce=True)) as proxy, client(proxy) as c:
        assert (await c.get())[1] == BODY + b"XXXXX"
    async with proxied(Extend(5)) as proxy, client(proxy) as c:
        assert (await c.get())[1] == BODY
        assert await c.reader.readexactly(5) == b"XXXXX"


async def test_a_range_that_the_store_does_not_see_is_answered_with_all_bytes() -> None:
    async with proxied(IgnoreRange()) as proxy, client(proxy) as c:
        head, body = await c.get(headers="range: bytes=0-9\r\n")
        assert (head.first, body) == ("HTTP/1.1 200 OK", BODY)
        assert proxy.happened == {"fault": 1}


async def test_a_hook_runs_in_the_middle_of_a_body() -> None:
    seen: list[int] = []

    async def hook() -> None:
        seen.append(1)

    async with proxied(Meanwhile(hook, at=100_000)) as proxy, client(proxy) as c:
        assert (await c.get())[1] == BODY
    assert seen == [1]


async def test_refusing_refuses_cuts_and_ends() -> None:
    async with proxied() as proxy, client(proxy) as c:
        await c.get()
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*proxy.address)
        with pytest.raises((ConnectionError, EOFError)):
            await c.get()
        proxy.accept()
        async with client(proxy) as again:
            assert (await again.get())[1] == BODY
        assert proxy.happened == {"refuse": 1}


async def test_bytes_of_a_connection_are_struck_in_either_direction() -> None:
    down = TcpFault("down", Cut(at=1000, reset=True))
    async with proxied(tcp=(down,)) as proxy, client(proxy) as c:
        with pytest.raises((EOFError, ConnectionError)):
            await c.get()
        assert proxy.happened == {"down": 1}
    up = TcpFault("up", Corrupt(at=0, flip=ord("G") ^ ord("P")), down=False)
    async with proxied(tcp=(up,)) as proxy, client(proxy) as c:
        c.writer.write(b"GET /o HTTP/1.1\r\n\r\n")
        head = await read_head(c.reader)
        assert head is not None
        assert proxy.happened == {"up": 1}


async def test_the_program_takes_its_faults_from_a_file_and_prints_what_happened(tmp_path: Path) -> None:
    server = await asyncio.start_server(store, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    faults = tmp_path / "faults.json"
    faults.write_bytes(msgspec.json.encode([Written("no", Answer(429), When(times=2))]))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.testing.proxy", "--target", f"127.0.0.1:{port}", "--faults", str(faults)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SRC},
    )
    assert process.stdout is not None
    try:
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        reader, writer = await asyncio.open_connection("127.0.0.1", int(ready["listen"].split(":")[1]))
        c = Client(reader, writer)
        assert [(await c.get())[0].first.split()[1] for _ in range(3)] == ["429", "429", "200"]
        writer.close()
        process.send_signal(signal.SIGUSR1)
        assert json.loads(await asyncio.wait_for(process.stdout.readline(), 5)) == {"no": 2}
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == 0
    finally:
        server.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
