"""A bucket of SeaweedFS, and the same bucket behind a node that writes to it: what one side writes the other reads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from support.node import RunningNode, running_node
from support.servers import S3Server

MODES = ("through", "back")
REGION = "us-east-1"
_LONG_AGO_S = 1_600_000_000


@dataclass(frozen=True)
class Side:
    """One S3 endpoint and the keys for it."""

    endpoint: str
    key_id: str
    secret: str

    def client(self) -> Any:
        """The AWS SDK as it comes, but for what a test must not wait for. Close it."""
        keys = {"aws_access_key_id": self.key_id, "aws_secret_access_key": self.secret}
        config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        return boto3.client("s3", endpoint_url=self.endpoint, region_name=REGION, config=config, **keys)

    def environ(self) -> dict[str, str]:
        """What the tools of AWS read."""
        return {
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@dataclass(frozen=True)
class Lake:
    """A bucket seen through `gate`, a node, and at its `store`, under one name, so that addresses hold on both sides."""

    bucket: str
    gate: Side
    store: Side
    node: RunningNode

    def settle(self) -> None:
        """Until the store has what was written."""
        self.node.cli("sync", "--wait", "--timeout", "60s", f"/{self.bucket}")

    def passage(self) -> Passage:
        """Written through the node, read at the store."""
        return Passage(self, writer=self.gate, reader=self.store)


@dataclass(frozen=True)
class Passage:
    """One way through a lake: written at `writer`, read at `reader`."""

    lake: Lake
    writer: Side
    reader: Side

    @property
    def bucket(self) -> str:
        return self.lake.bucket

    def found(self, prefix: str = "") -> dict[str, bytes]:
        """Everything below `prefix` as the reader's side has it, by key without the prefix."""
        self.lake.settle()
        return contents(self.reader, self.bucket, f"{prefix}/")

    def etag(self, key: str) -> str:
        """The entity tag that the reader's side shows, which must be the writer's."""
        tags = set()
        for side in (self.writer, self.reader):
            client = side.client()
            tags.add(client.head_object(Bucket=self.bucket, Key=key)["ETag"].strip('"'))
            client.close()
        assert len(tags) == 1, f"{key}: {tags}"
        return str(tags.pop())


def contents(side: Side, bucket: str, prefix: str) -> dict[str, bytes]:
    """Objects by key, folders' markers left out."""
    client = side.client()
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        bodies = {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys if not key.endswith("/")}
        return {key.removeprefix(prefix): body for key, body in bodies.items()}
    finally:
        client.close()


@contextmanager
def lakes(folder: Path, server: S3Server) -> Iterator[dict[str, Lake]]:
    """A lake for each write mode, behind one node."""
    config = ""
    buckets = {mode: f"lake-{mode}-{os.getpid()}" for mode in MODES}
    for mode, bucket in buckets.items():
        server.make_bucket(bucket)
        config += f'[[mount]]\npath = "/{bucket}"\nstore = "s3://{bucket}"\nendpoint = "{server.endpoint}"\n'
        config += f'credentials = "env:LAKE"\nwrite = "{mode}"\nfreshness = "verify"\n\n'
    environ = {"LAKE_ACCESS_KEY_ID": server.access_key, "LAKE_SECRET_ACCESS_KEY": server.secret_key}
    with running_node(folder / "node", config, processes=2, environ=environ) as node:
        gate = Side(node.data_url, node.key_id, node.secret)
        store = Side(server.endpoint, server.access_key, server.secret_key)
        yield {mode: Lake(bucket, gate, store, node) for mode, bucket in buckets.items()}


def write_tree(folder: Path, bodies: Mapping[str, bytes]) -> Path:
    """Files by their paths below `folder`, older than anything that clients compare them with."""
    for name, body in bodies.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (_LONG_AGO_S, _LONG_AGO_S))
    return folder


def read_tree(folder: Path) -> dict[str, bytes]:
    """What `write_tree` would write again."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
