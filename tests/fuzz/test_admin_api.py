"""The admin API: any body is done or refused in words, never a fault of the server, and the console lives on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.console import ServedConsole, served_console
from support.fake_node import FakeNode

FIELDS = st.sampled_from(
    ["path", "store", "endpoint", "union", "spec", "expected", "prefix", "on", "max_connections", "timeout", "residency"]
)
TEXTS = st.one_of(
    st.sampled_from(["/a", "/sales", "/fixed", "", "s3://b", "memory://", "\0", "\ud800", "\U0010ffff", "../x", "30s"]),
    st.text(max_size=8),
)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(FIELDS, st.one_of(TEXTS, JSONS), max_size=4)
BODIES = st.one_of(
    OBJECTS.map(lambda value: json.dumps(value).encode()),
    JSONS.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
)
ROUTES = st.sampled_from(
    [
        ("POST", "/mounts"),
        ("PUT", "/mounts"),
        ("DELETE", "/mounts"),
        ("POST", "/load"),
        ("POST", "/free"),
        ("POST", "/pin"),
        ("POST", "/jobs/x/cancel"),
        ("POST", "/jobs/%00/resume"),
        ("GET", "/jobs/%ff"),
        ("GET", "/jobs/%F0%9F%98%80"),
        ("GET", "/jobs/'%20or%201=1--"),
    ]
)
DEEP = (
    b'{"path":"/a","union":[' * 2900,
    b"[" * 60_000,
    b'{"spec":' * 7000,
    b'{"path":"/x","store":"' + b"\\u0000" * 9000 + b'"}',
)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedConsole]:
    with served_console(Path(tmp_path_factory.mktemp("console")), FakeNode({"/sales/1": 10})) as served:
        yield served


def ask(console: ServedConsole, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=20)
    headers = {"authorization": f"Bearer {console.plane.admin_token()}", "content-type": "application/json"}
    try:
        connection.request(method, f"/api/v1{path}", body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def check(console: ServedConsole, method: str, path: str, body: bytes) -> int:
    status, answer = ask(console, method, path, body)
    assert status < 500, f"{method} {path} {body[:300]!r}: {status} {answer[:300]!r}"
    if status >= 400:
        said = json.loads(answer)
        assert said["kind"]
        assert said["message"]
    return status


@settings(max_examples=250, deadline=None)
@given(route=ROUTES, body=BODIES)
def test_any_body_is_done_or_refused_in_words(console: ServedConsole, route: tuple[str, str], body: bytes) -> None:
    check(console, *route, body)


@pytest.mark.parametrize("route", [("POST", "/mounts"), ("PUT", "/mounts"), ("POST", "/pin"), ("POST", "/load")])
@pytest.mark.parametrize("number", range(len(DEEP)))
def test_bodies_nested_deeply_are_refused(console: ServedConsole, route: tuple[str, str], number: int) -> None:
    assert check(console, *route, DEEP[number]) == 400
    assert ask(console, "GET", "/pins", b"")[0] == 200
