"""`write = "scratch"` through a real node: seen by every door and process at once, never at the store, lost in words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from headrace.model.errors import Lost, NoSpace
from support.node import RunningNode, start_node, stop_node
from support.node_client import client_of, closed_clients
from support.writable import embedded_fs, remote_fs

pytestmark = pytest.mark.servers  # each starts a node or several

__all__ = ["closed_clients"]


def config_of(store: Path, *, residency: str = "disk", write: str = "scratch") -> str:
    return (
        f'[scratch]\ncapacity = "4MiB"\n\n[[mount]]\npath = "/data"\nstore = "file://{store}"\nfreshness = "1h"\n'
        f'write = "{write}"\nresidency = "{residency}"\n'
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "theirs").write_bytes(b"theirs")
    return tmp_path / "store"


@pytest.fixture
def node(tmp_path: Path, store: Path) -> Iterator[RunningNode]:
    running = start_node(tmp_path / "node", config_of(store), processes=2)
    yield running
    stop_node(running)


def files_of(node: RunningNode) -> Path:
    (folder,) = (node.home / "scratch").iterdir()
    return folder / "objects"


def test_every_process_sees_at_once_what_was_written_and_the_store_never_does(node: RunningNode, store: Path) -> None:
    clients = [client_of(node) for _ in range(8)]
    for number in range(24):
        writer, key, body = clients[number % 8], f"d/k{number % 3}", os.urandom(100 + number)
        etag = writer.put_object(Bucket="data", Key=key, Body=body, Metadata={"n": str(number)})["ETag"]
        for reader in clients:
            got = reader.get_object(Bucket="data", Key=key)
            assert (got["Body"].read(), got["ETag"], got["Metadata"], got["StorageClass"]) == (
                body, etag, {"n": str(number)}, "SCRATCH",
            )  # fmt: skip
        listed = {entry["Key"]: entry for entry in clients[0].list_objects_v2(Bucket="data")["Contents"]}
        assert (listed[key]["Size"], listed[key]["ETag"], listed[key]["StorageClass"]) == (len(body), etag, "SCRATCH")
        assert listed["theirs"]["StorageClass"] == "STANDARD"
        if number % 5 == 4:
            writer.delete_object(Bucket="data", Key=key)
            for reader in clients:
                with pytest.raises(ClientError, match=r"404|NoSuchKey"):
                    reader.get_object(Bucket="data", Key=key)
    clients[0].delete_object(Bucket="data", Key="theirs")
    for reader in clients:
        with pytest.raises(ClientError, match="404"):
            reader.head_object(Bucket="data", Key="theirs")
    assert [(path.name, path.read_bytes()) for path in store.iterdir()] == [("theirs", b"theirs")]


def test_it_survives_a_restart(tmp_path: Path, node: RunningNode, store: Path) -> None:
    client = client_of(node)
    client.put_object(Bucket="data", Key="k", Body=b"kept", Tagging="a=b")
    client.delete_object(Bucket="data", Key="theirs")
    upload = client.create_multipart_upload(Bucket="data", Key="large")["UploadId"]
    first = client.upload_part(Bucket="data", Key="large", UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
    stop_node(node)
    again = start_node(tmp_path / "node", config_of(store), processes=2)
    try:
        client = client_of(again)
        assert client.get_object(Bucket="data", Key="k")["Body"].read() == b"kept"
        assert client.get_object_tagging(Bucket="data", Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
        client.complete_multipart_upload(
            Bucket="data", Key="large", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": first}]}
        )
        assert client.get_object(Bucket="data", Key="large")["Body"].read() == b"part"
        assert [entry["Key"] for entry in client.list_objects_v2(Bucket="data")["Contents"]] == ["k", "large"]
    finally:
        stop_node(again)


def test_lost_scratch_is_a_clear_error_at_every_door(node: RunningNode) -> None:
    client, fs = client_of(node), remote_fs(node)
    client.put_object(Bucket="data", Key="theirs", Body=b"ours")
    (files_of(node) / "theirs").unlink()
    for call in (client.get_object, client.head_object):
        with pytest.raises(ClientError) as caught:
            call(Bucket="data", Key="theirs")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 410
    with pytest.raises(ClientError, match="ScratchLost"):
        client.get_object(Bucket="data", Key="theirs")
    (entry,) = client.list_objects_v2(Bucket="data")["Contents"]
    assert (entry["Size"], entry["StorageClass"]) == (4, "SCRATCH_LOST")
    for read in (fs.cat_file, fs.info):
        with pytest.raises(Lost):
            read("data/theirs")
    shown = node.cli("cat", "/data/theirs", check=False)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "lost" in shown.stderr
    assert "(scratch, lost)" in node.cli("ls", "/data/").stdout
    fs.pipe_file("data/theirs", b"again")
    assert fs.cat_file("data/theirs") == b"again"
    assert "(scratch)" in node.cli("ls", "/data/").stdout
    fs.rm_file("data/theirs")
    assert fs.ls("data", detail=False) == []
    fs.session.close()


def test_a_full_scratch_refuses_and_tells_how_full_it_is(node: RunningNode) -> None:
    client, fs = client_of(node), remote_fs(node)
    client.put_object(Bucket="data", Key="k", Body=bytes(3 << 20))
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket="data", Key="l", Body=bytes(2 << 20))
    assert caught.value.response["Error"]["Code"] == "InsufficientStorage"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 507
    with pytest.raises(NoSpace):
        fs.pipe_file("data/l", bytes(2 << 20))
    fs.session.close()
    (mount,) = json.loads(node.cli("status", "--json").stdout)["mounts"]
    assert mount["scratch"]["capacity_bytes"] == 4 << 20
    assert 3 << 20 <= mount["scratch"]["used_bytes"] < 4 << 20
    assert "SCRATCH, ON THIS NODE ALONE" in node.cli("status").stdout
    client.delete_object(Bucket="data", Key="k")
    client.put_object(Bucket="data", Key="l", Body=bytes(2 << 20))


@pytest.mark.parametrize("residency", ["memory", "none"])
def test_it_is_refused_where_no_disk_may_hold_it(tmp_path: Path, node: RunningNode, store: Path, residency: str) -> None:
    refused = node.cli("mount", "add", "/other", f"file://{store}", "--write", "scratch", "--residency", residency, check=False)
    assert refused.returncode == 2
    assert "scratch" in refused.stderr


def test_a_mount_that_becomes_memory_only_leaves_no_scratch_on_a_disk(tmp_path: Path, node: RunningNode, store: Path) -> None:
    canary = os.urandom(64)
    client_of(node).put_object(Bucket="data", Key="k", Body=canary)
    assert (files_of(node) / "k").read_bytes() == canary
    stop_node(node)
    again = start_node(tmp_path / "node", config_of(store, residency="memory", write="none"), processes=2)
    try:
        assert client_of(again).get_object(Bucket="data", Key="theirs")["Body"].read() == b"theirs"
        assert not [path for path in (again.home / "scratch").rglob("*") if path.is_file()]
    finally:
        stop_node(again)


def test_programs_without_a_node_share_it(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/theirs").write_bytes(b"theirs")
    one, other = embedded_fs(tmp_path, "scratch"), embedded_fs(tmp_path, "scratch")
    try:
        with one.open("b/d/k", "wb") as file:
            file.write(b"ours")
        assert other.cat_file("b/d/k") == b"ours"
        assert other.find("b") == ["b/d/k", "b/theirs"]
        other.rm_file("b/theirs")
        assert one.find("b") == ["b/d/k"]
        assert [path.name for path in (tmp_path / "store").iterdir()] == ["theirs"]
    finally:
        one.session.close()
        other.session.close()


def test_nor_does_one_that_becomes_so_while_it_is_served(tmp_path: Path, store: Path) -> None:
    node = start_node(tmp_path / "node", "", processes=2)
    try:
        node.cli("mount", "add", "/data", f"file://{store}", "--write", "scratch")
        client_of(node).put_object(Bucket="data", Key="k", Body=os.urandom(64))
        assert (files_of(node) / "k").exists()
        node.cli("mount", "set", "/data", "--write", "none", "--residency", "memory")
        assert not list((node.home / "scratch").rglob("k"))
        with pytest.raises(ClientError, match=r"404|NoSuchKey"):
            client_of(node).get_object(Bucket="data", Key="k")
    finally:
        stop_node(node)
