"""A web server behind a node: S3 callers read what it serves, cached, within the mount's freshness."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support.node import running_node
from support.node_client import client_of, closed_clients
from support.processes import wait_until
from support.web import nginx_files

pytestmark = pytest.mark.servers
__all__ = ["closed_clients"]


def test_files_of_a_web_server_are_read_over_s3_and_kept(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "t").mkdir(parents=True)
    (tmp_path / "nginx").mkdir()
    data = os.urandom(5_000_000)
    path = root / "t" / "part 1.bin"
    path.write_bytes(data)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    with nginx_files(tmp_path / "nginx", root) as url:
        config = f'[[mount]]\npath = "/mirror"\nstore = "{url}"\nfreshness = "verify"\nwrite = "through"\n'
        with running_node(tmp_path / "node", config, processes=1) as node:
            client = client_of(node)

            def is_kept() -> bool:
                answer = client.get_object(Bucket="mirror", Key="t/part 1.bin")
                assert answer["Body"].read() == data
                return bool(answer["ResponseMetadata"]["HTTPHeaders"]["x-headrace-cache"] == "hit")

            wait_until(is_kept, "the file is answered from pages", deadline_s=10)
            (listed,) = client.list_objects_v2(Bucket="mirror", Prefix="t/")["Contents"]
            assert (listed["Key"], listed["Size"]) == ("t/part 1.bin", len(data))
            path.write_bytes(data[::-1])
            os.utime(path, (1_700_000_001, 1_700_000_001))
            assert client.get_object(Bucket="mirror", Key="t/part 1.bin", Range="bytes=0-9")["Body"].read() == data[:-11:-1]
            with pytest.raises(ClientError, match="NotImplemented"):
                client.put_object(Bucket="mirror", Key="new", Body=b"x")
