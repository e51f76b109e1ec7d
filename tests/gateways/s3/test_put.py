"""PutObject: bytes, attributes, limits, conditions, and what is refused before a byte is asked for."""

from __future__ import annotations

import hashlib
import socket
from typing import Any

import pytest

from headrace.gateways.s3.put import MAX_PUT_BYTES
from headrace.model.events import AccessRefused, WriteServed
from headrace.policy.rules import Action, Policy, Rule
from support.gateway import DEADLINE_S, RunningGateway, gateway
from support.writing import BUCKET, MIB, account_gateway, refusal


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 3 * MIB + 1])
def test_what_is_put_is_read(s3: Any, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    put = s3.put_object(Bucket=BUCKET, Key=f"size/{size}", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
    got = s3.get_object(Bucket=BUCKET, Key=f"size/{size}")
    assert (got["Body"].read(), got["ETag"], got["ContentLength"]) == (body, put["ETag"], size)


def test_attributes_are_kept(s3: Any) -> None:
    given = {
        "ContentType": "text/x", "CacheControl": "max-age=1", "ContentDisposition": "inline", "ContentLanguage": "de",
        "ContentEncoding": "aws-chunked, gzip", "Metadata": {"colour": "blue", "empty": ""},
    }  # fmt: skip
    s3.put_object(Bucket=BUCKET, Key="attributes", Body=b"x", Tagging="a=1&b=%26%20c", **given)
    found = s3.head_object(Bucket=BUCKET, Key="attributes")
    assert {name: found[name] for name in given} == given | {"ContentEncoding": "gzip"}
    assert s3.get_object_tagging(Bucket=BUCKET, Key="attributes")["TagSet"] == [
        {"Key": "a", "Value": "1"}, {"Key": "b", "Value": "& c"},
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["a//b", "../x", ".", "dir/", " ", "+", "é", "%2e", "x" * 1024, "a\\b", "\r\n", "a?b#c"])
def test_odd_keys_are_kept_exactly(s3: Any, key: str) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode()
    assert key in [
        entry["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET) for entry in page["Contents"]
    ]


def test_limits_are_those_of_s3(s3: Any, account: RunningGateway) -> None:
    def put(**given: Any) -> None:
        s3.put_object(Bucket=BUCKET, Key="limits", Body=b"x", **given)

    put(Metadata={"a": "x" * 2047}, Tagging="&".join(f"k{n}={'v' * 256}" for n in range(10)))
    with refusal("MetadataTooLarge"):
        put(Metadata={"a": "x" * 2048})
    with refusal("BadRequest"):
        put(Tagging="&".join(f"k{n}=v" for n in range(11)))
    for tagging in ("k=" + "v" * 257, "k" * 129 + "=v", "=v", "k=1&k=2", "aws:k=v"):
        with refusal("InvalidTag"):
            put(Tagging=tagging)
    with refusal("KeyTooLongError"):
        s3.put_object(Bucket=BUCKET, Key="x" * 1025, Body=b"x")
    with refusal("NoSuchBucket"):
        s3.put_object(Bucket="no-such-bucket", Key="x", Body=b"x")
    head = account.sign("PUT", f"/{BUCKET}/limits", {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    too_large = head.replace(b"\r\n\r\n", b"\r\ncontent-length: %d\r\n\r\n" % (MAX_PUT_BYTES + 1))
    answer = account.talk(too_large)[0]
    assert (answer.status, answer.code) == (400, "EntityTooLarge")
    assert account.ask("PUT", f"/{BUCKET}/limits").code == "MissingContentLength"
    assert s3.get_object(Bucket=BUCKET, Key="limits")["Body"].read() == b"x"


@pytest.mark.parametrize(
    "given",
    [{"ACL": "public-read"}, {"ACL": "authenticated-read"}, {"ServerSideEncryption": "AES256"}, {"GrantRead": "id=x"},
     {"WebsiteRedirectLocation": "/x"}, {"ObjectLockMode": "GOVERNANCE"}, {"WriteOffsetBytes": 0}],
)  # fmt: skip
def test_what_would_be_ignored_is_refused(s3: Any, given: dict[str, Any]) -> None:
    with refusal("NotImplemented"):
        s3.put_object(Bucket=BUCKET, Key="refused", Body=b"x", **given)
    with refusal("NoSuchKey"):
        s3.get_object(Bucket=BUCKET, Key="refused")


def test_what_says_what_is_so_is_taken(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="taken", Body=b"x", ACL="private", StorageClass="STANDARD", ExpectedBucketOwner="headrace")
    with refusal("AccessDenied"):
        s3.put_object(Bucket=BUCKET, Key="taken", Body=b"y", ExpectedBucketOwner="somebody")
    with refusal("InvalidStorageClass"):
        s3.put_object(Bucket=BUCKET, Key="taken", Body=b"y", StorageClass="GLACIER")
    assert s3.get_object(Bucket=BUCKET, Key="taken")["Body"].read() == b"x"


def test_conditions_hold(s3: Any) -> None:
    def put(body: bytes, **condition: str) -> Any:
        return s3.put_object(Bucket=BUCKET, Key="conditions", Body=body, **condition)["ETag"]

    with refusal("NoSuchKey"):
        put(b"0", IfMatch="*")
    first = put(b"1", IfNoneMatch="*")
    with refusal("PreconditionFailed"):
        put(b"2", IfNoneMatch="*")
    second = put(b"2", IfMatch=first)
    with refusal("PreconditionFailed"):
        put(b"3", IfMatch=first)
    with refusal("PreconditionFailed"):
        s3.delete_object(Bucket=BUCKET, Key="conditions", IfMatch=first)
    assert s3.get_object(Bucket=BUCKET, Key="conditions")["Body"].read() == b"2"
    s3.delete_object(Bucket=BUCKET, Key="conditions", IfMatch=second)


def test_a_condition_that_is_not_known_is_refused(account: RunningGateway) -> None:
    for name, value in (
        ("if-none-match", "a, b"),
        ("if-match", "W/x"),
        ("if-unmodified-since", "x"),
        ("content-range", "bytes 0-1/2"),
    ):
        answer = account.ask("PUT", f"/{BUCKET}/unknown", {name: value}, body=b"x")
        assert (answer.status, answer.code) == (501, "NotImplemented"), name


def test_continue_is_said_to_admitted_writes_alone() -> None:
    policy = Policy((Rule(f"/{BUCKET}/open", actions=(Action.WRITE,)),))
    with account_gateway("memory", policy=policy) as running:
        for key, first in (("open", b"HTTP/1.1 100"), ("closed", b"HTTP/1.1 403")):
            headers = {"Expect": "100-continue", "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
            head, _, body = running.sign("PUT", f"/{BUCKET}/{key}", headers, body=b"xyz", close=False).partition(b"\r\n\r\n")
            with socket.create_connection((running.host, running.port), timeout=DEADLINE_S) as sock:
                sock.sendall(head + b"\r\n\r\n")
                assert sock.recv(4096).startswith(first)
                if key == "open":
                    sock.sendall(body)
                    assert sock.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(("condition", "status"), [({}, 200), ({"if-match": "other"}, 412)], ids=["written", "refused"])
def test_continue_is_said_before_an_empty_body(account: RunningGateway, condition: dict[str, str], status: int) -> None:
    account.ask("PUT", f"/{BUCKET}/empty", body=b"x")
    headers = {"Expect": "100-continue", "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD", **condition}
    head = account.sign("PUT", f"/{BUCKET}/empty", headers).removesuffix(b"\r\n") + b"content-length: 0\r\n\r\n"
    assert [answer.status for answer in account.talk(head)] == [100, status]


def test_a_refused_upload_is_told_even_while_it_is_sent() -> None:
    policy = Policy((Rule("/elsewhere", actions=(Action.WRITE,)),))
    with account_gateway("memory", policy=policy) as running:
        answer = running.ask("PUT", f"/{BUCKET}/key", body=bytes(8 * MIB))
        assert (answer.status, answer.headers["connection"]) == (403, "close")


def test_a_mount_without_writes_says_so_and_is_audited() -> None:
    with gateway() as running:
        answer = running.ask("PUT", "/data/key", body=b"x")
        assert (answer.status, answer.code) == (403, "AccessDenied")
        assert b"nothing can be written at this path" in answer.body
        refused = [event for event in running.events if isinstance(event, AccessRefused)]
        assert [(event.reason, event.path, event.method) for event in refused] == [("AccessDenied", "/data/key", "PUT")]


def test_a_write_is_counted() -> None:
    with account_gateway("memory") as running:
        running.ask("PUT", f"/{BUCKET}/key", body=b"12345")
        event = next(event for event in running.events if isinstance(event, WriteServed))
        assert (event.mount, event.path, event.bytes, event.operation, event.status) == (
            "/",
            f"/{BUCKET}/key",
            5,
            "PutObject",
            200,
        )
        stats = running.server.stats()
        assert (stats.writes, stats.bytes_received) == (1, 5)


def test_a_body_that_breaks_off_leaves_what_was_there(s3: Any, account: RunningGateway) -> None:
    s3.put_object(Bucket=BUCKET, Key="whole", Body=b"old")
    request = account.sign("PUT", f"/{BUCKET}/whole", {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, body=b"new and longer")
    account.talk(request[:-3], eof=True)
    assert s3.get_object(Bucket=BUCKET, Key="whole")["Body"].read() == b"old"
