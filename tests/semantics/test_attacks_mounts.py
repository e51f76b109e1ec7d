"""Attacks through mounts on a whole node: targets that stores are not reached at, injected options, stores that redirect."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.attacks import control, owner
from support.node import RunningNode, running_node

pytestmark = pytest.mark.servers

STORE_KEY, STORE_SECRET = "AKSTOREKEY", "store-secret-1f0c9b7e"
REST = "x-amz-bucket-region: eu-west-1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
LINK_LOCAL = (
    "169.254.169.254",
    "169.254.170.2",
    "[fd00:ec2::254]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::1]",
    "metadata.google.internal",
    "METADATA.GOOGLE.INTERNAL.",
    "0.0.0.0",
    "0",
    "[::]",
    "224.0.0.1",
    "255.255.255.255",
    "100.100.100.200",
    "168.63.129.16",
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    place = tmp_path_factory.mktemp("store")
    (place / "x").write_text("x")
    config = f'[[mount]]\npath = "/data"\nstore = "file://{place}"\n'
    environ = {"CORP_ACCESS_KEY_ID": STORE_KEY, "CORP_SECRET_ACCESS_KEY": STORE_SECRET}
    with running_node(tmp_path_factory.mktemp("node"), config, processes=1, environ=environ) as running:
        yield running


def add(node: RunningNode, **spec: Any) -> tuple[int, dict[str, Any]]:
    status, body = control(node, "POST", "/api/v1/mounts", {"path": "/new", "timeout": "2s", **spec})
    return status, json.loads(body)


def mounts(node: RunningNode) -> list[str]:
    return [view["spec"]["path"] for view in json.loads(control(node, "GET", "/api/v1/mounts")[1])]


class Listener:
    """Whoever is at the other end: what it was sent, and what it answers."""

    def __init__(self, answer: bytes) -> None:
        self.heads: list[bytes] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b""
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    head += line
                if head:
                    outer.heads.append(head)
                    self.wfile.write(answer)

        class Threaded(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self.server = Threaded(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]


@contextmanager
def listening(answer: bytes = b"") -> Iterator[Listener]:
    listener = Listener(answer)
    thread = threading.Thread(target=listener.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield listener
    finally:
        listener.server.shutdown()
        listener.server.server_close()
        thread.join(10)


@pytest.mark.parametrize("host", LINK_LOCAL)
@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
def test_20_a_mount_of_an_address_that_stores_are_not_at_is_refused(node: RunningNode, scheme: str, host: str) -> None:
    status, body = add(
        node,
        store=f"{scheme}://bucket/x",
        endpoint=f"http://{host}:80",
        credentials="anonymous" if scheme != "az" else "env:CORP",
    )
    assert (status, body["kind"]) == (400, "SettingsError"), body
    assert mounts(node) == ["/data"]


@pytest.mark.parametrize("host", LINK_LOCAL[:4])
def test_20_neither_a_member_of_a_union_nor_a_replacement_gets_there(node: RunningNode, host: str) -> None:
    inner = {"path": "/new", "store": "s3://b", "endpoint": f"http://{host}", "credentials": "anonymous", "timeout": "2s"}
    assert add(node, union=[inner])[0] == 400
    place = json.loads(control(node, "GET", "/api/v1/mounts")[1])[0]["spec"]["store"]
    assert add(node, path="/mine", store=place)[0] == 201
    expected = next(v["spec"] for v in json.loads(control(node, "GET", "/api/v1/mounts")[1]) if v["spec"]["path"] == "/mine")
    wanted = {"spec": {**inner, "path": "/mine"}, "expected": expected}
    assert control(node, "PUT", "/api/v1/mounts", wanted)[0] == 400
    assert control(node, "DELETE", "/api/v1/mounts", {"path": "/mine"})[0] == 200


@pytest.mark.parametrize(
    "extra",
    [
        {"endpoint_url": "http://x"},
        {"command": "id"},
        {"type": "local"},
        {"sftp_ssh": "sh"},
        {"client_kwargs": {}},
        {"store": ":local,command=id:/"},
        {"store": "sftp:host:/x"},
        {"store": "s3,endpoint=http://x:bucket"},
        {"store": "file:///etc/../x\n"},
        {"store": "s3://bucket?endpoint=http://x"},
        {"store": "s3://bucket#x"},
        {"store": "s3://bucket@evil/x"},
        {"store": "file://host/etc"},
        {"store": "file:/etc"},
        {"store": "FILE:///etc"},
        {"store": "file://./x"},
        {"store": "http://x/y"},
        {"store": "s3://../x", "credentials": "anonymous"},
        {"store": "az://c/x", "endpoint": "http://127.0.0.1:1/../x"},
        {"store": "s3://b", "endpoint": "http://127.0.0.1:1/path?x=1"},
        {"store": "s3://b", "endpoint": "gopher://127.0.0.1:1"},
        {"store": "s3://b", "endpoint": "file:///etc/passwd"},
        {"store": "s3://b", "endpoint": "http://a@127.0.0.1:1"},
        {"store": "s3://b", "endpoint": "http://127.0.0.1:1\r\nx: y"},
        {"store": "s3://b", "credentials": "env:CORP;id"},
        {"store": "s3://b", "credentials": "env:$(id)"},
        {"store": "s3://b", "credentials": "profile:a/../b"},
        {"store": "s3://b", "credentials": f"{STORE_KEY}:{STORE_SECRET}"},
        {"store": "s3://b", "credentials": "cmd:id"},
        {"store": "s3://b", "region": "evil.example/#"},
        {"store": "s3://b", "region": "x\r\nx-evil: y"},
        {"store": "s3://b", "region": "a@b"},
        {"store": "s3://b", "allow_private": "yes"},
        {"store": "s3://b", "max_connections": 10**30},
        {"store": "s3://b", "timeout": "-1s"},
        {"store": "s3://b", "timeout": "1e999s"},
        {"store": "s3://b", "residency": "shell"},
        {"path": "/a/../b", "store": "memory://"},
        {"path": "relative", "store": "memory://"},
        {"path": "/\u0000", "store": "memory://"},
    ],
)
def test_22_injected_options_are_refused_by_the_schema(node: RunningNode, extra: dict[str, Any]) -> None:
    status, body = add(node, **{"store": "s3://b", "credentials": "env:CORP", **extra})
    assert status == 400, body
    assert STORE_SECRET not in json.dumps(body)
    assert mounts(node) == ["/data"]


@pytest.mark.parametrize(
    "status_line", ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
)
@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
def test_21_a_store_that_redirects_is_not_followed_and_nothing_leaks(
    node: RunningNode, status_line: str, scheme: str, tmp_path: Path
) -> None:
    with listening(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n") as thief:
        answer = f"HTTP/1.1 {status_line}\r\nlocation: http://127.0.0.1:{thief.port}/bucket/x\r\n{REST}"
        with listening(answer.encode()) as store:
            reference = "env:CORP"
            if scheme == "az":
                (tmp_path / "az").write_text("devaccount\nc2VjcmV0LXNlY3JldA==\n")
                (tmp_path / "az").chmod(0o600)
                reference = f"file:{tmp_path}/az"
            status, body = add(
                node,
                store=f"{scheme}://bucket",
                endpoint=f"http://127.0.0.1:{store.port}",
                credentials="anonymous" if scheme == "gs" else reference,
            )
            assert status in (400, 403, 404, 503), body
            assert store.heads, "the store was asked"
            assert thief.heads == []
    assert STORE_SECRET not in json.dumps(body)
    assert not any(STORE_SECRET.encode() in head for head in store.heads)
    assert mounts(node) == ["/data"]


def test_21_a_redirect_while_reading_is_not_followed_either(node: RunningNode) -> None:
    """The store behaves while it is mounted and redirects the first reader."""
    listing = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'
    good = b"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (
        len(listing),
        listing,
    )
    with listening() as thief, listening(good) as store:
        assert (
            add(node, path="/turning", store="s3://bucket", endpoint=f"http://127.0.0.1:{store.port}", credentials="env:CORP")[0]
            == 201
        )
        moved = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:%d/bucket/x\r\n" + REST.encode()
        store.server.RequestHandlerClass = type(
            "Moved", (socketserver.StreamRequestHandler,), {"handle": lambda self: self.wfile.write(moved % thief.port)}
        )
        try:
            for method, path in (("GET", "/turning/x"), ("HEAD", "/turning/x"), ("GET", "/turning?list-type=2")):
                answer = owner(node).ask(method, path)
                assert answer.status >= 400
                assert answer.status not in (301, 302, 307, 404), "unreachable is never not-found, and callers are not sent on"
                assert "location" not in answer.headers
        finally:
            assert control(node, "DELETE", "/api/v1/mounts", {"path": "/turning"})[0] == 200
        assert thief.heads == []
