from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.console.guard import COOKIE, MAX_BODY_BYTES, RequestHead, host_allowed, judge, session_value

TOKEN = "t0ken-" + "x" * 40
NAMES = frozenset({"console.example"})
COOKIES = f"{COOKIE}={session_value(TOKEN)}"

BEARER_GET = RequestHead("GET", "/api/v1/stats", host="127.0.0.1:9401", authorization=f"Bearer {TOKEN}")
BEARER_POST = RequestHead(
    "POST",
    "/api/v1/load",
    host="127.0.0.1:9401",
    authorization=f"Bearer {TOKEN}",
    content_type="application/json",
    content_length="12",
)
BROWSER_GET = RequestHead("GET", "/", host="localhost:9401", cookie=COOKIES)
BROWSER_POST = RequestHead(
    "POST",
    "/api/v1/load",
    host="localhost:9401",
    cookie=COOKIES,
    origin="http://localhost:9401",
    content_type="application/json",
    content_length="12",
)


def but(head: RequestHead, **changes: object) -> RequestHead:
    return msgspec.structs.replace(head, **changes)


@pytest.mark.parametrize("head", [BEARER_GET, BEARER_POST, BROWSER_GET, BROWSER_POST])
def test_who_shows_the_token_or_the_session_passes(head: RequestHead) -> None:
    assert judge(head, TOKEN, NAMES).status == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_liveness_is_open_and_answers_get_only(path: str) -> None:
    assert judge(RequestHead("GET", path, host="10.0.0.1"), TOKEN, NAMES).status == 0
    assert judge(RequestHead("POST", path, host="10.0.0.1"), TOKEN, NAMES).status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/api/v1/mounts",
        "/api/v1/stats",
        "/static/console.js",
        "/docs",
        "/openapi.json",
        "/debug",
        "/healthz/",
        "/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_everything_else_is_401_without_the_token(method: str, path: str) -> None:
    assert judge(RequestHead(method, path, host="127.0.0.1"), TOKEN, NAMES).status == 401


@pytest.mark.parametrize(
    "head",
    [
        but(BEARER_GET, authorization=f"Bearer {TOKEN}x"),
        but(BEARER_GET, authorization=f"Bearer {TOKEN[:-1]}"),
        but(BEARER_GET, authorization="Bearer "),
        but(BEARER_GET, authorization=f"Basic {TOKEN}"),
        but(BEARER_GET, authorization=TOKEN),
        but(BEARER_GET, authorization=f"Bearer {session_value(TOKEN)}"),
        but(BROWSER_GET, cookie=f"{COOKIE}={TOKEN}"),
        but(BROWSER_GET, cookie=f"{COOKIE}="),
        but(BROWSER_GET, cookie="; ; =" * 50),
        but(BROWSER_GET, cookie=f"other={session_value(TOKEN)}"),
        but(BROWSER_GET, cookie=f"{COOKIES};" + "x" * 9000),
    ],
)
def test_almost_right_is_wrong(head: RequestHead) -> None:
    assert judge(head, TOKEN, NAMES).status == 401


def test_a_login_link_gives_a_session_that_is_not_the_token() -> None:
    verdict = judge(RequestHead("GET", "/", host="127.0.0.1", query=f"token={TOKEN}"), TOKEN, NAMES)
    assert verdict.status == 303
    assert verdict.cookie
    assert TOKEN not in verdict.cookie


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("GET", "/api/v1/stats"), ("GET", "/metrics"), ("HEAD", "/")])
def test_the_token_in_a_query_opens_nothing_else(method: str, path: str) -> None:
    assert judge(RequestHead(method, path, host="127.0.0.1", query=f"token={TOKEN}"), TOKEN, NAMES).status == 401


def test_a_wrong_login_link_is_401() -> None:
    assert judge(RequestHead("GET", "/", host="127.0.0.1", query="token=guess"), TOKEN, NAMES).status == 401


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:9999", "http://localhost", "http://localhost:9401.evil.example"]
)
def test_a_page_of_another_origin_changes_nothing(origin: str) -> None:
    assert judge(but(BROWSER_POST, origin=origin), TOKEN, NAMES).status == 403
    assert judge(but(BEARER_POST, origin=origin), TOKEN, NAMES).status == 403


def test_a_browser_without_an_origin_changes_nothing() -> None:
    assert judge(but(BROWSER_POST, origin=""), TOKEN, NAMES).status == 403


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_simple_form_changes_nothing(kind: str) -> None:
    assert judge(but(BROWSER_POST, content_type=kind), TOKEN, NAMES).status == 415


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"content_length": str(MAX_BODY_BYTES + 1)}, 413),
        ({"content_length": "9" * 400}, 413),
        ({"content_length": ""}, 411),
        ({"content_length": "-1"}, 411),
        ({"content_length": "²"}, 411),
        ({"content_length": "12,12"}, 411),
        ({"chunked": True}, 411),
    ],
)
def test_bodies_are_bounded(changes: dict[str, object], status: int) -> None:
    assert judge(but(BEARER_POST, **changes), TOKEN, NAMES).status == status


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9401",
        "localhost",
        "LOCALHOST:1",
        "[::1]:9401",
        "10.1.2.3:80",
        "console.example",
        "Console.Example:9",
    ],
)
def test_addresses_and_known_names_are_served(host: str) -> None:
    assert host_allowed(host, NAMES)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a,127.0.0.1", "127.0.0.1:80:80", "[::1",
     "localhost:x", "127.0.0.1@evil.example", "2130706433", "0x7f.1"],
)  # fmt: skip
def test_a_rebound_name_is_refused_on_every_path(host: str) -> None:
    for head in (BEARER_GET, BROWSER_POST, RequestHead("GET", "/healthz"), RequestHead("GET", "/", query=f"token={TOKEN}")):
        assert judge(but(head, host=host), TOKEN, NAMES).status == 403


@given(st.builds(RequestHead, *[st.text(max_size=40)] * 9, st.booleans()))
def test_no_garbage_passes_or_breaks_it(head: RequestHead) -> None:
    verdict = judge(head, TOKEN, NAMES)
    assert verdict.status in (401, 403, 405) or head.path in ("/healthz", "/readyz")
