"""Two mounts of one store: what is written through one is read through the other at once, however long its freshness is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support.node import RunningNode, start_node, stop_node
from support.node_client import client_of, closed_clients
from support.servers import S3Server

__all__ = ["closed_clients"]


@pytest.fixture(params=["directory", pytest.param("SeaweedFS", marks=pytest.mark.servers)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The options of a mount that say where its store is, but for what is put behind it."""
    if request.param == "directory":
        (tmp_path / "store/below").mkdir(parents=True)
        return f'store = "file://{tmp_path}/store'
    server: S3Server = request.getfixturevalue("seaweedfs_server")
    bucket = f"two-mounts-{os.urandom(4).hex()}"
    server.make_bucket(bucket)
    patch = request.getfixturevalue("monkeypatch")
    patch.setenv("WEED_ACCESS_KEY_ID", server.access_key)
    patch.setenv("WEED_SECRET_ACCESS_KEY", server.secret_key)
    return f'endpoint = "{server.endpoint}"\ncredentials = "env:WEED"\nstore = "s3://{bucket}'


@pytest.fixture(params=["through", "back"])
def node(request: pytest.FixtureRequest, tmp_path: Path, place: str) -> Iterator[RunningNode]:
    config = (
        f'[[mount]]\npath = "/all"\n{place}"\nfreshness = "1h"\nwrite = "{request.param}"\n\n'
        f'[[mount]]\npath = "/part"\n{place}/below"\nfreshness = "1h"\nwrite = "through"\n'
    )
    running = start_node(tmp_path / "node", config, processes=2)
    yield running
    stop_node(running)


def test_a_write_through_one_mount_is_seen_through_the_other(node: RunningNode) -> None:
    clients = [client_of(node) for _ in range(6)]
    for number in range(6):
        body = os.urandom(50_000 + number)
        clients[number].put_object(Bucket="all", Key="below/k", Body=body)
        node.cli("sync", "--wait", "--timeout", "30s", "/all")
        for reader in clients:
            assert reader.get_object(Bucket="part", Key="k")["Body"].read() == body
            assert [entry["Key"] for entry in reader.list_objects_v2(Bucket="part")["Contents"]] == ["k"]
        body = os.urandom(50_000 + number)
        clients[number].put_object(Bucket="part", Key="k", Body=body)
        for reader in clients:
            assert reader.get_object(Bucket="all", Key="below/k")["Body"].read() == body
    clients[0].delete_object(Bucket="part", Key="k")
    for reader in clients:
        for bucket, key in (("part", "k"), ("all", "below/k")):
            with pytest.raises(ClientError, match=r"404|NoSuchKey"):
                reader.get_object(Bucket=bucket, Key=key)
