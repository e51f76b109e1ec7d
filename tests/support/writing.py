"""Gateways that take writes, over each kind of store that is all our own, and boto3 to talk to them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from headrace.gateways.settings import GatewaySettings
from headrace.stores.file_account import FileAccountStore
from headrace.stores.store import Store
from support.accounts import MemoryAccount
from support.gateway import KEY_ID, SECRET, RunningGateway, gateway

KINDS = ("memory", "file")
BUCKET = "bucket"
MIB = 1024 * 1024


@contextmanager
def account_gateway(kind: str, **options: Any) -> Iterator[RunningGateway]:
    """A gateway with an account of that kind at `/`, in which there is `BUCKET`."""
    with tempfile.TemporaryDirectory() as root:
        store: Store = MemoryAccount() if kind == "memory" else FileAccountStore(root)
        settings = GatewaySettings(sweep_s=0.05)
        with gateway({"/": store}, writable=True, settings=settings, **options) as running:
            running.run(store.buckets().create(BUCKET))
            yield running


def s3_client(running: RunningGateway, key_id: str = KEY_ID, secret: str = SECRET) -> Any:
    return boto3.client(
        "s3", endpoint_url=running.endpoint, aws_access_key_id=key_id, aws_secret_access_key=secret, region_name="us-east-1",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}, proxies={}),
    )  # fmt: skip


@contextmanager
def refusal(code: str, condition: str = "") -> Iterator[None]:
    """What is done inside is refused with that code, if given because of that condition."""
    with pytest.raises(ClientError) as caught:
        yield
    assert caught.value.response["Error"]["Code"] == code
    assert not condition or caught.value.response["Error"].get("Condition") == condition
