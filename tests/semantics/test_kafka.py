"""A change at a store that Kafka tells of is seen at once, however long the mount would have believed what it knew."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from headrace.control.sync.schedule import LIVE_EVERY_S
from support.kafka import Broker, kafka_broker
from support.node import RunningNode, running_node
from support.node_client import client_of, closed_clients
from support.processes import wait_until
from support.servers import S3Server

pytestmark = pytest.mark.servers
__all__ = ["closed_clients"]

BUCKET = "told-by-kafka"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with kafka_broker(tmp_path) as started:
        started.make_topic("s3-events", partitions=2)
        yield started


@pytest.fixture
def node(tmp_path: Path, seaweedfs_server: S3Server, broker: Broker) -> Iterator[RunningNode]:
    with contextlib.suppress(ClientError):  # the server lives on from test to test
        seaweedfs_server.make_bucket(BUCKET)
    copied = tmp_path / "copied"
    copied.mkdir()
    config = (
        f'[[kafka]]\nbrokers = ["{broker.address}"]\ntopics = ["s3-events"]\n\n[[mount]]\npath = "/told"\nstore = "s3://{BUCKET}"\n'
        f'endpoint = "{seaweedfs_server.endpoint}"\ncredentials = "env:TOLD"\nfreshness = "1h"\n'
        f'\n[[mount]]\npath = "/copied"\nstore = "file://{copied}"\nwrite = "through"\n'
    )
    environ = {"TOLD_ACCESS_KEY_ID": seaweedfs_server.access_key, "TOLD_SECRET_ACCESS_KEY": seaweedfs_server.secret_key}
    with running_node(tmp_path / "node", config, processes=2, environ=environ) as running:
        wait_until(lambda: feed(running)["connected"] is True, "the node reads the topic")
        yield running


def feed(node: RunningNode) -> dict[str, object]:
    stats = node.api("/api/v1/stats")
    assert isinstance(stats, dict)
    return dict(stats["feeds"][0])


def record(key: str) -> bytes:
    changed = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": BUCKET}, "object": {"key": key}}}
    return json.dumps({"Records": [changed]}).encode()


def test_a_change_behind_our_back_is_seen_by_every_process_when_kafka_tells_of_it(
    node: RunningNode, seaweedfs_server: S3Server, broker: Broker
) -> None:
    clients = [client_of(node) for _ in range(8)]
    seaweedfs_server.put(BUCKET, "a b", b"old")

    def seen() -> set[bytes]:
        return {client.get_object(Bucket="told", Key="a b")["Body"].read() for client in clients}

    assert seen() == {b"old"}
    seaweedfs_server.put(BUCKET, "a b", b"new")
    assert seen() == {b"old"}, "the mount was to believe what it knows for an hour"
    broker.send("s3-events", b"no notification", partition=0)
    broker.send("s3-events", record("a+b"), partition=1)
    wait_until(lambda: feed(node)["messages"] == 2, "both messages are read", deadline_s=10)
    assert seen() == {b"new"}
    told = feed(node)
    assert (told["malformed"], told["objects"], told["waiting"], told["error"]) == (1, 1, 0, "")
    assert f"s3-events at {broker.address}" in node.cli("status").stdout
    line = next(line for line in node.cli("status").stdout.splitlines() if broker.address in line)
    assert "connected" in line


def test_a_live_sync_runs_at_once_when_kafka_tells_of_a_change(
    node: RunningNode, seaweedfs_server: S3Server, broker: Broker, tmp_path: Path
) -> None:
    node.cli("sync", "add", "/told/in", "/copied", "--name", "live", "--schedule", "live")
    wait_until(lambda: run_over(node) > 0, "the first run is over")
    before = run_over(node)
    seaweedfs_server.put(BUCKET, "in/k", b"theirs")
    broker.send("s3-events", record("in/k"))
    wait_until((tmp_path / "copied" / "k").exists, "the object is on the other side")
    assert (tmp_path / "copied" / "k").read_bytes() == b"theirs"
    wait_until(lambda: run_over(node) > before, "the run is over")
    assert run_over(node) - before < LIVE_EVERY_S
    seaweedfs_server.delete(BUCKET, "in/k")


def run_over(node: RunningNode) -> float:
    """When the last run of the live sync began that has ended; 0 while one is under way."""
    state = json.loads(node.cli("sync", "show", "live", "--json").stdout)["state"]
    return state["started_s"] if state["ended_s"] >= state["started_s"] else 0.0


def test_a_node_that_lost_its_place_asks_for_everything_again(
    node: RunningNode, seaweedfs_server: S3Server, broker: Broker
) -> None:
    client = client_of(node)
    seaweedfs_server.put(BUCKET, "quiet", b"old")
    assert client.get_object(Bucket="told", Key="quiet")["Body"].read() == b"old"
    seaweedfs_server.put(BUCKET, "quiet", b"new")
    broker.send("s3-events", record("another"))
    wait_until(lambda: feed(node)["messages"] == 1, "the message is read")
    assert client.get_object(Bucket="told", Key="quiet")["Body"].read() == b"old"
    # The broker's log is gone with all that it would have told.
    broker.stop()
    broker.start()
    broker.make_topic("s3-events", partitions=2)
    wait_until(lambda: feed(node)["gaps"] == 2, "the node notices that messages may be lost")
    assert client.get_object(Bucket="told", Key="quiet")["Body"].read() == b"new"
