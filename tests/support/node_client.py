"""Clients that write through a node, closed when the test that made them ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from support.node import RunningNode

_opened: list[Any] = []


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    """Import it where `client_of` is used."""
    yield
    while _opened:
        _opened.pop().close()


def client_of(node: RunningNode) -> Any:
    """boto3 with connections of its own, that tries nothing twice."""
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, max_pool_connections=32)
    client = boto3.client(
        "s3", endpoint_url=node.data_url, aws_access_key_id=node.key_id, aws_secret_access_key=node.secret,
        region_name="us-east-1", config=config,
    )  # fmt: skip
    _opened.append(client)
    return client
