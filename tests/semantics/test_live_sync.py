"""A live sync of a real node: what callers write, and what a store notifies, is on the other side at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.control.sync.schedule import LIVE_EVERY_S
from support.node import RunningNode, running_node
from support.node_client import client_of, closed_clients
from support.processes import wait_until
from support.servers import S3Server

pytestmark = pytest.mark.servers
__all__ = ["closed_clients"]


def started_s(node: RunningNode) -> float:
    """When the last run began that has ended; 0 while one is under way."""
    state = json.loads(node.cli("sync", "show", "live", "--json").stdout)["state"]
    return state["started_s"] if state["ended_s"] >= state["started_s"] else 0.0


def follow(node: RunningNode) -> float:
    """Make the sync of /a and /b; when its first run began, which is over."""
    node.cli("sync", "add", "/a", "/b", "--name", "live", "--schedule", "live", "--mode", "two-way")
    wait_until(lambda: started_s(node) > 0, "the first run is over")
    return started_s(node)


def test_what_is_written_through_any_process_is_on_the_other_side_at_once(tmp_path: Path) -> None:
    sides = [tmp_path / name for name in ("a", "b")]
    config = ""
    for side in sides:
        side.mkdir()
        config += f'[[mount]]\npath = "/{side.name}"\nstore = "file://{side}"\nwrite = "through"\n'
    with running_node(tmp_path / "node", config, processes=2) as node:
        clients = [client_of(node) for _ in range(4)]
        before = follow(node)
        for number, client in enumerate(clients):
            written, other = sides[number % 2], sides[1 - number % 2]
            client.put_object(Bucket=written.name, Key=f"k{number}", Body=b"%d" % number)
            wait_until((other / f"k{number}").exists, f"k{number} is on the other side")
            assert (other / f"k{number}").read_bytes() == b"%d" % number
            wait_until(lambda before=before: started_s(node) > before, "the run is over")  # type: ignore[misc]
            assert started_s(node) - before < LIVE_EVERY_S
            before = started_s(node)


def test_what_a_store_notifies_is_on_the_other_side_at_once(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    seaweedfs_server.make_bucket("live")
    other = tmp_path / "b"
    other.mkdir()
    config = (
        f'[[mount]]\npath = "/a"\nstore = "s3://live/in"\nendpoint = "{seaweedfs_server.endpoint}"\ncredentials = "env:LIVE"\n'
        f'write = "through"\n[[mount]]\npath = "/b"\nstore = "file://{other}"\nwrite = "through"\n'
    )
    environ = {"LIVE_ACCESS_KEY_ID": seaweedfs_server.access_key, "LIVE_SECRET_ACCESS_KEY": seaweedfs_server.secret_key}
    with running_node(tmp_path / "node", config, processes=1, environ=environ) as node:
        before = follow(node)
        seaweedfs_server.put("live", "in/k", b"theirs")
        changed = {"s3": {"bucket": {"name": "live"}, "object": {"key": "in/k"}}}
        node.api("/api/v1/events", method="POST", body={"Records": [changed]})
        wait_until((other / "k").exists, "the object is on the other side")
        assert (other / "k").read_bytes() == b"theirs"
        wait_until(lambda: started_s(node) > before, "the run is over")
        assert started_s(node) - before < LIVE_EVERY_S
