"""Buckets made, listed page by page and removed, on an account mount and beside mounts of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.gateways.s3.buckets import valid_bucket_name
from headrace.gateways.settings import GatewaySettings
from headrace.policy.rules import Action, Policy, Rule
from headrace.stores.file_account import FileAccountStore
from support.accounts import MemoryAccount
from support.gateway import RunningGateway, WarmStore, gateway
from support.s3_stores import s3_account
from support.writing import BUCKET, refusal, s3_client


def test_a_bucket_is_made_used_and_removed(s3: Any) -> None:
    s3.create_bucket(Bucket="made-here", CreateBucketConfiguration={"LocationConstraint": "us-east-1"})
    s3.head_bucket(Bucket="made-here")
    found = next(bucket for bucket in s3.list_buckets()["Buckets"] if bucket["Name"] == "made-here")
    assert datetime.now(UTC) - found["CreationDate"] < timedelta(minutes=5)
    s3.put_object(Bucket="made-here", Key="x", Body=b"x")
    s3.create_bucket(Bucket="made-here")
    assert s3.get_object(Bucket="made-here", Key="x")["Body"].read() == b"x"
    with refusal("BucketNotEmpty"):
        s3.delete_bucket(Bucket="made-here")
    s3.delete_object(Bucket="made-here", Key="x")
    s3.create_multipart_upload(Bucket="made-here", Key="unfinished")
    s3.delete_bucket(Bucket="made-here")
    with refusal("NoSuchBucket"):
        s3.delete_bucket(Bucket="made-here")


@pytest.mark.parametrize(
    "kind",
    [
        "directory",
        pytest.param("seaweedfs", marks=pytest.mark.servers),
        pytest.param("ceph", marks=[pytest.mark.servers, pytest.mark.slow]),
    ],
)
def test_a_bucket_goes_with_its_unfinished_uploads_and_never_with_an_object(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    account = FileAccountStore(str(tmp_path)) if kind == "directory" else s3_account(request.getfixturevalue(f"{kind}_server"))
    name = f"goes-{kind}"
    with gateway({"/": account}, writable=True) as running:
        s3 = s3_client(running)
        s3.create_bucket(Bucket=name)
        upload = s3.create_multipart_upload(Bucket=name, Key="unfinished")["UploadId"]
        s3.upload_part(Bucket=name, Key="unfinished", UploadId=upload, PartNumber=1, Body=b"x")
        s3.put_object(Bucket=name, Key="x", Body=b"x")
        with refusal("BucketNotEmpty"):
            s3.delete_bucket(Bucket=name)
        assert s3.list_parts(Bucket=name, Key="unfinished", UploadId=upload)["Parts"]
        s3.delete_object(Bucket=name, Key="x")
        s3.delete_bucket(Bucket=name)
        assert name not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
        s3.close()
        running.run(account.close())


@pytest.mark.parametrize("name", ["ab", "x" * 64, "Upper", "a_b", "-ab", "ab-", "a..b", "192.168.0.1", "xn--ab"])
def test_names_are_those_of_s3(account: RunningGateway, name: str) -> None:
    assert not valid_bucket_name(name)
    assert account.ask("PUT", f"/{name}").code == "InvalidBucketName"


def test_what_a_bucket_cannot_have_is_refused(account: RunningGateway) -> None:
    def ask(headers: dict[str, str], body: bytes = b"") -> str:
        return account.ask("PUT", "/refused", headers, body=body).code

    assert ask({"x-amz-acl": "public-read"}) == "NotImplemented"
    assert ask({"x-amz-acl": "public-ready"}) == "InvalidArgument"
    assert ask({"x-amz-bucket-object-lock-enabled": "true"}) == "NotImplemented"
    assert ask({"x-amz-object-ownership": "ObjectWriter"}) == "NotImplemented"
    elsewhere = b"<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>"
    assert ask({}, elsewhere) == "IllegalLocationConstraintException"
    assert ask({}, b"<CreateBucketConfiguration><Tags/></CreateBucketConfiguration>") == "MalformedXML"


def test_elsewhere_than_in_the_first_region_a_bucket_is_made_once() -> None:
    with gateway({"/": MemoryAccount()}, writable=True, settings=GatewaySettings(region="eu-x")) as running:
        assert running.ask("PUT", "/twice", region="eu-x").status == 200
        assert running.ask("PUT", "/twice", region="eu-x").code == "BucketAlreadyOwnedByYou"


def test_pages_of_buckets_show_what_the_caller_may_list() -> None:
    policy = Policy((Rule("/b", actions=(Action.LIST,), effect="deny"),))
    with gateway({"/": MemoryAccount("a", "c", "d"), "/b": WarmStore(), "/e": WarmStore()}, policy=policy) as running:
        client = s3_client(running)
        pages = list(client.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": 2}))
        assert [[bucket["Name"] for bucket in page["Buckets"]] for page in pages] == [["a", "c"], ["d", "e"]]
        assert [bucket["Name"] for bucket in client.list_buckets(Prefix="d")["Buckets"]] == ["d"]
        assert running.ask("GET", "/?max-buckets=0").code == "InvalidArgument"
        assert running.ask("GET", "/?continuation-token=x").code == "InvalidArgument"
        client.close()


def test_buckets_that_mounts_make_stay() -> None:
    with gateway({"/data": WarmStore()}, writable=True) as running:
        assert running.ask("PUT", "/data").code == "BucketAlreadyOwnedByYou"
        for method, path in (("DELETE", "/data"), ("PUT", "/other")):
            answer = running.ask(method, path)
            assert (answer.status, answer.code) == (403, "AccessDenied")
            assert b"made by mounts" in answer.body


def test_acls_say_what_is_so(s3: Any, account: RunningGateway) -> None:
    s3.put_object(Bucket=BUCKET, Key="acl", Body=b"x")
    for found in (s3.get_bucket_acl(Bucket=BUCKET), s3.get_object_acl(Bucket=BUCKET, Key="acl")):
        assert [(grant["Grantee"]["ID"], grant["Permission"]) for grant in found["Grants"]] == [("headrace", "FULL_CONTROL")]
    s3.put_object_acl(Bucket=BUCKET, Key="acl", ACL="private")
    with refusal("NotImplemented"):
        s3.put_object_acl(Bucket=BUCKET, Key="acl", ACL="public-read")
    with refusal("NotImplemented"):
        grants = {"Grants": [], "Owner": {"ID": "headrace"}}
        s3.put_bucket_acl(Bucket=BUCKET, AccessControlPolicy=grants)
    with gateway({"/data": WarmStore()}, writable=True, anonymous=("/data",)) as running:
        assert running.ask("PUT", "/data?acl", {"x-amz-acl": "public-read"}).status == 200
        assert running.ask("PUT", "/data?acl", {"x-amz-acl": "public-read-write"}).code == "NotImplemented"
        assert b"AllUsers" in running.ask("GET", "/data?acl").body
