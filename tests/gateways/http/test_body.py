"""Bodies decode the same however they are cut, and end in an error rather than in a guess."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateways.http.body import BodyDecoder, IncomingBody
from headrace.gateways.http.head import CHUNKED
from headrace.gateways.http.messages import BadFraming


def decode(decoder: BodyDecoder, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    out, rest = b"", b""
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in itertools.pairwise(places):
        if decoder.done:
            rest += data[start:end]
            continue
        pieces, left = decoder.feed(data[start:end])
        out += b"".join(pieces)
        rest += left
    return out, rest


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    after=st.binary(max_size=10),
    trailer=st.sampled_from([b"", b"x-sum: abc\r\n"]),
)
def test_chunks_decode_however_they_are_cut(chunks: list[bytes], cuts: list[int], after: bytes, trailer: bytes) -> None:
    wire = b"".join(b"%x;e=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"
    decoder = BodyDecoder(CHUNKED)
    assert decode(decoder, wire + after, cuts) == (b"".join(chunks), after)
    assert decoder.done


@given(body=st.binary(max_size=100), cuts=st.lists(st.integers(0, 120), max_size=5), after=st.binary(max_size=10))
def test_a_length_decodes_however_it_is_cut(body: bytes, cuts: list[int], after: bytes) -> None:
    decoder = BodyDecoder(len(body))
    assert decode(decoder, body + after, cuts) == (body, after)


@pytest.mark.parametrize(
    "wire",
    [
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"\r\n",
        b"3 \r\nabc\r\n",
        b"f" * 16 + b"\r\n",
        b"3;" + b"x" * 5000,
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"0\r\nx: \0\r\n\r\n",
        b"0\r\n" + b"x: " + b"y" * 4000 + b"\r\n" + (b"x: " + b"y" * 4000 + b"\r\n") * 5,
    ],
)
def test_refuses_malformed_chunks(wire: bytes) -> None:
    with pytest.raises(BadFraming):
        BodyDecoder(CHUNKED).feed(wire)


@pytest.mark.parametrize(("length", "wire"), [(CHUNKED, b"b\r\n" + b"x" * 11), (11, b"x")])
async def test_refuses_more_than_is_allowed(length: int, wire: bytes) -> None:
    asked: list[bool] = []
    body = IncomingBody(length, 10, lambda: asked.append(True), lambda on: None)
    body.feed(wire)
    with pytest.raises(BadFraming) as caught:
        await _read(body)
    assert caught.value.status == 413
    assert asked == [True] * (length == CHUNKED), "what is announced too long is not asked for"


async def test_an_upload_may_have_more() -> None:
    body = IncomingBody(11, 10, lambda: None, lambda on: None)
    body.allow(None)
    body.feed(b"x" * 11)
    assert await _read(body) == b"x" * 11


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    decoder = BodyDecoder(CHUNKED)
    try:
        pieces, rest = decoder.feed(data)
    except BadFraming:
        return
    assert len(b"".join(pieces)) + len(rest) <= len(data)


async def test_waits_hold_back_the_sender_and_are_woken() -> None:
    flow: list[bool] = []
    asked: list[bool] = []
    body = IncomingBody(600_000, 1 << 20, lambda: asked.append(True), flow.append)
    assert not asked
    body.feed(b"x" * 300_000)
    assert flow == [False]
    reader = asyncio.ensure_future(_read(body))
    await asyncio.sleep(0)
    assert asked == [True]
    assert body.starved
    assert flow[-1] is True
    assert body.feed(b"y" * 300_000 + b"next") == b"next"
    assert await reader == b"x" * 300_000 + b"y" * 300_000


async def test_a_cut_body_raises() -> None:
    body = IncomingBody(10, 100, lambda: None, lambda on: None)
    body.feed(b"abc")
    body.fail(BadFraming(400, "gone"))
    with pytest.raises(BadFraming):
        await _read(body)


async def _read(body: IncomingBody) -> bytes:
    return b"".join([piece async for piece in body])


@given(data=st.binary(min_size=1, max_size=50), cuts=st.lists(st.integers(0, 50), max_size=4), chunked=st.booleans())
def test_a_body_that_has_come_is_at_hand_once(data: bytes, cuts: list[int], chunked: bool) -> None:
    body = IncomingBody(CHUNKED if chunked else len(data), 100, lambda: None, lambda on: None)
    wire = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if chunked else data
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    for start, end in itertools.pairwise(places):
        assert body.at_hand() is None, "not before all of it has come"
        body.feed(wire[start:end])
    assert body.at_hand() == data
    assert body.at_hand() is None


async def test_a_body_that_is_read_already_or_was_cut_is_not_at_hand() -> None:
    read, cut = (IncomingBody(6, 100, lambda: None, lambda on: None) for _ in range(2))
    read.feed(b"abc")
    read.feed(b"def")
    async for _ in read:
        assert read.at_hand() is None
    cut.feed(b"abc")
    cut.fail(BadFraming(400, "gone"))
    assert cut.at_hand() is None


def test_a_body_at_hand_may_not_have_more_than_is_allowed_either() -> None:
    body = IncomingBody(11, 10, lambda: None, lambda on: None)
    body.feed(b"x" * 11)
    with pytest.raises(BadFraming) as caught:
        body.at_hand()
    assert caught.value.status == 413
