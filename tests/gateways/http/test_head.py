"""Heads: one strict reading, and never another one than h11's."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateways.http.head import CHUNKED, NO_BODY, HeadParser, body_length, keeps_alive
from headrace.gateways.http.messages import BadFraming, Request


def parse(head: bytes) -> Request:
    return HeadParser(100).parse(head, "peer")


def get(*lines: bytes, first: bytes = b"GET /a HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *lines, b"", b""))


def test_keeps_the_raw_target_and_lowers_names() -> None:
    request = parse(get(b"Host: h", b"X-Odd:  a b \t", first=b"GET /a%2Fb//..?x=%20&y HTTP/1.1"))
    assert (request.path, request.query) == (b"/a%2Fb//..", b"x=%20&y")
    assert request.headers == {b"host": b"h", b"x-odd": b"a b \t"}


@pytest.mark.parametrize(
    "head",
    [
        b"GET /a HTTP/1.1\nHost: h\n\r\n\r\n",
        get(b"Host: h\nX: y"),
        get(b"Host: h", b" folded"),
        get(b"Host: h", b"X: a", b"\tfolded"),
        get(b"Host: h", b"X: a\0b"),
        get(b"Host: h", b"X: a\rb"),
        get(b"Host: h", b"X : a"),
        get(b"Host: h", b": a"),
        get(b"Host: h", b"no colon"),
        get(b" Host: h"),
        get(b"X: no host"),
        get(b"Host: h", b"Host: h"),
        get(b"Host: h", b"host: other"),
        get(b"Host: h", first=b"GET  /a HTTP/1.1"),
        get(b"Host: h", first=b"GET /a  HTTP/1.1"),
        get(b"Host: h", first=b"GET /a HTTP/1.1 "),
        get(b"Host: h", first=b"GET\t/a HTTP/1.1"),
        get(b"Host: h", first=b"GET http://h/a HTTP/1.1"),
        get(b"Host: h", first=b"GET /a#b HTTP/1.1"),
        get(b"Host: h", first=b"GET /\xc3\xa9 HTTP/1.1"),
        get(b"Host: h", first=b"get /a HTTP/1.1"),
        get(b"Host: h", first=b"GET /a"),
        get(b"Host: h", first=b"GET /a RTSP/1.0"),
        b"\r\n" + get(b"Host: h"),
    ],
)
def test_refuses_what_could_be_read_in_two_ways(head: bytes) -> None:
    with pytest.raises(BadFraming) as caught:
        parse(head)
    assert caught.value.status == 400


def test_refuses_other_versions_by_505() -> None:
    with pytest.raises(BadFraming) as caught:
        parse(get(b"Host: h", first=b"GET /a HTTP/2.0"))
    assert caught.value.status == 505


def test_refuses_too_many_headers_by_431() -> None:
    with pytest.raises(BadFraming) as caught:
        parse(get(b"Host: h", *(b"x-%d: 1" % i for i in range(100))))
    assert caught.value.status == 431


def test_joins_repeated_headers_in_their_order() -> None:
    request = parse(get(b"Host: h", b"X-A: 1", b"Y: 2", b"x-a:  3 "))
    assert request.headers[b"x-a"] == b"1,3 "


def test_an_upgrade_wish_is_ignored() -> None:
    parser = HeadParser(100)
    head = get(b"Host: h", b"Connection: upgrade", b"Upgrade: x")
    assert parser.parse(head, "p").headers[b"upgrade"] == b"x"
    assert parser.parse(get(b"Host: h"), "p").headers == {b"host": b"h"}


def with_headers(first: bytes = b"PUT /a HTTP/1.1", **headers: bytes) -> Request:
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Request(b"PUT", b"/a", b"", named, first.endswith(b"1"), "p", True)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, NO_BODY),
        ({"content_length": b"0"}, 0),
        ({"content_length": b"12"}, 12),
        ({"transfer_encoding": b"chunked"}, CHUNKED),
        ({"transfer_encoding": b"Chunked "}, CHUNKED),
    ],
)
def test_says_how_long_the_body_is(headers: dict[str, bytes], expected: int) -> None:
    assert body_length(with_headers(**headers)) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"content_length": b"1", "transfer_encoding": b"chunked"},
        {"transfer_encoding": b"xchunked"},
        {"transfer_encoding": b"gzip, chunked"},
        {"transfer_encoding": b"chunked, chunked"},
        {"transfer_encoding": b"\x0bchunked"},
        {"content_length": b"+1"},
        {"content_length": b"-1"},
        {"content_length": b"1,1"},
        {"content_length": b"0x10"},
        {"content_length": b""},
        {"content_length": b"9" * 19},
    ],
)
def test_refuses_ambiguous_lengths(headers: dict[str, bytes]) -> None:
    with pytest.raises(BadFraming):
        body_length(with_headers(**headers))


def test_chunked_does_not_exist_in_http_1_0() -> None:
    with pytest.raises(BadFraming):
        body_length(with_headers(b"PUT /a HTTP/1.0", transfer_encoding=b"chunked"))


def test_keep_alive_by_version_and_wish() -> None:
    assert keeps_alive(with_headers())
    assert not keeps_alive(with_headers(connection=b"foo, Close"))
    assert not keeps_alive(with_headers(b"PUT /a HTTP/1.0"))
    assert keeps_alive(with_headers(b"PUT /a HTTP/1.0", connection=b"Keep-Alive"))


line = st.binary(max_size=20) | st.sampled_from(
    [b"Host: h", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"X: y", b" z", b"X:", b"Connection: close", b"A: b\nC: d"]
)


@given(
    first=st.sampled_from([b"GET /a HTTP/1.1", b"POST /a?b HTTP/1.1", b"GET / HTTP/1.0", b"GET /\x7f HTTP/1.1"])
    | st.binary(max_size=20),
    lines=st.lists(line, max_size=6),
    end=st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]),
)
def test_what_is_accepted_reads_the_same_to_h11(first: bytes, lines: list[bytes], end: bytes) -> None:
    head = end.join((first, *lines)) + b"\r\n\r\n"
    if head.find(b"\r\n\r\n") != len(head) - 4:
        return
    try:
        request = parse(head)
        length = body_length(request)
    except BadFraming:
        return
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(head)
    event = peer.next_event()
    assert isinstance(event, h11.Request)
    target = request.path + (b"?" + request.query if request.query or b"?" in first else b"")
    assert (event.method, event.target) == (request.method, target)
    theirs: dict[bytes, bytes] = {}
    for name, value in event.headers:
        theirs[name] = theirs[name] + b"," + value if name in theirs else value
    assert theirs == {name: value.strip(b" \t") for name, value in request.headers.items()}
    assert length == (CHUNKED if b"transfer-encoding" in theirs else int(theirs.get(b"content-length", b"0")))
