"""A client that writes through a node."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from support.node import RunningNode


def client_of(node: RunningNode) -> Any:
    """boto3 with connections of its own, that tries nothing twice."""
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, max_pool_connections=32)
    return boto3.client(
        "s3", endpoint_url=node.data_url, aws_access_key_id=node.key_id, aws_secret_access_key=node.secret,
        region_name="us-east-1", config=config,
    )  # fmt: skip
