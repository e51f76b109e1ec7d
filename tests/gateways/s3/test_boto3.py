"""The AWS SDK against the gateway: path and host style, presigned, listings, attributes."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from headrace.gateways.settings import GatewaySettings
from support.gateway import KEY_ID, SECRET, RunningGateway, WarmStore, gateway

KEYS = sorted(["a b/ü", "a//b", "dir/", "dir/x", "p+q", "x%20y", *(f"n/{i:03}" for i in range(25))], key=str.encode)


@pytest.fixture(scope="module")
def running() -> Iterator[RunningGateway]:
    store = WarmStore()
    for key in KEYS:
        store.put(key, key.encode(), metadata=(("colour", "blue"),), tags=(("team", "a&b"),))
    with gateway(
        {"/data": store, "/public": store}, anonymous=("/public",), settings=GatewaySettings(sweep_s=0.05, domain="localhost")
    ) as found:
        yield found


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`bucket.localhost` is this host, also where the resolver does not say so."""
    resolve = socket.getaddrinfo

    def lookup(host: Any, *rest: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if str(host).endswith("localhost") else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


@pytest.fixture(params=["path", "virtual"])
def client(running: RunningGateway, request: pytest.FixtureRequest, names: None) -> Iterator[Any]:
    found = boto3.client(
        "s3", endpoint_url=f"http://localhost:{running.port}" if request.param == "virtual" else running.endpoint,
        aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET, region_name="us-east-1",
        config=Config(signature_version="s3v4", s3={"addressing_style": request.param}, retries={"max_attempts": 1}, proxies={}),
    )  # fmt: skip
    yield found
    found.close()


def test_reads_every_key_with_its_metadata(client: Any) -> None:
    for key in KEYS[:8]:
        answer = client.get_object(Bucket="data", Key=key)
        assert answer["Body"].read() == key.encode()
        assert answer["Metadata"] == {"colour": "blue"}
    assert client.get_object(Bucket="data", Key="dir/x", Range="bytes=-2")["Body"].read() == b"/x"
    assert client.head_object(Bucket="data", Key="dir/x")["ContentLength"] == 5
    assert client.get_object(Bucket="data", Key="dir/x", PartNumber=1)["ResponseMetadata"]["HTTPStatusCode"] == 206


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
def test_listings_page_to_every_key_once(client: Any, operation: str, size: int) -> None:
    pages = client.get_paginator(operation).paginate(Bucket="data", PaginationConfig={"PageSize": size})
    assert [entry["Key"] for page in pages for entry in page.get("Contents", [])] == KEYS
    rolled = client.get_paginator(operation).paginate(Bucket="data", Delimiter="/", PaginationConfig={"PageSize": size})
    prefixes = [entry["Prefix"] for page in rolled for entry in page.get("CommonPrefixes", [])]
    assert prefixes == ["a b/", "a/", "dir/", "n/"]


def test_buckets_tags_attributes_and_places(client: Any) -> None:
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["data", "public"]
    client.head_bucket(Bucket="data")
    assert client.get_bucket_location(Bucket="data")["LocationConstraint"] is None
    assert "Status" not in client.get_bucket_versioning(Bucket="data")
    assert client.get_object_tagging(Bucket="data", Key="dir/x")["TagSet"] == [{"Key": "team", "Value": "a&b"}]
    found = client.get_object_attributes(Bucket="data", Key="dir/x", ObjectAttributes=["ETag", "ObjectSize"])
    assert found["ObjectSize"] == 5


@pytest.mark.parametrize(
    ("call", "arguments", "code"),
    [
        ("get_object", {"Bucket": "data", "Key": "no"}, "NoSuchKey"),
        ("get_object", {"Bucket": "nobucket", "Key": "no"}, "NoSuchBucket"),
        ("list_objects_v2", {"Bucket": "nobucket"}, "NoSuchBucket"),
        ("head_bucket", {"Bucket": "nobucket"}, "404"),
        ("get_object", {"Bucket": "data", "Key": "dir/x", "Range": "bytes=9-"}, "InvalidRange"),
        ("get_object", {"Bucket": "data", "Key": "dir/x", "IfMatch": "x"}, "PreconditionFailed"),
        ("get_object", {"Bucket": "data", "Key": "dir/x", "VersionId": "v9"}, "NoSuchVersion"),
        ("get_object_torrent", {"Bucket": "data", "Key": "dir/x"}, "NotImplemented"),
        ("put_object", {"Bucket": "data", "Key": "dir/x", "Body": b"new"}, "AccessDenied"),
        ("delete_object", {"Bucket": "data", "Key": "dir/x"}, "AccessDenied"),
        ("create_bucket", {"Bucket": "new"}, "AccessDenied"),
    ],
)
def test_errors_have_their_codes(client: Any, call: str, arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(client, call)(**arguments)
    assert caught.value.response["Error"]["Code"] == code


def test_presigned_urls_work_as_they_are(client: Any) -> None:
    url = client.generate_presigned_url(
        "get_object", Params={"Bucket": "data", "Key": "a b/ü", "ResponseContentType": "text/x"}, ExpiresIn=60
    )
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == "a b/ü".encode()
        assert answer.headers["content-type"] == "text/x"


def test_nobody_reads_only_where_the_mount_says_so(running: RunningGateway) -> None:
    with urllib.request.urlopen(f"{running.endpoint}/public/dir/x") as answer:
        assert answer.read() == b"dir/x"
    with pytest.raises(urllib.error.HTTPError, match="403") as caught:
        urllib.request.urlopen(f"{running.endpoint}/data/dir/x")
    caught.value.close()
