"""Buckets and objects with owners: who is told what, read by whom, and given away how."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from headrace.model.events import AccessRefused
from headrace.model.writing import ACL_TAG
from headrace.policy.rules import Action, Policy, Rule
from headrace.stores.file_account import FileAccountStore
from support.gateway import KEY_ID, SECRET, RunningGateway, gateway
from support.writing import refusal, s3_client

NUMBERS = count()
OTHER = "other"


class Three:
    """The owner, another caller with a key, and one without."""

    def __init__(self, running: RunningGateway, folder: Path) -> None:
        self.running, self.folder = running, folder
        running.keys.replace({KEY_ID: SECRET, OTHER: "another-secret-for-tests"})
        self.owner = s3_client(running)
        self.other = s3_client(running, OTHER, "another-secret-for-tests")
        self.nobody = boto3.client(
            "s3", endpoint_url=running.endpoint, region_name="us-east-1",
            config=Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}, retries={"max_attempts": 1}, proxies={}),
        )  # fmt: skip

    def bucket(self, acl: str = "private") -> str:
        name = f"bucket-{next(NUMBERS)}"
        self.owner.create_bucket(Bucket=name, ACL=acl)
        return name


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    folder = tmp_path_factory.mktemp("account")
    with gateway({"/": FileAccountStore(str(folder))}, writable=True, acls=True) as running:
        found = Three(running, folder)
        yield found
        for client in (found.owner, found.other, found.nobody):
            client.close()


def keys(client: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_a_bucket_is_its_makers_and_private(three: Three) -> None:
    name = three.bucket()
    three.owner.put_object(Bucket=name, Key="k", Body=b"x")
    for client in (three.other, three.nobody):
        for refused in (
            lambda client=client: client.list_objects_v2(Bucket=name),
            lambda client=client: client.get_object(Bucket=name, Key="k"),
            lambda client=client: client.get_object(Bucket=name, Key="absent"),
            lambda client=client: client.put_object(Bucket=name, Key="k", Body=b"y"),
            lambda client=client: client.delete_object(Bucket=name, Key="k"),
            lambda client=client: client.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "k"}]}),
            lambda client=client: client.create_multipart_upload(Bucket=name, Key="k"),
            lambda client=client: client.get_object_tagging(Bucket=name, Key="k"),
            lambda client=client: client.put_object_tagging(Bucket=name, Key="k", Tagging={"TagSet": []}),
            lambda client=client: client.put_object_acl(Bucket=name, Key="k", ACL="public-read"),
            lambda client=client: client.put_bucket_acl(Bucket=name, ACL="public-read"),
            lambda client=client: client.get_bucket_acl(Bucket=name),
            lambda client=client: client.get_bucket_location(Bucket=name),
            lambda client=client: client.delete_bucket(Bucket=name),
        ):
            with refusal("AccessDenied"):
                refused()
    assert three.owner.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
    assert three.owner.get_object_tagging(Bucket=name, Key="k")["TagSet"] == []
    assert "TagCount" not in three.owner.head_object(Bucket=name, Key="k")
    refusals = [event for event in three.running.events if isinstance(event, AccessRefused)]
    assert {event.caller for event in refusals} >= {OTHER, ""}, "each refusal leaves a line in the audit log"


def test_only_ones_own_buckets_are_listed_and_no_name_is_taken_twice(three: Three) -> None:
    name = three.bucket()
    assert name in [bucket["Name"] for bucket in three.owner.list_buckets()["Buckets"]]
    assert three.owner.list_buckets()["Owner"]["ID"] == KEY_ID
    assert name not in [bucket["Name"] for bucket in three.other.list_buckets()["Buckets"]]
    with refusal("BucketAlreadyExists"):
        three.other.create_bucket(Bucket=name)
    with refusal("AccessDenied"):
        three.nobody.create_bucket(Bucket=f"{name}-of-nobody")


def test_making_a_bucket_once_more_takes_its_grants_away(three: Three) -> None:
    name = three.bucket("public-read")
    assert keys(three.nobody, name) == []
    three.owner.create_bucket(Bucket=name)
    with refusal("AccessDenied"):
        keys(three.nobody, name)


@pytest.mark.parametrize(("acl", "others"), [("public-read", True), ("authenticated-read", False), ("public-read-write", True)])
def test_a_listing_and_an_object_are_granted_apart(three: Three, acl: str, others: bool) -> None:
    name = three.bucket(acl)
    three.owner.put_object(Bucket=name, Key="k", Body=b"x")
    assert keys(three.other, name) == ["k"]
    with refusal("AccessDenied"):
        three.other.get_object(Bucket=name, Key="k")
    with refusal("NoSuchKey"):
        three.other.get_object(Bucket=name, Key="absent")
    three.owner.put_object(Bucket=name, Key="k", Body=b"y", ACL=acl)
    assert three.other.get_object(Bucket=name, Key="k")["Body"].read() == b"y"
    if others:
        assert three.nobody.get_object(Bucket=name, Key="k")["Body"].read() == b"y"
    else:
        with refusal("AccessDenied"):
            three.nobody.get_object(Bucket=name, Key="k")


def test_what_others_write_is_theirs_and_what_nobody_writes_is_the_bucket_owners(three: Three) -> None:
    name = three.bucket("public-read-write")
    three.other.put_object(Bucket=name, Key="theirs", Body=b"x")
    with refusal("AccessDenied"):
        three.owner.get_object(Bucket=name, Key="theirs")
    three.other.put_object(Bucket=name, Key="theirs", Body=b"x", ACL="bucket-owner-read")
    assert three.owner.get_object(Bucket=name, Key="theirs")["Body"].read() == b"x"
    three.nobody.put_object(Bucket=name, Key="left", Body=b"y")
    assert three.owner.get_object_acl(Bucket=name, Key="left")["Owner"]["ID"] == KEY_ID
    three.owner.delete_object(Bucket=name, Key="theirs")


def test_grants_are_given_by_document_and_told_as_they_are(three: Three) -> None:
    name = three.bucket()
    three.owner.put_object(Bucket=name, Key="k", Body=b"x", Tagging="a=1")
    grant = {"Grantee": {"Type": "CanonicalUser", "ID": OTHER}, "Permission": "READ"}
    told = three.owner.get_object_acl(Bucket=name, Key="k")
    assert [one["Permission"] for one in told["Grants"]] == ["FULL_CONTROL"]
    before = three.owner.head_object(Bucket=name, Key="k")
    wanted = {"Owner": told["Owner"], "Grants": [*told["Grants"], grant]}
    three.owner.put_object_acl(Bucket=name, Key="k", AccessControlPolicy=wanted)
    assert three.other.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
    again = three.owner.get_object_acl(Bucket=name, Key="k")["Grants"]
    assert [(one["Grantee"]["ID"], one["Permission"]) for one in again] == [(KEY_ID, "FULL_CONTROL"), (OTHER, "READ")]
    after = three.owner.head_object(Bucket=name, Key="k")
    assert (after["LastModified"], after["ETag"], after["TagCount"]) == (before["LastModified"], before["ETag"], 1)
    with refusal("AccessDenied"):
        three.owner.put_object_acl(
            Bucket=name, Key="k", AccessControlPolicy={"Owner": {"ID": OTHER}, "Grants": [grant]}
        )  # fmt: skip


def test_tags_and_grants_of_an_object_are_changed_apart(three: Three) -> None:
    name = three.bucket()
    three.owner.put_object(Bucket=name, Key="k", Body=b"x", ACL="public-read")
    three.owner.put_object_tagging(Bucket=name, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    assert three.nobody.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
    three.owner.put_object_acl(Bucket=name, Key="k", ACL="private")
    assert three.owner.get_object_tagging(Bucket=name, Key="k")["TagSet"] == [{"Key": "a", "Value": "1"}]
    three.owner.delete_object_tagging(Bucket=name, Key="k")
    with refusal("AccessDenied"):
        three.nobody.get_object(Bucket=name, Key="k")
    with refusal("InvalidTag"):
        three.owner.put_object_tagging(Bucket=name, Key="k", Tagging={"TagSet": [{"Key": ACL_TAG, "Value": "[]"}]})
    with refusal("InvalidTag"):
        three.owner.put_object(Bucket=name, Key="k", Body=b"x", Tagging="headrace%3Aacl=%5B%5D")


def test_a_copy_needs_to_be_allowed_at_both_ends_and_is_the_copiers(three: Three) -> None:
    source, name = three.bucket(), f"copies-{next(NUMBERS)}"
    three.owner.put_object(Bucket=source, Key="k", Body=b"x", Tagging="a=1")
    three.other.create_bucket(Bucket=name)
    place = {"Bucket": source, "Key": "k"}
    with refusal("AccessDenied"):
        three.other.copy_object(Bucket=name, Key="k", CopySource=place)
    with refusal("AccessDenied"):
        three.owner.copy_object(Bucket=name, Key="k", CopySource=place)
    three.owner.put_object_acl(Bucket=source, Key="k", ACL="authenticated-read")
    with refusal("AccessDenied"):
        three.other.copy_object(Bucket=name, Key="k", CopySource=place, ExpectedSourceBucketOwner=OTHER)
    three.other.copy_object(Bucket=name, Key="k", CopySource=place, ExpectedSourceBucketOwner=KEY_ID)
    assert three.other.get_object_acl(Bucket=name, Key="k")["Owner"]["ID"] == OTHER
    assert three.other.get_object_tagging(Bucket=name, Key="k")["TagSet"] == [{"Key": "a", "Value": "1"}]
    with refusal("AccessDenied"):
        three.owner.get_object(Bucket=name, Key="k")


def test_an_upload_in_parts_is_whose_it_was_begun_by(three: Three) -> None:
    name = three.bucket("public-read-write")
    place = {"Bucket": name, "Key": "k"}
    place["UploadId"] = three.other.create_multipart_upload(**place, ACL="public-read")["UploadId"]
    etag = three.owner.upload_part(**place, PartNumber=1, Body=b"x")["ETag"]
    [found] = three.owner.list_multipart_uploads(Bucket=name)["Uploads"]
    assert (found["Owner"]["ID"], found["Initiator"]["ID"]) == (OTHER, OTHER)
    assert three.owner.list_parts(**place)["Owner"]["ID"] == OTHER
    three.owner.complete_multipart_upload(**place, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    assert three.nobody.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
    assert three.owner.list_objects_v2(Bucket=name, FetchOwner=True)["Contents"][0]["Owner"]["ID"] == KEY_ID


def test_another_owner_is_not_expected(three: Three) -> None:
    name = three.bucket("public-read-write")
    assert keys(three.owner, name) == []
    three.nobody.list_objects_v2(Bucket=name, ExpectedBucketOwner=KEY_ID)
    for wrong in (OTHER, "headrace"):
        with refusal("AccessDenied"):
            three.nobody.list_objects_v2(Bucket=name, ExpectedBucketOwner=wrong)


def test_rules_deny_what_lists_grant(three: Three) -> None:
    name = three.bucket("public-read-write")
    three.owner.put_object(Bucket=name, Key="k", Body=b"x", ACL="public-read")
    before = three.running.gateway.policy
    three.running.gateway.policy = Policy((Rule(f"/{name}", ("*",), (Action.READ, Action.WRITE), "deny"),))
    try:
        for client in (three.nobody, three.owner):
            with refusal("AccessDenied"):
                client.get_object(Bucket=name, Key="k")
            with refusal("AccessDenied"):
                client.put_object(Bucket=name, Key="k", Body=b"x")
    finally:
        three.running.gateway.policy = before


def test_what_came_past_the_gateway_is_the_bucket_owners_and_a_bucket_nobodys(three: Three) -> None:
    name = three.bucket()
    (three.folder / name / "plain").write_bytes(b"x")
    assert three.owner.get_object(Bucket=name, Key="plain")["Body"].read() == b"x"
    with refusal("AccessDenied"):
        three.other.get_object(Bucket=name, Key="plain")
    (three.folder / "made-aside").mkdir()
    (three.folder / "made-aside" / "plain").write_bytes(b"y")
    for client in (three.owner, three.other):
        assert client.get_object(Bucket="made-aside", Key="plain")["Body"].read() == b"y"
    with refusal("AccessDenied"):
        three.nobody.get_object(Bucket="made-aside", Key="plain")
    three.other.put_bucket_acl(Bucket="made-aside", ACL="private")
    with refusal("AccessDenied"):
        three.owner.get_object(Bucket="made-aside", Key="plain")


def test_what_is_kept_for_no_list_is_refused(three: Three) -> None:
    name = three.bucket()
    with refusal("NotImplemented"):
        three.owner.put_bucket_acl(Bucket=name, ACL="log-delivery-write")
    with refusal("NotImplemented"):
        three.owner.put_object(Bucket=name, Key="k", Body=b"x", GrantRead=f'id="{OTHER}"')
    with refusal("InvalidRequest"):
        three.owner.put_bucket_acl(Bucket=name)
    for grantee in ({"Type": "Group", "URI": "http://acs.amazonaws.com/groups/s3/LogDelivery"},):
        grants = [{"Grantee": grantee, "Permission": "READ"}]
        with refusal("InvalidArgument"):
            three.owner.put_bucket_acl(Bucket=name, AccessControlPolicy={"Owner": {"ID": KEY_ID}, "Grants": grants})


def test_a_list_that_cannot_be_read_allows_nothing(three: Three) -> None:
    name = three.bucket("public-read")
    (three.folder / name / ".headrace" / "acl").write_bytes(b"[1]")
    for client in (three.nobody, three.other):
        with refusal("InternalError"):
            keys(client, name)
