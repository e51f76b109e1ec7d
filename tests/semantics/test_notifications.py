"""A store's word that an object changed is heard at once, however long the mount would have believed what it knew."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support.node import RunningNode, running_node
from support.node_client import client_of, closed_clients
from support.servers import S3Server

pytestmark = pytest.mark.servers
__all__ = ["closed_clients"]


@pytest.fixture
def node(tmp_path: Path, seaweedfs_server: S3Server) -> Iterator[RunningNode]:
    with contextlib.suppress(ClientError):  # the server lives on from test to test
        seaweedfs_server.make_bucket("told")
    account = f'endpoint = "{seaweedfs_server.endpoint}"\ncredentials = "env:TOLD"\nfreshness = "1h"\n'
    config = f'[[mount]]\npath = "/whole"\nstore = "s3://told"\n{account}\n[[mount]]\npath = "/part"\nstore = "s3://told/in"\n{account}'
    environ = {"TOLD_ACCESS_KEY_ID": seaweedfs_server.access_key, "TOLD_SECRET_ACCESS_KEY": seaweedfs_server.secret_key}
    with running_node(tmp_path / "node", config, processes=2, environ=environ) as running:
        yield running


def tell(node: RunningNode, body: object, *, token: str | None = None, content_type: str = "application/json") -> int:
    request = urllib.request.Request(f"http://{node.control}/api/v1/events", data=json.dumps(body).encode(), method="POST")
    token = (node.home / "run" / "events.token").read_text().strip() if token is None else token
    request.add_header("authorization", f"Bearer {token}")
    request.add_header("content-type", content_type)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def record(key: str) -> dict[str, object]:
    return {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "told"}, "object": {"key": key}}}]}


def test_every_process_and_every_mount_asks_again(node: RunningNode, seaweedfs_server: S3Server) -> None:
    clients = [client_of(node) for _ in range(8)]
    seaweedfs_server.put("told", "in/a b", b"old")

    def seen() -> set[bytes]:
        whole = {client.get_object(Bucket="whole", Key="in/a b")["Body"].read() for client in clients}
        return whole | {client.get_object(Bucket="part", Key="a b")["Body"].read() for client in clients}

    assert seen() == {b"old"}
    seaweedfs_server.put("told", "in/a b", b"new")
    assert seen() == {b"old"}, "the mounts were to believe what they know for an hour"
    assert tell(node, record("in/another")) == 200
    assert seen() == {b"old"}
    assert tell(node, record("in/a+b")) == 200
    assert seen() == {b"new"}
    seaweedfs_server.delete("told", "in/a b")
    assert tell(node, {"Messages": [{"Body": json.dumps(record("in/a%20b"))}]}) == 200
    for client in clients:
        with pytest.raises(ClientError, match=r"NoSuchKey|404"):
            client.get_object(Bucket="whole", Key="in/a b")


def test_only_who_holds_the_token_is_heard_and_it_opens_nothing_else(node: RunningNode) -> None:
    assert tell(node, record("k"), token="wrong") == 401
    assert tell(node, record("k"), token="") == 401
    assert tell(node, record("k"), token=node.token) == 200
    assert tell(node, {"no": "form"}) == 400
    assert tell(node, record("k"), content_type="text/html") == 415
    events_token = (node.home / "run" / "events.token").read_text().strip()
    for path in ("/api/v1/stats", "/metrics", "/api/v1/mounts"):
        request = urllib.request.Request(f"http://{node.control}{path}", headers={"authorization": f"Bearer {events_token}"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        with refused.value:
            assert refused.value.code == 401
