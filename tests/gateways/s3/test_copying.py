"""CopyObject: directives, conditions on the source, and what may be copied by whom."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import quote

import pytest

from headrace.gateways.s3.copying import read_source
from headrace.gateways.s3.errors import S3Error
from headrace.model.events import AccessRefused
from headrace.policy.rules import Action, Policy, Rule
from support.gateway import RunningGateway
from support.writing import BUCKET, account_gateway, refusal, s3_client

SOURCE = {"Bucket": BUCKET, "Key": "source"}


@pytest.fixture(autouse=True)
def source(s3: Any) -> None:
    s3.put_object(**SOURCE, Body=b"bytes", ContentType="text/x", Metadata={"a": "1"}, Tagging="t=1")


def test_a_copy_has_the_sources_bytes_and_attributes(s3: Any) -> None:
    done = s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=SOURCE)["CopyObjectResult"]
    got = s3.get_object(Bucket=BUCKET, Key="copy")
    assert (got["Body"].read(), got["ContentType"], got["Metadata"], got["ETag"]) == (
        b"bytes",
        "text/x",
        {"a": "1"},
        done["ETag"],
    )
    assert s3.get_object_tagging(Bucket=BUCKET, Key="copy")["TagSet"] == [{"Key": "t", "Value": "1"}]


def test_directives_say_what_is_replaced(s3: Any) -> None:
    s3.copy_object(Bucket=BUCKET, Key="meta", CopySource=SOURCE, MetadataDirective="REPLACE", Metadata={"b": "2"})
    got = s3.head_object(Bucket=BUCKET, Key="meta")
    assert (got["Metadata"], got["ContentType"]) == ({"b": "2"}, "binary/octet-stream")
    assert s3.get_object_tagging(Bucket=BUCKET, Key="meta")["TagSet"] == [{"Key": "t", "Value": "1"}]
    s3.copy_object(Bucket=BUCKET, Key="tags", CopySource=SOURCE, TaggingDirective="REPLACE", Tagging="n=9")
    assert s3.head_object(Bucket=BUCKET, Key="tags")["Metadata"] == {"a": "1"}
    assert s3.get_object_tagging(Bucket=BUCKET, Key="tags")["TagSet"] == [{"Key": "n", "Value": "9"}]
    with refusal("InvalidArgument"):
        s3.copy_object(Bucket=BUCKET, Key="tags", CopySource=SOURCE, MetadataDirective="MERGE")


def test_a_copy_onto_itself_must_change_something(s3: Any) -> None:
    with refusal("InvalidRequest"):
        s3.copy_object(**SOURCE, CopySource=SOURCE)
    s3.copy_object(**SOURCE, CopySource=SOURCE, MetadataDirective="REPLACE", Metadata={"new": "1"})
    got = s3.get_object(**SOURCE)
    assert (got["Metadata"], got["Body"].read()) == ({"new": "1"}, b"bytes")


def test_a_copy_can_be_given_a_checksum(s3: Any) -> None:
    done = s3.copy_object(Bucket=BUCKET, Key="summed", CopySource=SOURCE, ChecksumAlgorithm="SHA256")["CopyObjectResult"]
    found = s3.head_object(Bucket=BUCKET, Key="summed", ChecksumMode="ENABLED")
    assert found["ChecksumSHA256"] == done["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(b"bytes").digest()).decode()


def test_conditions_on_the_source_and_on_the_copy(s3: Any) -> None:
    etag = s3.head_object(**SOURCE)["ETag"]
    s3.copy_object(Bucket=BUCKET, Key="conditional", CopySource=SOURCE, CopySourceIfMatch=etag, IfNoneMatch="*")
    for condition in ({"CopySourceIfMatch": '"x"'}, {"CopySourceIfNoneMatch": etag}, {"IfNoneMatch": "*"}, {"IfMatch": '"x"'}):
        with refusal("PreconditionFailed"):
            s3.copy_object(Bucket=BUCKET, Key="conditional", CopySource=SOURCE, **condition)
    assert s3.get_object(Bucket=BUCKET, Key="conditional")["Body"].read() == b"bytes"


def test_what_is_not_there_is_not_copied(s3: Any) -> None:
    for key, bucket, code in (("no", BUCKET, "NoSuchKey"), ("no", "no-such-bucket", "NoSuchBucket")):
        with refusal(code):
            s3.copy_object(Bucket=BUCKET, Key="uncopied", CopySource={"Bucket": bucket, "Key": key})
    with refusal("NoSuchVersion"):
        s3.copy_object(Bucket=BUCKET, Key="uncopied", CopySource={**SOURCE, "VersionId": "v9"})
    with refusal("NoSuchBucket"):
        s3.copy_object(Bucket="no-such-bucket", Key="uncopied", CopySource=SOURCE)
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="uncopied")


@pytest.mark.parametrize("key", ["a%25b", "a%b", "a+b", "a b", "../x", "é?versionId=1", "a//b", "%2e%2e%2f"])
def test_16_odd_keys_are_the_same_in_a_copy_source(s3: Any, key: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    s3.copy_object(Bucket=BUCKET, Key="of-odd", CopySource={"Bucket": BUCKET, "Key": key})
    assert s3.get_object(Bucket=BUCKET, Key="of-odd")["Body"].read() == key.encode()


@pytest.mark.parametrize(
    "source", ["", "/", "bucket", "/bucket/", "../x/y", "bucket/%00", "bucket/%ff", "bucket/%", f"bucket/{'x' * 1025}"]
)
def test_16_what_is_no_key_is_no_source(account: RunningGateway, source: str) -> None:
    answer = account.ask("PUT", f"/{BUCKET}/copy", {"x-amz-copy-source": source})
    assert answer.status == 400


def test_a_source_is_decoded_once() -> None:
    assert read_source(b"/b/a%2525?versionId=null").path == "/b/a%25"
    assert read_source(b"b/k?versionId=v1") == read_source(b"/b/k?versionId=v1")
    with pytest.raises(S3Error):
        read_source(b"b")


def test_a_source_that_may_not_be_read_is_not_copied() -> None:
    policy = Policy((Rule("/"), Rule("/", actions=(Action.WRITE,)), Rule(f"/{BUCKET}/secret", effect="deny")))
    with account_gateway("memory", policy=policy) as running:
        client = s3_client(running)
        for key in ("secret/x", "open"):
            client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        running.events.clear()
        for source in (f"{BUCKET}/secret/x", f"/{BUCKET}/secret%2Fx", f"{BUCKET}/%73ecret/x"):
            answer = running.ask("PUT", f"/{BUCKET}/copy", {"x-amz-copy-source": source})
            assert (answer.status, answer.code) == (403, "AccessDenied")
        assert len([event for event in running.events if isinstance(event, AccessRefused)]) == 3
        assert running.ask("PUT", f"/{BUCKET}/copy", {"x-amz-copy-source": quote(f"{BUCKET}/open")}).status == 200
        client.close()
