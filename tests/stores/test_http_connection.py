"""One connection: answers in any pieces, cut anywhere, early, late and unasked for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.stores.http_answer import BadAnswer
from headrace.stores.http_connection import Connection
from headrace.stores.http_exchange import Answer, ConnectionCut
from headrace.stores.sending import Sending


class Wire(asyncio.Transport):
    """What a connection does to its transport."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.unsent = 0
        self.reads = True
        self.is_aborted = False
        self.connection: Connection | None = None

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def writelines(self, pieces: Any) -> None:
        self.sent += b"".join(map(bytes, pieces))

    def abort(self) -> None:
        if not self.is_aborted and self.connection is not None:
            self.is_aborted = True
            self.connection.connection_lost(None)

    def is_closing(self) -> bool:
        return self.is_aborted

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Rig:
    def __init__(self, patience_s: float = 5.0) -> None:
        self.freed = 0
        self.wire = Wire()
        self.connection = Connection(patience_s, self._freed, lambda _: None)
        self.wire.connection = self.connection
        self.connection.connection_made(self.wire)

    def _freed(self, _: Connection) -> None:
        self.freed += 1

    async def ask(self, method: str = "GET", body: bytes | Sending = b"") -> asyncio.Task[Answer]:
        task = asyncio.ensure_future(self.connection.exchange(method, b"HEAD", body))
        await asyncio.sleep(0)
        return task


async def whole(answer: Answer) -> bytes:
    found = b""
    while piece := await answer.piece():
        found += piece
    return found


chunks = st.lists(st.binary(min_size=1, max_size=30), max_size=5)


def message(pieces: list[bytes], *, is_chunked: bool, interim: int) -> bytes:
    lead = b"HTTP/1.1 100 Continue\r\n\r\n" * interim
    body = b"".join(pieces)
    if not is_chunked:
        return lead + b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return lead + b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


@settings(deadline=None, max_examples=200)
@given(pieces=chunks, is_chunked=st.booleans(), interim=st.integers(0, 3), places=st.lists(st.integers(0, 300), max_size=10))
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(
    pieces: list[bytes], is_chunked: bool, interim: int, places: list[int]
) -> None:
    async def example() -> None:
        rig = Rig()
        task = await rig.ask()
        data = message(pieces, is_chunked=is_chunked, interim=interim)
        edges = sorted({0, len(data), *(place for place in places if place < len(data))})
        for start, end in itertools.pairwise(edges):
            rig.connection.data_received(data[start:end])
        assert await whole(await task) == b"".join(pieces)
        assert rig.freed == 1
        assert not rig.wire.is_aborted

    asyncio.run(example())


@settings(deadline=None, max_examples=200)
@given(pieces=chunks, is_chunked=st.booleans(), is_eof=st.booleans(), data=st.data())
def test_an_answer_cut_anywhere_is_never_whole(pieces: list[bytes], is_chunked: bool, is_eof: bool, data: st.DataObject) -> None:
    sent = message(pieces, is_chunked=is_chunked, interim=0)
    cut = data.draw(st.integers(0, len(sent) - 1))

    async def example() -> None:
        rig = Rig()
        task = await rig.ask()
        rig.connection.data_received(sent[:cut]) if cut else None
        if is_eof:
            rig.connection.eof_received()
        rig.connection.connection_lost(None)
        with pytest.raises(ConnectionCut):
            await whole(await task)
        assert rig.freed == 0

    asyncio.run(example())


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_an_error(data: bytes) -> None:
    async def example() -> None:
        rig = Rig()
        task = await rig.ask()
        rig.connection.data_received(b"HTTP/1.1 " + data)
        rig.wire.abort()
        try:
            await whole(await task)
        except (BadAnswer, ConnectionCut):
            return
        assert rig.freed or rig.wire.is_aborted

    asyncio.run(example())


async def test_a_body_until_the_end_of_the_connection_ends_with_its_half_close_alone() -> None:
    for is_clean in (True, False):
        rig = Rig()
        task = await rig.ask()
        rig.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nsome")
        if is_clean:
            rig.connection.eof_received()
        rig.connection.connection_lost(None if is_clean else ConnectionResetError())
        answer = await task
        if is_clean:
            assert await whole(answer) == b"some"
        else:
            with pytest.raises(ConnectionCut):
                await whole(answer)


async def test_what_comes_behind_an_answer_is_none_of_it_and_ends_the_connection() -> None:
    rig = Rig()
    task = await rig.ask()
    rig.connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n")
    assert await whole(await task) == b"ok"
    assert rig.wire.is_aborted
    assert rig.freed == 0


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    rig = Rig()
    rig.connection.data_received(b"HTTP/1.1 408 Timeout\r\ncontent-length: 0\r\n\r\n")
    assert rig.wire.is_aborted
    assert not rig.connection.is_usable


async def test_heads_are_bounded() -> None:
    for data in (b"x: " + b"y" * 70_000, b"x: y\r\n" * 12_000):
        rig = Rig()
        task = await rig.ask()
        rig.connection.data_received(b"HTTP/1.1 200 OK\r\n" + data)
        with pytest.raises(BadAnswer, match="head"):
            await task
    rig = Rig()
    task = await rig.ask()
    rig.connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n" * 17)
    with pytest.raises(BadAnswer, match="heads"):
        await task


async def test_a_reader_that_stops_stops_the_connection() -> None:
    rig = Rig()
    task = await rig.ask()
    rig.connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    answer = await task
    taken = 0
    for _ in range(5):
        rig.connection.data_received(b"x" * 100_000)
    assert not rig.wire.reads
    while taken < 500_000:
        taken += len(await answer.piece())
    assert rig.wire.reads


async def pieces_of(*pieces: bytes, then: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if then is not None:
        await then.wait()


async def test_a_refusal_that_comes_early_ends_the_sending() -> None:
    rig = Rig()
    never = asyncio.Event()
    body = Sending(pieces_of(b"a" * 10, b"b" * 10, then=never), 30)
    task = await rig.ask("PUT", body)
    await asyncio.sleep(0)
    rig.connection.data_received(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
    answer = await task
    assert answer.is_early
    assert await whole(answer) == b"no"
    assert rig.wire.is_aborted  # the store may still take what comes next for the body
    assert rig.freed == 0


async def test_an_answer_while_bytes_wait_here_is_early() -> None:
    rig = Rig()
    rig.wire.unsent = 5
    task = await rig.ask("PUT", b"body")
    rig.connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert (await task).is_early
    assert rig.freed == 0


async def test_a_sending_is_followed_by_another_request() -> None:
    rig = Rig()
    task = await rig.ask("PUT", Sending(pieces_of(b"a" * 10, b"b" * 10), 20))
    await asyncio.sleep(0)
    assert rig.wire.sent == b"HEAD" + b"a" * 10 + b"b" * 10
    rig.connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert not (await task).is_early
    assert rig.freed == 1
    assert rig.connection.is_usable


@pytest.mark.parametrize("length", [0, 30])
async def test_a_source_that_fails_fails_the_request_and_ends_the_connection(length: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        if length:
            yield b"x" * 10
        raise ValueError("no more")

    rig = Rig()
    with pytest.raises(ValueError, match="no more"):
        await (await rig.ask("PUT", Sending(broken(), length)))
    assert rig.wire.is_aborted
    assert b"x" not in rig.wire.sent  # the last piece waits until the source has ended
    assert rig.wire.sent == b""  # a head alone makes an empty object, with some stores even where its length says otherwise


async def test_a_store_that_takes_no_bytes_is_given_up_and_a_slow_source_is_not() -> None:
    rig = Rig(patience_s=0.02)
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await release.wait()
        yield b"b"

    task = await rig.ask("PUT", Sending(slow(), 2))
    done, _ = await asyncio.wait((task,), timeout=0.1)
    assert not done
    rig.connection.pause_writing()
    rig.wire.unsent = 1
    release.set()
    with pytest.raises(TimeoutError, match="took no byte"):
        await task


async def test_a_request_given_up_ends_its_connection() -> None:
    rig = Rig()
    closed = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            await asyncio.Event().wait()
        finally:
            closed.set()

    task = await rig.ask("PUT", Sending(source(), 2))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rig.wire.is_aborted
    assert closed.is_set()
