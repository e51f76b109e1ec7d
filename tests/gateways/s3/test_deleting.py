"""DeleteObject and DeleteObjects: every key by itself, and documents read strictly."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from headrace.model.events import AccessRefused
from headrace.policy.rules import Action, Policy, Rule
from support.gateway import Answer, RunningGateway
from support.writing import BUCKET, account_gateway, refusal


def ask(running: RunningGateway, document: bytes, headers: dict[str, str] | None = None) -> Answer:
    if headers is None:
        headers = {"content-md5": base64.b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()}
    return running.ask("POST", f"/{BUCKET}?delete", headers, body=document)


def test_what_is_deleted_is_gone(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="one", Body=b"x")
    s3.delete_object(Bucket=BUCKET, Key="one")
    s3.delete_object(Bucket=BUCKET, Key="one", VersionId="null")
    with refusal("NoSuchKey"):
        s3.get_object(Bucket=BUCKET, Key="one")
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="one")
    with refusal("NoSuchBucket"):
        s3.delete_object(Bucket="no-such-bucket", Key="one")


def test_another_version_is_not_deleted(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="versioned", Body=b"x")
    with refusal("NoSuchVersion"):
        s3.delete_object(Bucket=BUCKET, Key="versioned", VersionId="v1")
    assert s3.get_object(Bucket=BUCKET, Key="versioned")["Body"].read() == b"x"


def test_many_keys_at_once(s3: Any) -> None:
    keys = [f"many/{n:03}" for n in range(150)] + ["../x", "a//b", "é", "<&>"]
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    objects = [{"Key": key} for key in [*keys, "never/there"]]
    done = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})
    assert [entry["Key"] for entry in done["Deleted"]] == [*keys, "never/there"]
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="many/")
    quiet = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "x"}], "Quiet": True})
    assert "Deleted" not in quiet
    with refusal("NoSuchBucket"):
        s3.delete_objects(Bucket="no-such-bucket", Delete={"Objects": [{"Key": "x"}]})


def test_each_key_has_its_own_outcome(s3: Any) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key="kept", Body=b"x")["ETag"]
    s3.put_object(Bucket=BUCKET, Key="gone", Body=b"x")
    wishes = [
        {"Key": "kept", "ETag": '"0"'},
        {"Key": "gone", "ETag": etag},
        {"Key": "k" * 1025},
        {"Key": "kept", "VersionId": "v1"},
    ]
    done = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": wishes})
    assert [entry["Key"] for entry in done["Deleted"]] == ["gone"]
    assert [entry["Code"] for entry in done["Errors"]] == ["PreconditionFailed", "KeyTooLongError", "NoSuchVersion"]
    s3.get_object(Bucket=BUCKET, Key="kept")


def test_16_keys_in_a_document_are_authorised_one_by_one() -> None:
    policy = Policy(
        (Rule("/", actions=(Action.WRITE, Action.READ)), Rule(f"/{BUCKET}/secret", actions=(Action.WRITE,), effect="deny"))
    )
    with account_gateway("memory", policy=policy) as running:
        store = running.stores["/"]
        bucket = store.buckets().store(BUCKET)  # type: ignore[attr-defined]
        for key in ("secret/x", "open"):
            bucket.put(key, b"x")
        answer = ask(running, b"<Delete><Object><Key>secret/x</Key></Object><Object><Key>open</Key></Object></Delete>")
        assert (answer.status, answer.code) == (200, "AccessDenied")
        assert b"<Deleted><Key>open</Key></Deleted>" in answer.body
        assert bucket.body("secret/x") == b"x"
        assert [e.path for e in running.events if isinstance(e, AccessRefused)] == [f"/{BUCKET}/secret/x"]


OBJECT = b"<Object><Key>x</Key></Object>"


@pytest.mark.parametrize(
    "document",
    [
        b"", b"<", b"<Delete/>", b"<Other>" + OBJECT + b"</Other>", b"<Delete>" + OBJECT * 1001 + b"</Delete>",
        b"<Delete><Object/></Delete>", b"<Delete><Object><Key/></Object></Delete>",
        b"<Delete><Quiet>yes</Quiet>" + OBJECT + b"</Delete>",
        b"<Delete><Object><Key>x</Key><Key>y</Key></Object></Delete>", b"<Delete><Unknown/>" + OBJECT + b"</Delete>",
        b"<Delete>text" + OBJECT + b"</Delete>", b"<Delete>" + b"<a>" * 10_000, b"<Delete>" + OBJECT + b"</Delete><x/>",
        b'<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>',
        b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete>' + OBJECT + b"</Delete>",
        b'<?xml version="1.0" encoding="UTF-7"?><Delete>' + OBJECT + b"</Delete>",
        ("<Delete>" + OBJECT.decode() + "</Delete>").encode("utf-16"), b"<Delete><Object><Key>\xff</Key></Object></Delete>",
        b"<Delete><Object><Key>&#0;</Key></Object></Delete>",
    ],
)  # fmt: skip
def test_33_documents_are_read_strictly(s3: Any, account: RunningGateway, document: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key="x", Body=b"x")
    answer = ask(account, document)
    assert (answer.status, answer.code) == (400, "MalformedXML")
    s3.get_object(Bucket=BUCKET, Key="x")


def test_33_a_document_of_ten_mebibytes_is_refused(account: RunningGateway) -> None:
    assert ask(account, b"<Delete>" + b" " * 10 * 1024 * 1024).status == 400


def test_a_document_must_be_proved(account: RunningGateway) -> None:
    document = b"<Delete>" + OBJECT + b"</Delete>"
    assert ask(account, document, {}).code == "InvalidRequest"
    assert ask(account, document, {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}).code == "BadDigest"
