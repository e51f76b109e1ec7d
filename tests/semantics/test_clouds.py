"""A node with mounts of Google Cloud Storage and Azure: what its S3 clients do is seen by the clouds' own callers, and back."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from support.node import RunningNode, running_node
from support.node_client import client_of, closed_clients
from support.servers import AZURE_ACCOUNT, AZURE_KEY, AzureServer, GcsServer

__all__ = ["closed_clients"]
pytestmark = pytest.mark.servers

PART = 5 << 20
_numbers = itertools.count()


class Cloud(Protocol):
    """A cloud's own API, spoken to without Headrace."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, data: bytes) -> None: ...

    def names(self) -> list[str]: ...


class Gcs:
    def __init__(self, server: GcsServer, bucket: str) -> None:
        self._server = server
        self._bucket = bucket
        server.make_bucket(bucket)

    def get(self, key: str) -> bytes | None:
        target = f"/storage/v1/b/{self._bucket}/o/{quote(key, safe='')}"
        try:
            data = self._server.request("GET", target + "?alt=media")
        except RuntimeError as error:
            assert " 404 " in str(error)
            return None
        told = json.loads(self._server.request("GET", target))
        assert told["md5Hash"] == base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        return data

    def put(self, key: str, data: bytes) -> None:
        self._server.put(self._bucket, key, data)

    def names(self) -> list[str]:
        return [item["name"] for item in json.loads(self._server.request("GET", f"/storage/v1/b/{self._bucket}/o"))["items"]]


class Azure:
    def __init__(self, server: AzureServer, container: str) -> None:
        self._server = server
        self._container = container
        server.make_bucket(container)

    def get(self, key: str) -> bytes | None:
        try:
            return self._server.signed("GET", f"/{self._server.account}/{self._container}/{quote(key, safe='')}")
        except RuntimeError as error:
            assert " 404 " in str(error)
            return None

    def put(self, key: str, data: bytes) -> None:
        self._server.put(self._container, key, data)

    def names(self) -> list[str]:
        listing = self._server.signed("GET", f"/{self._server.account}/{self._container}?restype=container&comp=list").decode()
        return [part.partition("</Name>")[0] for part in listing.split("<Name>")[1:]]


class Clouds:
    """The node, and a bucket of each cloud beneath its mounts."""

    def __init__(self, node: RunningNode, gs: Gcs, az: Azure) -> None:
        self.node = node
        self.apis: dict[str, Cloud] = {"gs": gs, "az": az}


@pytest.fixture(scope="module")
def servers(gcs_server: GcsServer, azurite_server: AzureServer) -> tuple[GcsServer, AzureServer]:
    return gcs_server, azurite_server


@pytest.fixture(params=["through", "back"])
def clouds(request: pytest.FixtureRequest, tmp_path: Path, servers: tuple[GcsServer, AzureServer]) -> Iterator[Clouds]:
    name = f"clouds-{next(_numbers)}"
    gs, az = Gcs(servers[0], name), Azure(servers[1], name)
    common = f'freshness = "verify"\nwrite = "{request.param}"\n'
    config = (
        f'[[mount]]\npath = "/gs"\nstore = "gs://{name}/data"\nendpoint = "{servers[0].endpoint}"\n'
        f'credentials = "anonymous"\n{common}'
        f'[[mount]]\npath = "/az"\nstore = "az://{name}/data"\nendpoint = "{servers[1].endpoint}"\n'
        f'credentials = "env:AZ"\n{common}'
    )
    environ = {"AZ_ACCESS_KEY_ID": AZURE_ACCOUNT, "AZ_SECRET_ACCESS_KEY": AZURE_KEY}
    with running_node(tmp_path / "node", config, environ=environ) as node:
        yield Clouds(node, gs, az)


def settle(clouds: Clouds, mount: str) -> None:
    """Wait until the store has what was acknowledged."""
    clouds.node.cli("sync", "--wait", "--timeout", "30s", f"/{mount}")


def upload_in_parts(client: Any, bucket: str, key: str, parts: list[bytes]) -> None:
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, ContentType="text/parts", Metadata={"in-parts": "yes"})
    named = []
    for number, body in enumerate(parts, 1):
        part = client.upload_part(Bucket=bucket, Key=key, UploadId=upload["UploadId"], PartNumber=number, Body=body)
        named.append({"PartNumber": number, "ETag": part["ETag"]})
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload["UploadId"], MultipartUpload={"Parts": named})


@pytest.mark.parametrize("mount", ["gs", "az"])
def test_what_s3_clients_do_is_done_at_the_cloud(clouds: Clouds, mount: str) -> None:
    client, cloud = client_of(clouds.node), clouds.apis[mount]
    large = os.urandom(9 << 20)
    client.put_object(Bucket=mount, Key="a/small", Body=b"small", Metadata={"who-is": "me"}, ContentType="text/plain")
    client.put_object(Bucket=mount, Key="a/large", Body=large)
    client.put_object(Bucket=mount, Key="gone", Body=b"x")
    client.copy_object(Bucket=mount, Key="copied", CopySource={"Bucket": mount, "Key": "a/small"})
    client.delete_object(Bucket=mount, Key="gone")
    settle(clouds, mount)
    assert cloud.get("data/a/small") == b"small"
    assert cloud.get("data/a/large") == large
    assert cloud.get("data/copied") == b"small"
    assert cloud.get("data/gone") is None
    head = client.head_object(Bucket=mount, Key="copied")
    assert (head["Metadata"], head["ContentType"]) == ({"who-is": "me"}, "text/plain")
    assert sorted(cloud.names()) == ["data/a/large", "data/a/small", "data/copied"]


@pytest.mark.parametrize("mount", ["gs", "az"])
def test_a_multipart_upload_is_one_object_at_the_cloud(clouds: Clouds, mount: str) -> None:
    client, cloud = client_of(clouds.node), clouds.apis[mount]
    parts = [os.urandom(PART), os.urandom(PART + 1), b"last"]
    upload_in_parts(client, mount, "big", parts)
    got = client.get_object(Bucket=mount, Key="big")
    assert got["Body"].read() == b"".join(parts)
    assert (got["ContentType"], got["Metadata"]) == ("text/parts", {"in-parts": "yes"})
    second = client.get_object(Bucket=mount, Key="big", PartNumber=2)
    assert second["Body"].read() == parts[1]
    assert cloud.names() == ["data/big"]


@pytest.mark.parametrize("mount", ["gs", "az"])
def test_what_is_done_at_the_cloud_is_seen_by_s3_clients(clouds: Clouds, mount: str) -> None:
    client, cloud = client_of(clouds.node), clouds.apis[mount]
    cloud.put("data/theirs", b"one")
    assert client.get_object(Bucket=mount, Key="theirs")["Body"].read() == b"one"
    etag = client.head_object(Bucket=mount, Key="theirs")["ETag"]
    cloud.put("data/theirs", b"two")
    assert client.get_object(Bucket=mount, Key="theirs")["Body"].read() == b"two"
    with pytest.raises(ClientError, match=r"412|PreconditionFailed"):
        client.put_object(Bucket=mount, Key="theirs", Body=b"three", IfMatch=etag)
    with pytest.raises(ClientError, match=r"412|PreconditionFailed"):
        client.put_object(Bucket=mount, Key="theirs", Body=b"three", IfNoneMatch="*")
    assert cloud.get("data/theirs") == b"two"


def test_objects_pass_from_cloud_to_cloud(clouds: Clouds) -> None:
    client = client_of(clouds.node)
    clouds.apis["gs"].put("data/source", b"from google")
    client.copy_object(Bucket="az", Key="target", CopySource={"Bucket": "gs", "Key": "source"})
    settle(clouds, "az")
    assert clouds.apis["az"].get("data/target") == b"from google"
