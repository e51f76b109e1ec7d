"""The HTTP layer: exact targets, no redirects, and every way an answer can break."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import (
    AccessDenied,
    CorruptData,
    HeadraceError,
    InvalidRange,
    NotFound,
    SettingsError,
    Throttled,
    Unavailable,
    VersionChanged,
)
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.stores.http import (
    Http,
    HttpReading,
    HttpResponse,
    HttpSettings,
    Redirected,
    body_range,
    retry_after_s,
    status_error,
)
from support.processes import free_port
from support.scripted import Answer, http_answer, scripted

INFO = ObjectInfo("k", 10, Version("etag:x"))


async def fetch(answer: Answer, *, asked: ByteRange | None = None, close_after: bool = False) -> bytes:
    async with scripted(answer, close_after=close_after) as server:
        http = Http(HttpSettings(read_timeout_s=0.2, connect_timeout_s=1.0))
        try:
            response = await http.request("GET", server.endpoint + "/k", path="k")
            held, _ = body_range(response, asked)
            reading = HttpReading(INFO, held, response)
            try:
                return b"".join([bytes(piece) async for piece in reading])
            finally:
                await reading.aclose()
        finally:
            await http.close()


async def test_the_target_is_sent_exactly_and_nothing_is_added() -> None:
    async with scripted(lambda *_: http_answer(200)) as server:
        http = Http()
        target = "/b/a//b/../%2E/%2f+%20%C3%A9?list-type=2&x=%2F+&y"
        await (await http.request("GET", server.endpoint + target, headers=[("x-a", "1")])).read()
        await http.close()
        first, headers = server.requests[0]
        assert first == f"GET {target} HTTP/1.1"
        assert set(headers) == {"host", "x-a", "accept-encoding", "user-agent"}
        assert headers["accept-encoding"] == "identity"


async def test_a_compressed_body_is_not_unpacked() -> None:
    assert await fetch(lambda *_: http_answer(200, b"\x1f\x8bnot gzip", content_encoding="gzip")) == b"\x1f\x8bnot gzip"


async def test_a_redirect_is_an_error_and_not_followed() -> None:
    async with scripted(lambda *_: http_answer(301, location="http://127.0.0.1:1/elsewhere")) as server:
        http = Http()
        with pytest.raises(Redirected, match="elsewhere"):
            await http.request("GET", server.endpoint + "/k", headers=[("authorization", "secret")])
        await http.close()
        assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "answer", [http_answer(200), b"HTTP/1.1 204 X\r\n\r\n", b"HTTP/1.0 204 X\r\nconnection: keep-alive\r\n\r\n"]
)
async def test_connections_are_kept(method: str, answer: bytes) -> None:
    async with scripted(lambda *_: answer) as server:
        http = Http()
        for _ in range(5):
            response = await http.request(method, server.endpoint + "/k", body=b"body" if method == "PUT" else b"")
            response.close()
        await http.close()
        assert server.connections == 1


async def test_connections_are_kept_behind_bodies() -> None:
    async with scripted(lambda *_: http_answer(200, b"x" * 10)) as server:
        http = Http()
        for _ in range(5):
            await (await http.request("GET", server.endpoint + "/k")).read()
        await http.close()
        assert server.connections == 1


@pytest.mark.parametrize(
    ("asked", "answer", "error"),
    [
        (None, http_answer(200, b"short", length=10), Unavailable),
        (ByteRange(0, 10), http_answer(206, b"short", length=10, content_range="bytes 0-9/10"), Unavailable),
        (ByteRange(0, 10), http_answer(206, b"x" * 10, content_range="bytes 1-10/11"), CorruptData),
        (ByteRange(0, 10), http_answer(206, b"x" * 9, content_range="bytes 0-8/100"), CorruptData),
        (ByteRange(0, 10), http_answer(206, b"x" * 9, content_range="bytes 0-9/100"), CorruptData),
        (ByteRange(0, 10), http_answer(206, b"x" * 10), CorruptData),
        (ByteRange(0, 10), http_answer(206, b"x" * 10, content_range="bytes 0-9/*"), CorruptData),
        (None, http_answer(206, b"x" * 10, content_range="bytes 0-9/10"), CorruptData),
        (ByteRange(0, 5), http_answer(200, b"x" * 10), CorruptData),
        (ByteRange(5, 9), http_answer(200, b"x" * 10), CorruptData),
        (ByteRange(10, 12), http_answer(200, b"x" * 10), CorruptData),
        (ByteRange(0, 2), http_answer(200, b""), InvalidRange),
        (None, b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\nxxxx", CorruptData),
        (None, b"garbage\r\n\r\n", Unavailable),
        (None, b"", Unavailable),
    ],
)
async def test_an_answer_that_is_not_what_was_asked_is_never_a_body(
    asked: ByteRange | None, answer: bytes, error: type[HeadraceError]
) -> None:
    with pytest.raises(error):
        await fetch(lambda *_: answer, asked=asked, close_after=True)


async def test_a_whole_object_may_answer_a_range_that_covers_it() -> None:
    assert await fetch(lambda *_: http_answer(200, b"x" * 10), asked=ByteRange(0, 99)) == b"x" * 10


async def test_a_cut_range_is_taken() -> None:
    answer = http_answer(206, b"x" * 4, content_range="bytes 6-9/10")
    assert await fetch(lambda *_: answer, asked=ByteRange(6, 99)) == b"x" * 4


async def test_silence_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="in time"):
        await fetch(lambda *_: None)


async def test_a_stalled_body_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await fetch(lambda *_: http_answer(200, b"xx", length=10))


async def test_a_refused_connection_says_so() -> None:
    http = Http()
    with pytest.raises(Unavailable, match="refused"):
        await http.request("GET", f"http://127.0.0.1:{free_port()}/")
    await http.close()


async def test_a_name_that_does_not_resolve_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    http = Http()
    with pytest.raises(Unavailable, match="resolved"):
        await http.request("GET", "http://nowhere.invalid/")
    await http.close()


async def test_tls_with_a_server_that_speaks_none_is_unavailable() -> None:
    async with scripted(lambda *_: http_answer(200)) as server:
        http = Http(HttpSettings(connect_timeout_s=1.0))
        with pytest.raises(Unavailable):
            await http.request("GET", f"https://127.0.0.1:{server.port}/")
        await http.close()


async def test_an_explanation_that_is_too_long_is_refused() -> None:
    async with scripted(lambda *_: http_answer(200, b"x" * 1000)) as server:
        http = Http()
        response = await http.request("GET", server.endpoint + "/k")
        with pytest.raises(CorruptData):
            await response.read(999)
        await http.close()


async def test_a_reading_given_up_frees_its_connection() -> None:
    async with scripted(lambda *_: http_answer(200, b"x", length=10)) as server:
        http = Http(HttpSettings(max_connections=1))
        for _ in range(3):
            response = await http.request("GET", server.endpoint + "/k")
            reading = HttpReading(INFO, body_range(response, None)[0], response)
            await reading.aclose()
            await reading.aclose()
        await http.close()
        assert server.connections == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, NotFound),
        (403, AccessDenied),
        (401, AccessDenied),
        (412, VersionChanged),
        (416, InvalidRange),
        (429, Throttled),
        *((status, Unavailable) for status in (408, 500, 502, 503, 504, 599)),
    ],
)
def test_statuses_mean_errors(status: int, error: type[HeadraceError]) -> None:
    assert type(status_error(status, "m", path="k", headers={}, now_s=0)) is error


def test_retry_after_is_seconds_or_a_date_and_bounded() -> None:
    assert retry_after_s({"retry-after": "7"}, 0) == 7
    assert retry_after_s({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 50) == 10
    assert retry_after_s({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 500) == 0
    assert retry_after_s({"retry-after": "999999"}, 0) == 3600
    assert retry_after_s({}, 0) is None


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_retry_after_is_read_or_ignored(text: str) -> None:
    assert retry_after_s({"retry-after": text}, 0) is None or 0 <= (retry_after_s({"retry-after": text}, 0) or 0) <= 3600


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=10), st.sampled_from([200, 206]))
def test_any_header_makes_a_range_or_our_error(content_range: str, length: str, status: int) -> None:
    response = _Answer(status, {"content-range": content_range, "content-length": length})
    try:
        held, size = body_range(response, ByteRange(0, 5))
    except HeadraceError:
        return
    assert held.start == 0
    assert held.end <= size


async def test_a_url_that_is_none_is_a_settings_error() -> None:
    http = Http()
    with pytest.raises((SettingsError, Unavailable)):
        await http.request("GET", "http:///nothing")
    await http.close()


class _Answer(HttpResponse):
    """Status and headers alone."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.path = "k"
