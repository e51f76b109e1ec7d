"""An SFTP server behind a node: S3 callers read and write its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support.node import running_node
from support.node_client import client_of, closed_clients
from support.sshd import sshd

pytestmark = pytest.mark.servers
__all__ = ["closed_clients"]


def test_files_are_read_and_written_over_s3(tmp_path: Path) -> None:
    root, keys = tmp_path / "root", tmp_path / "keys"
    root.mkdir()
    keys.mkdir()
    with sshd(keys) as server:
        config = (
            f'[[mount]]\npath = "/drop"\nstore = "{server.url(root)}"\ncredentials = "env:F"\n'
            'write = "through"\nfreshness = "verify"\n'
        )
        with running_node(tmp_path / "node", config, processes=1, environ=server.environ) as node:
            client = client_of(node)
            data = os.urandom(3_000_000)
            client.put_object(Bucket="drop", Key="t/part 1.bin", Body=data)
            assert (root / "t" / "part 1.bin").read_bytes() == data
            assert client.get_object(Bucket="drop", Key="t/part 1.bin")["Body"].read() == data
            (root / "t" / "part-2").write_bytes(b"by a job")
            assert client.get_object(Bucket="drop", Key="t/part-2", Range="bytes=3-")["Body"].read() == b"a job"
            listed = client.list_objects_v2(Bucket="drop")["Contents"]
            assert [entry["Key"] for entry in listed] == ["t/part 1.bin", "t/part-2"]
            with pytest.raises(ClientError, match="PreconditionFailed"):
                client.put_object(Bucket="drop", Key="t/part-2", Body=b"x", IfNoneMatch="*")
            client.delete_object(Bucket="drop", Key="t/part-2")
            client.delete_object(Bucket="drop", Key="t/part 1.bin")
            assert not (root / "t").exists()
