"""Writes through a real node: seen at once by every process, in every mode, and never lost once acknowledged."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from headrace.model.disk import SystemDisk
from headrace.staging.journal import Journal
from support.gateway import until
from support.node import RunningNode, start_node, stop_node
from support.node_client import client_of, closed_clients

pytestmark = pytest.mark.servers  # each starts a node or several

MODES = ("through", "back")
__all__ = ["closed_clients"]


def config_of(store: Path, mode: str) -> str:
    return f'[[mount]]\npath = "/data"\nstore = "file://{store}"\nfreshness = "1h"\nwrite = "{mode}"\n'


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture(params=MODES)
def node(request: pytest.FixtureRequest, tmp_path: Path, store: Path) -> Iterator[RunningNode]:
    running = start_node(tmp_path / "node", config_of(store, request.param), processes=2)
    yield running
    stop_node(running)


def wait_until_stored(node: RunningNode, path: str = "/data") -> None:
    assert node.cli("sync", "--wait", "--timeout", "30s", path).returncode == 0


def test_what_one_process_wrote_every_other_serves_at_once(node: RunningNode) -> None:
    # Each client keeps a connection of its own, and the kernel spreads them over the serving processes.
    clients = [client_of(node) for _ in range(8)]
    for number in range(30):
        writer = clients[number % len(clients)]
        key, body = f"k{number % 3}", os.urandom(100 + number)
        etag = writer.put_object(Bucket="data", Key=key, Body=body)["ETag"]
        for reader in clients:
            got = reader.get_object(Bucket="data", Key=key)
            assert got["Body"].read() == body
            assert got["ETag"] == etag
            assert reader.head_object(Bucket="data", Key=key)["ETag"] == etag
        assert key in [entry["Key"] for entry in clients[0].list_objects_v2(Bucket="data")["Contents"]]
        if number % 5 == 4:
            writer.delete_object(Bucket="data", Key=key)
            for reader in clients:
                with pytest.raises(ClientError, match=r"404|NoSuchKey"):
                    reader.get_object(Bucket="data", Key=key)


def test_what_was_written_is_at_the_store(node: RunningNode, store: Path) -> None:
    client = client_of(node)
    large = os.urandom(9 << 20)
    client.put_object(Bucket="data", Key="a/small.txt", Body=b"small", Metadata={"who": "me"}, ContentType="text/plain")
    client.put_object(Bucket="data", Key="a/large.bin", Body=large)
    client.put_object(Bucket="data", Key="gone", Body=b"x")
    client.delete_object(Bucket="data", Key="gone")
    wait_until_stored(node)
    assert (store / "a/small.txt").read_bytes() == b"small"
    assert (store / "a/large.bin").read_bytes() == large
    assert not (store / "gone").exists()
    head = client.head_object(Bucket="data", Key="a/small.txt")
    assert (head["Metadata"], head["ContentType"]) == ({"who": "me"}, "text/plain")
    status = node.cli("status", "--json").stdout
    assert '"error": ""' in status


def test_a_mount_is_not_taken_away_while_its_store_lacks_writes(tmp_path: Path, store: Path) -> None:
    node = start_node(tmp_path / "node", "", processes=1)
    try:
        node.cli("mount", "add", "/data", f"file://{store}", "--write", "back")
        away = store.with_name("away")
        store.rename(away)
        client_of(node).put_object(Bucket="data", Key="k", Body=b"waits")
        assert "WRITES ON THEIR WAY" in node.cli("status").stdout
        refused = node.cli("mount", "rm", "/data", check=False)
        assert refused.returncode == 2
        assert "sync --wait /data" in refused.stderr
        away.rename(store)
        wait_until_stored(node)
        node.cli("mount", "rm", "/data")
        assert (store / "k").read_bytes() == b"waits"
    finally:
        stop_node(node)


def test_a_conflict_is_shown_and_settled_by_command(tmp_path: Path, store: Path) -> None:
    node = start_node(tmp_path / "node", config_of(store, "back"), processes=2)
    try:
        client = client_of(node)
        for key in ("one", "two"):
            client.put_object(Bucket="data", Key=key, Body=b"first")
        wait_until_stored(node)
        for key in ("one", "two"):
            assert client.get_object(Bucket="data", Key=key)["Body"].read() == b"first"
        away = store.with_name("away")
        store.rename(away)
        for key in ("one", "two"):
            client.put_object(Bucket="data", Key=key, Body=b"ours")
            (away / f"{key}.new").write_bytes(b"theirs")
            (away / f"{key}.new").rename(away / key)
        away.rename(store)
        wait_until_stored(node)
        assert [(store / key).read_bytes() for key in ("one", "two")] == [b"theirs", b"theirs"]
        assert "/data/one" in node.cli("conflicts").stdout
        node.cli("conflicts", "/data/one", "--keep", "ours")
        node.cli("conflicts", "/data/two", "--keep", "theirs")
        wait_until_stored(node)
        assert {path.name: path.read_bytes() for path in store.iterdir() if path.is_file()} == {"one": b"ours", "two": b"theirs"}
        assert "/data" not in node.cli("conflicts").stdout
    finally:
        stop_node(node)


def test_a_journal_does_not_bring_one_stores_writes_to_another(tmp_path: Path, store: Path) -> None:
    node = start_node(tmp_path / "node", config_of(store, "back"), processes=1)
    away = store.with_name("away")
    store.rename(away)
    client_of(node).put_object(Bucket="data", Key="k", Body=b"for the first store")
    stop_node(node)
    other = tmp_path / "other"
    other.mkdir()
    node = start_node(tmp_path / "node", config_of(other, "back"), processes=1)
    try:
        with pytest.raises(ClientError):
            client_of(node).get_object(Bucket="data", Key="k")
        assert list(other.iterdir()) == []
    finally:
        stop_node(node)
    (journal,) = (tmp_path / "node" / "state" / "journal").iterdir()
    assert len(Journal(str(journal), SystemDisk()).backlog) == 1
    away.rename(store)
    node = start_node(tmp_path / "node", config_of(store, "back"), processes=1)
    try:
        wait_until_stored(node)
    finally:
        stop_node(node)
    assert (store / "k").read_bytes() == b"for the first store"


@pytest.mark.parametrize("mode", ["through", "none"])
def test_writes_that_wait_are_not_forgotten_when_the_mount_no_longer_writes_back(tmp_path: Path, store: Path, mode: str) -> None:
    node = start_node(tmp_path / "node", config_of(store, "back"), processes=1)
    away = store.with_name("away")
    store.rename(away)
    client_of(node).put_object(Bucket="data", Key="k", Body=b"waits")
    stop_node(node)
    away.rename(store)
    node = start_node(tmp_path / "node", config_of(store, mode), processes=1)
    try:
        assert "have not reached its store yet" in node.cli("status").stdout
    finally:
        stop_node(node)


def test_writes_of_a_mount_that_left_the_settings_are_told_until_it_is_back(tmp_path: Path, store: Path) -> None:
    node = start_node(tmp_path / "node", config_of(store, "back"), processes=1)
    away = store.with_name("away")
    store.rename(away)
    client_of(node).put_object(Bucket="data", Key="k", Body=b"waits")
    stop_node(node)
    away.rename(store)
    other = config_of(store, "none").replace("/data", "/other")
    node = start_node(tmp_path / "node", other, processes=1)
    try:
        status = node.cli("status")
        for word in ("1 writes of /data", f"file://{store}", "leftovers --drop"):
            assert word in status.stderr
        assert "journal of /data" in node.cli("doctor", check=False).stdout
        (left,) = json.loads(node.cli("leftovers", "--json").stdout)
        assert (left["mount"], left["writes"]) == ("/data", 1)
    finally:
        stop_node(node)
    node = start_node(tmp_path / "node", config_of(store, "back"), processes=1)
    try:
        wait_until_stored(node)
        assert (store / "k").read_bytes() == b"waits"
        assert json.loads(node.cli("leftovers", "--json").stdout) == []
        assert "leftovers" not in node.cli("status").stderr
    finally:
        stop_node(node)


def test_pins_hold_when_the_settings_put_another_store_below_them(tmp_path: Path, store: Path) -> None:
    (store / "k").write_bytes(b"x" * 100_000)
    other = tmp_path / "other"
    other.mkdir()
    (other / "k").write_bytes(b"y" * 100_000)
    node = start_node(tmp_path / "node", config_of(store, "none"), processes=1)
    try:
        node.cli("pin", "/data")
    finally:
        stop_node(node)
    pages = tmp_path / "node/state/pages"
    assert len(list(pages.glob("*.pins"))) == 1
    node = start_node(tmp_path / "node", config_of(other, "none"), processes=1)
    try:
        until(lambda: len(list(pages.glob("*.pins"))) == 2)
        client_of(node).get_object(Bucket="data", Key="k")["Body"].read()
        until(lambda: any(pages.glob("???/*.pin")))
    finally:
        stop_node(node)
