"""HDFS behind a node: S3 callers read and write files of a real cluster, cached, within the mount's freshness."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support.hdfs import USER, HdfsServer
from support.node import RunningNode, running_node
from support.node_client import client_of, closed_clients
from support.processes import free_port, wait_until

pytestmark = pytest.mark.servers
__all__ = ["closed_clients"]


@pytest.fixture
def node(tmp_path: Path, hdfs_server: HdfsServer) -> Iterator[RunningNode]:
    config = (
        f'[[mount]]\npath = "/warehouse"\nstore = "webhdfs://{hdfs_server.web}/warehouse"\n'
        'write = "through"\nfreshness = "verify"\n'
        f'[[mount]]\npath = "/away"\nstore = "webhdfs://127.0.0.1:{free_port()}/x"\ntimeout = "3s"\n'
    )
    with running_node(tmp_path / "node", config, processes=1, environ={"HADOOP_USER_NAME": USER}) as running:
        yield running


def test_files_are_read_and_written_over_s3(node: RunningNode, hdfs_server: HdfsServer) -> None:
    client = client_of(node)
    data = bytes(range(256)) * 20_000
    etag = client.put_object(Bucket="warehouse", Key="t/part 1.bin", Body=data)["ETag"]
    assert hdfs_server.request("GET", "/warehouse/t/part 1.bin", op="OPEN") == data
    assert client.get_object(Bucket="warehouse", Key="t/part 1.bin")["Body"].read() == data

    def is_kept() -> bool:
        again = client.get_object(Bucket="warehouse", Key="t/part 1.bin")
        assert again["Body"].read() == data
        return bool(again["ResponseMetadata"]["HTTPHeaders"]["x-headrace-cache"] == "hit")

    wait_until(is_kept, "the file is answered from pages", deadline_s=10)
    hdfs_server.put("/warehouse/t/part-2", b"by a job")
    assert client.get_object(Bucket="warehouse", Key="t/part-2")["Body"].read() == b"by a job"
    listed = client.list_objects_v2(Bucket="warehouse", Prefix="t/")["Contents"]
    assert [entry["Key"] for entry in listed] == ["t/part 1.bin", "t/part-2"]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="warehouse", Key="t/part-2", Body=b"x", IfMatch=etag)
    client.delete_object(Bucket="warehouse", Key="t/part-2")
    assert b"part-2" not in hdfs_server.request("GET", "/warehouse/t", op="LISTSTATUS")


def test_a_namenode_that_is_away_is_an_error_never_an_empty_bucket(node: RunningNode) -> None:
    client = client_of(node)
    for call in (lambda: client.list_objects_v2(Bucket="away"), lambda: client.get_object(Bucket="away", Key="k")):
        with pytest.raises(ClientError, match=r"SlowDown|ServiceUnavailable|503"):
            call()
    assert "connection refused" in node.cli("status").stdout
