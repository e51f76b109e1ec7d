"""Syncs on a real node: over directories and a real S3 store, past the cache, and killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.node import RunningNode, running_node, start_node, stop_node
from support.servers import S3Server

pytestmark = pytest.mark.servers


def until(holds: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.05)


def mount(path: str, store: str, **more: str) -> str:
    lines = [
        f'path = "{path}"',
        f'store = "{store}"',
        'write = "through"',
        *(f'{key} = "{value}"' for key, value in more.items()),
    ]
    return "[[mount]]\n" + "\n".join(lines) + "\n\n"


def shown(node: RunningNode, name: str) -> dict:
    return json.loads(node.cli("sync", "show", name, "--json").stdout)


def files(root: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {name: body for name, body in found.items() if not name.startswith(".headrace")}


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    made = tmp_path / "a", tmp_path / "b"
    for side in made:
        side.mkdir()
    return made


@pytest.fixture(scope="module")
def buckets(seaweedfs_server: S3Server) -> S3Server:
    for bucket in ("sync-one", "sync-two"):
        seaweedfs_server.make_bucket(bucket)
    return seaweedfs_server


@pytest.fixture
def node(tmp_path: Path, sides: tuple[Path, Path], buckets: S3Server) -> Iterator[RunningNode]:
    keys = tmp_path / "keys"
    keys.write_text(f"{buckets.access_key}\n{buckets.secret_key}\n")
    s3 = {"endpoint": buckets.endpoint, "credentials": f"file:{keys}"}
    config = mount("/a", f"file://{sides[0]}") + mount("/b", f"file://{sides[1]}")
    config += mount("/one", "s3://sync-one/deep", **s3) + mount("/two", "s3://sync-two", **s3)
    with running_node(tmp_path / "node", config, processes=2) as running:
        yield running


def test_a_directory_and_a_bucket_follow_each_other(node: RunningNode, sides: tuple[Path, Path], buckets: S3Server) -> None:
    root, big = sides[0], os.urandom(20 << 20)
    (root / "deep").mkdir()
    (root / "deep" / "big").write_bytes(big)
    for number in range(20):
        (root / f"{number}.txt").write_text(f"number {number}")
    planned = node.cli("sync", "add", "/a", "/two/side", "--mode", "two-way", "--name", "pair", "--dry-run").stdout
    assert "copy deep/big -> /two/side, 20.0 MiB" in planned
    assert "21 to copy" in planned
    node.cli("sync", "add", "/a", "/two/side", "--mode", "two-way", "--name", "pair")
    node.cli("sync", "run", "pair")
    client = buckets.client()
    assert client.get_object(Bucket="sync-two", Key="side/deep/big")["Body"].read() == big
    # Behind our back, on both sides.
    buckets.put("sync-two", "side/new.txt", b"from there", ContentType="text/plain", Metadata={"who": "them"})
    buckets.delete("sync-two", "side/3.txt")
    (root / "4.txt").write_text("changed here")
    assert node.cli("cat", "/two/side/4.txt").stdout == "number 4"
    node.cli("sync", "run", "pair")
    assert (root / "new.txt").read_bytes() == b"from there"
    assert not (root / "3.txt").exists()
    # What a sync writes is seen at once, whatever is cached.
    assert node.cli("cat", "/two/side/4.txt").stdout == "changed here"
    assert "who" in node.cli("stat", "/a/new.txt", "--json").stdout
    state = shown(node, "pair")["state"]
    assert (state["initial"]["to_b"], state["live"]["to_b"], state["live"]["to_a"], state["live"]["deleted_a"]) == (21, 1, 1, 1)
    assert "nothing to do" in node.cli("sync", "run", "pair", "--dry-run").stdout
    jobs = json.loads(node.cli("jobs", "--json").stdout)
    assert [(job["kind"], job["target"], job["state"]) for job in jobs] == [("sync", "pair", "done")]


def test_between_two_mounts_of_one_service_the_service_copies(node: RunningNode, buckets: S3Server) -> None:
    for number in range(10):
        buckets.put("sync-one", f"deep/{number}", b"x" * (1 << 20), Metadata={"n": str(number)})
    before = json.loads(node.cli("status", "--json").stdout)
    node.cli("sync", "add", "/one", "/two/mirror", "--name", "own")
    node.cli("sync", "run", "own")
    after = json.loads(node.cli("status", "--json").stdout)
    assert shown(node, "own")["state"]["initial"]["to_b"] == 10
    assert buckets.client().head_object(Bucket="sync-two", Key="mirror/7")["Metadata"] == {"n": "7"}
    assert after["counters"]["store_bytes"] - before["counters"]["store_bytes"] < 1 << 20
    buckets.put("sync-one", "deep/7", b"newer")
    buckets.delete("sync-one", "deep/8")
    node.cli("sync", "run", "own")
    found = buckets.client().list_objects_v2(Bucket="sync-two", Prefix="mirror/")["Contents"]
    assert {entry["Key"]: entry["Size"] for entry in found}["mirror/7"] == 5
    assert len(found) == 9


def test_a_sync_leaves_no_pages(node: RunningNode, sides: tuple[Path, Path]) -> None:
    for number in range(10):
        (sides[0] / f"{number}").write_bytes(os.urandom(200_000))
    node.cli("sync", "add", "/a", "/b", "--name", "dirs")
    node.cli("sync", "run", "dirs")
    assert files(sides[0]) == files(sides[1])
    assert not [path for path in (node.home / "pages").rglob("*") if path.stat().st_size > 100_000]


def killed_beyond(node: RunningNode, at_least: int, home: Path, config: str) -> tuple[RunningNode, int]:
    """The node killed once so many copies are written down, and started again; how many were known then."""
    until(lambda: shown(node, "s")["state"]["initial"]["to_b"] >= at_least)
    for pid in [node.process.pid, *node.worker_pids()]:
        os.kill(pid, signal.SIGKILL)
    node.process.wait()
    again = start_node(home, config, processes=2)
    done = shown(again, "s")["state"]["initial"]["to_b"]
    assert done >= at_least, "what was done is forgotten"
    return again, done


HALF_A_SECOND = 100
"""Objects that 12 MiB/s, their burst and the transfers under way come to in that time, and some on a slow machine."""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["mirror", "two-way"])
def test_a_sync_that_is_killed_goes_on_and_its_counts_are_right(tmp_path: Path, sides: tuple[Path, Path], mode: str) -> None:
    a, b = sides
    for number in range(400):
        (a / f"{number:03}").write_bytes(os.urandom(64 << 10))
    (a / "big").write_bytes(os.urandom(40 << 20))
    config = mount("/a", f"file://{a}") + mount("/b", f"file://{b}")
    node = start_node(tmp_path / "node", config, processes=2)
    node.cli("sync", "add", "/a", "/b", "--name", "s", "--mode", mode, "--bandwidth", "12MiB/s")
    node.cli("sync", "run", "s", "--detach")
    done = 0
    try:
        for _ in range(3):
            # What was copied and not written down before a kill is found again, and never counted as copied.
            node, done = killed_beyond(node, min(done + 60, 200), tmp_path / "node", config)
        until(lambda: json.loads(node.cli("jobs", "--json").stdout)[0]["state"] == "done")
        counts = shown(node, "s")["state"]["initial"]
        assert files(b) == files(a)
        assert counts["to_b"] + counts["agreed"] == 401
        # What was copied in the half second before a kill was not written down: it is found again, or copied once more.
        assert counts["agreed"] <= 3 * HALF_A_SECOND
        assert shown(node, "s")["state"]["initial_done"]
        assert "nothing to do" in node.cli("sync", "run", "s", "--dry-run").stdout
        assert not list((node.home / "syncs").glob("*.json"))
    finally:
        stop_node(node)
