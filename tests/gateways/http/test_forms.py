"""Forms of heads: an expression may only accept what the parser accepts, and must read it the same."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.gateways.http.forms import PATH, compile_form, header_names
from headrace.gateways.http.head import HeadParser
from headrace.gateways.http.messages import BadFraming, Request

HEAD = b"GET /a/b%20c HTTP/1.1\r\nHost: h:1\r\nUser-Agent: x (y; z)\r\nRange: bytes=0-9\r\nX-A: 1\r\n\r\n"
NAMES = (b"Host", b"User-Agent", b"Range", b"X-A")


def parse(head: bytes) -> Request:
    return HeadParser(100).parse(head, "peer")


def groups(head: bytes, like: bytes = HEAD) -> tuple[bytes, ...] | None:
    form = compile_form(parse(like), header_names(like), {b"range": rb"bytes=\d{1,18}-\d{0,18}"})
    assert form is not None
    match = form.fullmatch(head)
    return None if match is None else match.groups()


def test_reads_path_and_values_in_order() -> None:
    assert header_names(HEAD) == NAMES
    assert groups(HEAD) == (b"/a/b%20c", b"h:1", b"x (y; z)", b"bytes=0-9", b"1")
    other = b"GET /other HTTP/1.1\r\nHost: i\r\nUser-Agent: q\r\nRange: bytes=7-\r\nX-A: ~\r\n\r\n"
    assert groups(other) == (b"/other", b"i", b"q", b"bytes=7-", b"~")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GET", b"HEAD"),
        (b"GET", b"get"),
        (b"GET /", b"GET  /"),
        (b"GET /", b"GET http://h/"),
        (b"%20c", b"?x"),
        (b"%20c", b"#x"),
        (b"%20c", b" c"),
        (b"%20c", b"\xc3\xa9"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
        (b"X-A: 1", b"X-A: 1\r\n y"),
        (b"X-A: 1", b"X-A: 1\nB: 2"),
        (b"X-A: 1", b"X-A: 1\rB: 2"),
        (b"X-A: 1", b"X-A: 1\r\nContent-Length: 5"),
        (b"X-A: 1", b"X-A: 1\r\nX-A: 2"),
        (b"X-A: 1", b"X-A : 1"),
        (b"X-A: 1", b"X-A:1"),
        (b"X-A: 1", b"X-A:  1"),
        (b"X-A: 1", b"X-A: \t1"),
        (b"X-A: 1", b"X-A: a\0b"),
        (b"X-A: 1", b"X-A: \xff"),
        (b"X-A: 1", b"X-A: "),
        (b"X-A: 1", b"X-B: 1"),
        (b"bytes=0-9", b"bytes=0-9,11-12"),
        (b"bytes=0-9", b"bytes=-9"),
        (b"\r\n\r\n", b"\r\n\r\n\r\n"),
        (b"\r\n\r\n", b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        (b"\r\n\r\n", b"\r\n"),
    ],
)
def test_leaves_everything_else_to_the_parser(old: bytes, new: bytes) -> None:
    assert old in HEAD
    assert groups(HEAD.replace(old, new)) is None


@given(at=st.integers(0, len(HEAD) - 1), cut=st.integers(0, 3), put=st.binary(max_size=4))
@example(at=HEAD.index(b"X-A"), cut=0, put=b"Y: ")
def test_what_a_form_accepts_the_parser_reads_the_same(at: int, cut: int, put: bytes) -> None:
    changed = HEAD[:at] + put + HEAD[at + cut :]
    found = groups(changed)
    if found is None:
        return
    request = parse(changed)
    assert request.keep_alive and request.http11 and request.method == b"GET" and not request.query
    assert request.path == found[PATH]
    assert {name: value.rstrip(b" ") for name, value in request.headers.items()} == {
        name.lower(): value.rstrip(b" ") for name, value in zip(NAMES, found[1:], strict=True)
    }


@pytest.mark.parametrize(
    "head",
    [
        b"GET /a HTTP/1.0\r\nHost: h\r\n\r\n",
        b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nx: 1\r\nX: 2\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nx:1\r\n\r\n",
    ],
)
def test_heads_that_need_the_parser_each_time_have_no_form(head: bytes) -> None:
    try:
        request = parse(head)
    except BadFraming:
        return
    names = header_names(head)
    assert not names or compile_form(request, names, {}) is None


def test_a_wish_about_the_connection_is_part_of_the_form() -> None:
    head = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"
    assert groups(head, head) is not None
    assert groups(head.replace(b"keep-alive", b"close"), head) is None
