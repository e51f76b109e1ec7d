"""Bytes go out whole or the connection is cut: file slices, streams, draining, continue."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.model.errors import Unavailable, VersionChanged
from headrace.model.objects import ByteRange, Version
from headrace.model.reading import Buffer, FileSlice, Reading
from headrace.stores.keys import cut_range
from headrace.stores.memory import BytesReading, MemoryStore
from support.gateway import DEADLINE_S, ReadyReading, WarmStore, exchange, gateway, until

LARGE = os.urandom(5_000_000)


class SliceStore(WarmStore):
    """Answers from a file in three slices."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = path.open("rb")

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        found = self._find(key)
        cut = cut_range(byte_range, found.info.size, key)
        edges = sorted({cut.start, min(cut.start + 1000, cut.end), (cut.start + cut.end) // 2, cut.end})
        pieces = tuple(FileSlice(self.file.fileno(), a, b - a, self) for a, b in itertools.pairwise(edges))
        return ReadyReading(found.info, cut, pieces)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_file_slices_arrive_whole_and_in_order(tmp_path: Path, loop: str) -> None:
    (tmp_path / "data").write_bytes(LARGE)
    store = SliceStore(tmp_path / "data")
    store.put("key", LARGE)
    with store.file, gateway({"/data": store}, loop=loop) as running:
        assert running.ask("GET", "/data/key").body == LARGE
        assert running.ask("GET", "/data/key", {"Range": "bytes=7-4000006"}).body == LARGE[7:4000007]
        many = running.sign("GET", "/data/key", {"Range": "bytes=5-1000004"}, close=False) * 5 + running.sign(
            "GET", "/data/nothing"
        )
        answers = running.talk(many)
        assert [answer.status for answer in answers] == [206] * 5 + [404]
        assert all(answer.body == LARGE[5:1000005] for answer in answers[:5])


class PieceStore(WarmStore):
    """Answers from memory in three pieces."""

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        found = self._find(key)
        cut = cut_range(byte_range, found.info.size, key)
        edges = (cut.start, cut.start + cut.length // 3, cut.start + cut.length // 2, cut.end)
        return ReadyReading(found.info, cut, tuple(memoryview(found.body)[a:b] for a, b in itertools.pairwise(edges)))


@pytest.mark.parametrize("length", [1000, 100_000, 2_000_000])
def test_pieces_of_memory_arrive_whole_and_in_order(length: int) -> None:
    store = PieceStore()
    store.put("key", LARGE[:length])
    with gateway({"/data": store}) as running:
        one = running.sign("GET", "/data/key", close=False)
        many = running.talk(one * 5 + running.sign("GET", "/data/nothing"))
        assert [answer.status for answer in many] == [200] * 5 + [404]
        assert all(answer.body == LARGE[:length] for answer in many[:5])


def test_a_slow_client_gets_all_of_a_long_slice(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(LARGE)
    store = SliceStore(tmp_path / "data")
    store.put("key", LARGE)
    with store.file, gateway({"/data": store}) as running, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.settimeout(DEADLINE_S)
        sock.connect((running.host, running.port))
        sock.sendall(running.sign("GET", "/data/key"))
        received = bytearray()
        while piece := sock.recv(30_000):
            received += piece
        assert received.partition(b"\r\n\r\n")[2] == LARGE


def test_a_long_slice_that_is_not_in_memory_is_sent_by_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_there(*_: object) -> int:
        raise BlockingIOError

    (tmp_path / "data").write_bytes(LARGE)
    store = SliceStore(tmp_path / "data")
    store.put("key", LARGE)
    with store.file, gateway({"/data": store}) as running:
        monkeypatch.setattr(os, "preadv", nothing_there)
        assert running.ask("GET", "/data/key").body == LARGE


def test_a_file_cut_short_cuts_the_connection(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(LARGE[:-1])
    store = SliceStore(tmp_path / "data")
    store.put("key", LARGE)
    with store.file, gateway({"/data": store}) as running:
        with pytest.raises(AssertionError, match=r"were announced|without an end"):
            running.ask("GET", "/data/key")
        until(lambda: running.server.stats().cut_short == 1)


class BreakingStore(MemoryStore):
    """Streams that break, at once or in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.break_at = 0
        self.failures = 1
        self.hold: asyncio.Event | None = None
        self.entered = False

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        inner = await super().read(key, byte_range, version=version)
        self.entered = True
        if self.hold is not None:
            await self.hold.wait()
        if self.failures <= 0:
            return inner
        self.failures -= 1
        return Breaking(inner, self.break_at)


class Breaking(BytesReading):
    __slots__ = ("_at", "_inner")

    def __init__(self, inner: Reading, at: int) -> None:
        super().__init__(inner.info, inner.range, b"")
        self._inner = inner
        self._at = at

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        sent = 0
        async for buffer in self._inner:
            if sent >= self._at:
                raise VersionChanged("changed", path=self.info.key)
            sent += len(buffer)
            yield buffer


def test_a_change_before_the_first_byte_is_a_restart_and_behind_it_an_abort() -> None:
    store = BreakingStore()
    store.put("key", LARGE)
    with gateway({"/data": store}) as running:
        assert running.ask("GET", "/data/key").body == LARGE
        store.failures = 99
        answer = running.ask("GET", "/data/key")
        assert (answer.status, answer.code) == (503, "ServiceUnavailable")
        store.failures, store.break_at = 1, 300_000
        with pytest.raises(AssertionError, match="were announced"):
            running.ask("GET", "/data/key")
        assert running.ask("GET", "/data/key").body == LARGE


def test_an_unreachable_store_is_a_503_with_retry_after() -> None:
    class Away(MemoryStore):
        async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
            raise Unavailable("the store at secret.internal does not answer", retry_after_s=7)

    with gateway({"/data": Away()}) as running:
        answer = running.ask("GET", "/data/key")
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "ServiceUnavailable", "7")
        assert b"secret.internal" not in answer.body


def test_draining_finishes_what_runs_and_says_close() -> None:
    store = BreakingStore()
    store.put("key", b"x" * 100)
    store.failures = 0
    with gateway({"/data": store}) as running:
        store.hold = asyncio.Event()
        sock = socket.create_connection((running.host, running.port), timeout=DEADLINE_S)
        idle = socket.create_connection((running.host, running.port), timeout=DEADLINE_S)
        sock.sendall(running.sign("GET", "/data/key", close=False))
        until(lambda: store.entered)
        draining = asyncio.run_coroutine_threadsafe(running.server.drain(5.0), running.loop)
        assert idle.recv(10) == b""
        running.loop.call_soon_threadsafe(store.hold.set)
        received = b""
        while chunk := sock.recv(65536):
            received += chunk
        assert received.endswith(b"x" * 100)
        assert b"connection: close\r\n" in received
        assert draining.result(DEADLINE_S) is True
        sock.close()
        idle.close()


def test_continue_is_said_only_when_the_body_is_read() -> None:
    with gateway() as running:
        running.stores["/data"].put("key", b"abc")  # type: ignore[attr-defined]
        headers = {"Expect": "100-continue", "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
        head, _, _ = running.sign("GET", "/data/key", headers, body=b"xyz").partition(b"\r\n\r\n")
        with socket.create_connection((running.host, running.port), timeout=DEADLINE_S) as sock:
            sock.sendall(head + b"\r\n\r\n")
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"xyz")
            assert sock.recv(4096).startswith(b"HTTP/1.1 200")
        refused, _, _ = running.sign("PUT", "/data/key", headers, body=b"xyz").partition(b"\r\n\r\n")
        answers = exchange(running.host, running.port, refused + b"\r\n\r\n")
        assert [answer.status for answer in answers] == [403]
