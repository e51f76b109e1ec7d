"""A writer behind our back, readers on every door: nothing that is older than the mount's freshness and a second is seen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from headrace.client import Client
from headrace.testing.staleness import measure
from support.node import RunningNode, running_node
from support.node_client import client_of, closed_clients
from support.servers import S3Server

pytestmark = [pytest.mark.servers, pytest.mark.slow]
__all__ = ["closed_clients"]

FRESHNESS_S = 2.0
SECONDS = 12.0
KEYS = [f"stamped/{number}" for number in range(10)]


def s3_reader(node: RunningNode) -> Callable[[str], bytes]:
    """With a connection of its own: the kernel spreads them over the serving processes."""
    client = client_of(node)
    return lambda key: client.get_object(Bucket="m", Key=key)["Body"].read()


def test_no_door_shows_what_is_older_than_freshness_and_a_second(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    with contextlib.suppress(ClientError):  # the server lives on from test to test
        seaweedfs_server.make_bucket("stale")
    config = f'[[mount]]\npath = "/m"\nstore = "s3://stale"\nendpoint = "{seaweedfs_server.endpoint}"\n'
    config += f'credentials = "env:STALE"\nfreshness = "{FRESHNESS_S:g}s"\n'
    environ = {"STALE_ACCESS_KEY_ID": seaweedfs_server.access_key, "STALE_SECRET_ACCESS_KEY": seaweedfs_server.secret_key}
    with contextlib.ExitStack() as stack:
        for name, value in environ.items():
            stack.enter_context(pytest.MonkeyPatch.context()).setenv(name, value)
        node = stack.enter_context(running_node(tmp_path / "node", config, processes=2, environ=environ))
        remote = stack.enter_context(Client.connect(str(node.config), mode="remote", endpoint=node.data_url))
        embedded = stack.enter_context(Client.connect(str(node.config), mode="embedded"))
        doors = {
            "S3": [s3_reader(node) for _ in range(4)],
            "remote": [lambda key: remote.read(f"/m/{key}")] * 2,
            "embedded": [lambda key: embedded.read(f"/m/{key}")] * 2,
        }
        began = time.monotonic()
        ages = measure(lambda key, body: seaweedfs_server.put("stale", key, body), doors, keys=KEYS, seconds=SECONDS)
        assert time.monotonic() - began >= SECONDS
        stats = node.api("/api/v1/stats")
    assert isinstance(stats, dict)
    assert set(ages) == set(doors)
    for door, age in ages.items():
        assert age.reads >= 100, f"{door}: {age}"
        assert 0.2 < age.most_s <= FRESHNESS_S + 1.0, f"{door}: {age}"
    assert stats["counters"]["refreshes"] > 0, "hot entries were to be asked for in the background"
