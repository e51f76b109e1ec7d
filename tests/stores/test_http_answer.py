"""Heads and chunks: what can be read in two ways is refused, and only what is whole is done."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.stores.http_answer import CHUNKED, UNTIL_CLOSE, BadAnswer, ChunkedBody, Head, read_head

OK = b"HTTP/1.1 200 OK\r\n"


def head(lines: bytes, first: bytes = OK, *, is_head: bool = False) -> Head:
    return read_head(first + lines + b"\r\n", is_head=is_head)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\n",
        OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        OK + b"content-length: 5, 5\r\n\r\n",
        OK + b"content-length: +5\r\n\r\n",
        OK + b"content-length: -5\r\n\r\n",
        OK + b"content-length: 0x5\r\n\r\n",
        OK + b"content-length: 5 5\r\n\r\n",
        OK + b"content-length: \r\n\r\n",
        OK + b"content-length: 99999999999999999999999\r\n\r\n",
        OK + b"content-length : 5\r\n\r\n",
        OK + b"content-length\r\n\r\n",
        OK + b"x: a\r\n b\r\n\r\n",
        OK + b" x: a\r\n\r\n",
        OK + b"x: a\n\r\n\r\n",
        OK + b"x: a\x00b\r\n\r\n",
        OK + b"x\xe9: a\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked, chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        OK + b"transfer-encoding: xchunked\r\n\r\n",
        OK + b"transfer-encoding: identity\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        OK + b"x: y\r\n" * 257 + b"\r\n",
    ],
)
def test_what_two_readers_could_read_otherwise_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_head(data, is_head=False)


def test_where_the_body_ends() -> None:
    assert head(b"content-length: 7\r\n").length == 7
    assert head(b"Transfer-Encoding: Chunked\r\n").length == CHUNKED
    assert head(b"").length == UNTIL_CLOSE
    assert head(b"content-length: 7\r\n", is_head=True).length == 0
    assert head(b"transfer-encoding: chunked\r\n", is_head=True).length == 0
    assert head(b"", b"HTTP/1.1 204 No Content\r\n").length == 0
    assert head(b"content-length: 7\r\n", b"HTTP/1.1 304 Not Modified\r\n").length == 0
    assert head(b"", b"HTTP/1.1 100 Continue\r\n").length == 0


@pytest.mark.parametrize(
    ("first", "lines", "keeps"),
    [
        (OK, b"content-length: 0\r\n", True),
        (OK, b"content-length: 0\r\nconnection: Close\r\n", False),
        (OK, b"content-length: 1\r\nconnection: x, close\r\n", False),
        (OK, b"", False),
        (b"HTTP/1.0 200 OK\r\n", b"content-length: 1\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", b"content-length: 1\r\nconnection: keep-alive\r\n", True),
    ],
)
def test_when_another_request_may_follow(first: bytes, lines: bytes, keeps: bool) -> None:
    assert head(lines, first).keeps_alive is keeps


def test_names_are_lower_case_and_repeated_values_are_joined() -> None:
    assert head(b"ETag: \xc3\xa9\r\nX-A: 1\r\nx-a:  2 \r\ncontent-length: 0\r\n").headers == {
        "etag": "é",
        "x-a": "1, 2",
        "content-length": "0",
    }


bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
cuts = st.lists(st.integers(0, 400), max_size=12)


def in_pieces(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def chunked(chunks: list[bytes], *, trailer: bytes = b"") -> bytes:
    framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return framed + b"0\r\n" + trailer + b"\r\n"


@settings(deadline=None)
@given(bodies, cuts, st.sampled_from([b"", b"x-sum: abc\r\n"]))
def test_chunks_are_the_same_body_however_they_arrive(chunks: list[bytes], places: list[int], trailer: bytes) -> None:
    body = ChunkedBody()
    found = [piece for data in in_pieces(chunked(chunks, trailer=trailer), places) for piece in body.feed(data)]
    assert b"".join(found) == b"".join(chunks)
    assert body.done
    assert not body.extra


@settings(deadline=None)
@given(bodies, st.data())
def test_a_chunked_body_cut_anywhere_is_never_done(chunks: list[bytes], data: st.DataObject) -> None:
    whole = chunked(chunks)
    body = ChunkedBody()
    body.feed(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert not body.done


@settings(deadline=None)
@given(bodies, st.binary(min_size=1, max_size=20))
def test_bytes_behind_a_chunked_body_are_seen_and_are_none_of_it(chunks: list[bytes], more: bytes) -> None:
    body = ChunkedBody()
    found = body.feed(chunked(chunks) + more)
    assert b"".join(found) == b"".join(chunks)
    assert body.done
    assert body.extra or not more.strip(b"\r\n")  # llhttp lets empty lines pass between messages


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_chunks_or_refused(data: bytes) -> None:
    try:
        found = ChunkedBody().feed(data)
    except BadAnswer:
        return
    assert sum(len(piece) for piece in found) < max(1, len(data)), "framing takes bytes, too"


@pytest.mark.parametrize(
    "data", [b"-5\r\nhello\r\n", b"5 \nhello", b"5\r\nhelloworld\r\n", b"zz\r\n", b"0x5\r\n", b"5\nhello\r\n"]
)
def test_chunks_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        ChunkedBody().feed(data)


def test_trailers_without_end_are_refused() -> None:
    body = ChunkedBody()
    body.feed(b"5\r\nhello\r\n0\r\n")
    with pytest.raises(BadAnswer, match="framing"):
        for _ in range(100):
            body.feed(b"x-trailer: " + b"y" * 1000 + b"\r\n")
