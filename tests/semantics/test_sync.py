"""`headrace sync PATH`: what changed at the stores is found now, counted, and from then on shown by every process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from headrace.testing.http_faults import Hang, When
from support.caching import until
from support.node import RunningNode, running_node, start_node, stop_node
from support.node_client import client_of, closed_clients
from support.rig import Rig, rig
from support.servers import S3Server

pytestmark = pytest.mark.servers
__all__ = ["closed_clients"]


def config_of(store: Path, more: str = "") -> str:
    return f'[[mount]]\npath = "/data"\nstore = "file://{store}"\nfreshness = "immutable"\n{more}'


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def sync(node: RunningNode, path: str = "/data") -> dict[str, Any]:
    """What was found, without what is zero."""
    found = json.loads(node.cli("sync", path, "--json").stdout)["found"]
    return {name: value for name, value in found.items() if value}


def bodies(clients: list[Any], bucket: str, key: str) -> set[bytes]:
    """What the processes serve: each client keeps a connection of its own, and the kernel spreads them."""
    found = set()
    for client in clients:
        try:
            found.add(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError as error:
            found.add(error.response["Error"]["Code"].encode())
    return found


def test_changes_in_an_s3_bucket_are_found_by_every_process(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    with contextlib.suppress(ClientError):  # the server lives on from test to test
        seaweedfs_server.make_bucket("synced")
    for number in range(1200):
        seaweedfs_server.put("synced", f"many/{number:04d}", b"old")
    seaweedfs_server.put("synced", "changed", b"old")
    config = '[[mount]]\npath = "/s"\nstore = "s3://synced"\n'
    config += (
        f'endpoint = "{seaweedfs_server.endpoint}"\ncredentials = "env:SYNCED"\nfreshness = "immutable"\nwrite = "through"\n'
    )
    environ = {"SYNCED_ACCESS_KEY_ID": seaweedfs_server.access_key, "SYNCED_SECRET_ACCESS_KEY": seaweedfs_server.secret_key}
    with running_node(tmp_path / "node", config, processes=2, environ=environ) as node:
        clients = [client_of(node) for _ in range(8)]
        assert sync(node, "/s") == {"objects": 1201, "new": 1201}
        assert sync(node, "/s") == {"objects": 1201}
        assert bodies(clients, "s", "changed") == {b"old"}
        assert bodies(clients, "s", "added") == {b"NoSuchKey"}
        assert bodies(clients, "s", "many/0001") == {b"old"}
        seaweedfs_server.put("synced", "changed", b"new")
        seaweedfs_server.put("synced", "added", b"new")
        seaweedfs_server.delete("synced", "many/0001")
        clients[0].put_object(Bucket="s", Key="ours", Body=b"written here")
        assert bodies(clients, "s", "changed") == {b"old"}, "the mount was to believe what it knows for ever"
        assert sync(node, "/s/many") == {"objects": 1199, "deleted": 1}
        assert bodies(clients, "s", "many/0001") == {b"NoSuchKey"}
        assert sync(node, "/s") == {"objects": 1202, "added": 1, "changed": 1, "ours": 1}
        assert bodies(clients, "s", "changed") == {b"new"}
        assert bodies(clients, "s", "added") == {b"new"}
        seaweedfs_server.client().delete_objects(
            Bucket="synced", Delete={"Objects": [{"Key": f"many/{number:04d}"} for number in range(1000)]}
        )


def test_a_store_that_is_away_is_an_error_and_nothing_of_it_is_deleted(tmp_path: Path, store: Path) -> None:
    (store / "k").write_bytes(b"kept")
    with running_node(tmp_path / "node", config_of(store), processes=1) as node:
        assert sync(node) == {"objects": 1, "new": 1}
        store.rename(store.with_name("away"))
        failed = node.cli("sync", "/data", check=False)
        assert failed.returncode == 1
        assert "is it mounted?" in failed.stderr
        store.with_name("away").rename(store)
        assert sync(node) == {"objects": 1}
        assert node.cli("sync", "/nowhere", check=False).returncode == 1


def test_what_waits_for_its_store_is_told_first_and_is_no_change_when_it_arrives(tmp_path: Path, store: Path) -> None:
    with running_node(tmp_path / "node", config_of(store, 'write = "back"\n'), processes=2) as node:
        assert sync(node) == {}
        client = client_of(node)
        client.put_object(Bucket="data", Key="ours", Body=b"staged")
        assert node.cli("sync", "--wait", "/data").stdout == "/data: the store has everything\n"
        (store / "theirs").write_bytes(b"x")
        told = node.cli("sync", "/data").stdout.splitlines()
        assert told == [
            "/data: the store has everything",
            "/data: 2 objects: 1 added, 0 changed, 0 deleted; 1 more by this node's own writes",
        ]
        assert node.cli("sync").stdout == "/: the store has everything\n"


def test_a_mount_that_may_no_longer_lie_on_disks_leaves_no_names_there(tmp_path: Path, store: Path) -> None:
    (store / "a-name-to-find").write_bytes(b"x")
    node = start_node(tmp_path / "node", "", processes=2)
    try:
        node.cli("mount", "add", "/data", f"file://{store}")
        sync(node)
        listings = node.home / "listings"
        assert any(b"a-name-to-find" in path.read_bytes() for path in listings.iterdir())
        node.cli("mount", "set", "/data", "--residency", "none")
        assert list(listings.iterdir()) == []
        assert sync(node) == {"objects": 1, "new": 1}
        assert list(listings.iterdir()) == []
    finally:
        stop_node(node)


async def begin(system: Rig) -> asyncio.subprocess.Process:
    """A sync that waits for its third page."""
    system.fault("third page", Hang(None), when=When(path=r"list-type=2", skip=2))
    before = system.happened.get("third page", 0)
    command = (sys.executable, "-m", "headrace", "--config", str(system.node.config), "sync", "/data")
    process = await asyncio.create_subprocess_exec(
        *command, env=system.node.environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    await until(lambda: system.happened.get("third page", 0) > before, deadline_s=30)
    assert list((system.node.home / "listings").glob("*.new"))
    return process


@pytest.mark.slow
async def test_one_that_is_interrupted_or_killed_is_begun_anew_and_misses_nothing(
    tmp_path: Path, seaweedfs_server: S3Server
) -> None:
    async with rig(tmp_path, seaweedfs_server, mount='freshness = "immutable"\ntimeout = "60s"') as system:
        await asyncio.gather(*(system.put(f"k{number:04d}", 1, 16) for number in range(2500)))

        async def found() -> dict[str, Any]:
            return await asyncio.to_thread(sync, system.node)

        assert await found() == {"objects": 2500, "new": 2500}
        await system.put("k0000", 2, 16)
        await system.delete("k2400")
        interrupted = await begin(system)
        interrupted.send_signal(signal.SIGINT)
        told = (await interrupted.communicate())[1]
        assert (interrupted.returncode, told) == (1, b"/data: not all of it was looked through: repeat it\n")
        await until(lambda: not list((system.node.home / "listings").glob("*.new")))
        system.heal()
        assert await found() == {"objects": 2499, "changed": 1, "deleted": 1}
        await system.put("k0001", 2, 16)
        killed = await begin(system)
        for pid in system.node.worker_pids():
            os.kill(pid, signal.SIGKILL)
        told = (await killed.communicate())[1]
        assert killed.returncode == 1
        assert b"try again" in told
        system.heal()
        await until(lambda: system.node.cli("status", check=False).returncode == 0 and system.node.worker_pids(), deadline_s=30)
        while (await asyncio.to_thread(system.node.cli, "sync", "/calm", check=False)).returncode:
            await asyncio.sleep(0.1)
        assert await found() == {"objects": 2499, "changed": 1}
        assert await found() == {"objects": 2499}
