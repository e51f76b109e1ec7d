"""Policies allow what they say and nothing else."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.post_policy import check_policy, read_policy

EXPIRES = "2026-02-02T12:00:00.000Z"
EXPIRES_S = 1_770_033_600.0
BASE: list[object] = [{"bucket": "data"}, ["starts-with", "$key", "user/"]]
FORM = {"bucket": "data", "key": "user/file", "policy": "", "x-amz-signature": "", "x-ignore-me": "x"}


def encoded(document: object) -> str:
    return b64encode((document if isinstance(document, str) else json.dumps(document)).encode()).decode()


def check(conditions: list[object], fields: dict[str, str], now_s: float = EXPIRES_S - 1) -> None:
    check_policy(read_policy(encoded({"expiration": EXPIRES, "conditions": [*BASE, *conditions]})), fields, now_s, "analyst")


@pytest.mark.parametrize(
    ("conditions", "fields"),
    [
        ([], {}),
        ([{"acl": "private"}], {"acl": "private"}),
        ([{"ACL": "private"}], {"acl": "private"}),
        ([["eq", "$acl", "private"]], {"acl": "private"}),
        ([{"acl": "private", "tagging": "x"}], {"acl": "private", "tagging": "x"}),
        ([["starts-with", "$X-Amz-Meta-A", ""]], {"x-amz-meta-a": "anything"}),
        ([["starts-with", "$x-amz-meta-a", ""]], {}),
        ([["eq", "$x-amz-meta-a", ""]], {}),
        ([["starts-with", "$Content-Type", "image/"]], {"content-type": "image/png, image/gif"}),
        ([["starts-with", "$key", "user/f"], ["eq", "$key", "user/file"]], {}),
    ],
)
def test_allows_what_it_says(conditions: list[object], fields: dict[str, str]) -> None:
    check(conditions, FORM | fields)


@pytest.mark.parametrize(
    ("conditions", "fields"),
    [
        ([], {"key": "other/file"}),
        ([], {"key": "User/file"}),
        ([], {"bucket": "other"}),
        ([], {"acl": "private"}),
        ([], {"x-amz-meta-a": ""}),
        ([], {"x-amz-credential": "x"}),
        ([{"acl": "private"}], {"acl": "public-read"}),
        ([{"acl": "private"}], {}),
        ([["starts-with", "$content-type", "image/"]], {"content-type": "image/png,text/html"}),
        ([["starts-with", "$content-type", "image/"]], {"content-type": "text/html"}),
        ([["eq", "$content-type", "image/"]], {"content-type": "image/png"}),
        ([["eq", "$x-amz-meta-a", "b"]], {}),
        ([{"key": "user/other"}], {}),
    ],
)
def test_refuses_everything_else(conditions: list[object], fields: dict[str, str]) -> None:
    with pytest.raises(S3Error, match="Invalid according to Policy") as caught:
        check(conditions, FORM | fields)
    assert (caught.value.code, caught.value.audited, caught.value.caller) == ("AccessDenied", True, "analyst")


def test_ends_at_its_expiration() -> None:
    check([], FORM, EXPIRES_S - 0.001)
    with pytest.raises(S3Error, match="expired"):
        check([], FORM, EXPIRES_S)


def test_a_policy_that_does_not_name_the_bucket_is_good_for_none() -> None:
    policy = read_policy(encoded({"expiration": EXPIRES, "conditions": [["starts-with", "$key", ""]]}))
    with pytest.raises(S3Error, match="Extra input fields: bucket"):
        check_policy(policy, FORM, 0, "analyst")


def test_lengths() -> None:
    def lengths(*ranges: object) -> tuple[int, int | None]:
        policy = read_policy(encoded({"expiration": EXPIRES, "conditions": [["content-length-range", *r] for r in ranges]}))
        return policy.min_length, policy.max_length

    assert lengths() == (0, None)
    assert lengths([1, 10]) == (1, 10)
    assert lengths(["1", "10"]) == (1, 10)
    assert lengths([0, 10], [5, 20]) == (5, 10)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        {"expiration": EXPIRES},
        {"conditions": []},
        {"expiration": EXPIRES, "conditions": [], "more": 1},
        {"EXPIRATION": EXPIRES, "conditions": []},
        {"expiration": EXPIRES, "CONDITIONS": []},
        {"expiration": "2026-02-30T12:00:00.000Z", "conditions": []},
        {"expiration": "2026-02-02T12:00:00.000", "conditions": []},
        {"expiration": "2026-02-02", "conditions": []},
        {"expiration": 1, "conditions": []},
        {"expiration": EXPIRES, "conditions": {}},
        {"expiration": EXPIRES, "conditions": [[]]},
        {"expiration": EXPIRES, "conditions": [{}]},
        {"expiration": EXPIRES, "conditions": ["eq"]},
        {"expiration": EXPIRES, "conditions": [{"": "x"}]},
        {"expiration": EXPIRES, "conditions": [{"key": 1}]},
        {"expiration": EXPIRES, "conditions": [{"key": None}]},
        {"expiration": EXPIRES, "conditions": [["eq", "$key"]]},
        {"expiration": EXPIRES, "conditions": [["eq", "key", "x"]]},
        {"expiration": EXPIRES, "conditions": [["eq", "$", "x"]]},
        {"expiration": EXPIRES, "conditions": [["eq", "$key", 1]]},
        {"expiration": EXPIRES, "conditions": [["ends-with", "$key", "x"]]},
        {"expiration": EXPIRES, "conditions": [["content-length-range", 1]]},
        {"expiration": EXPIRES, "conditions": [["content-length-range", -1, 5]]},
        {"expiration": EXPIRES, "conditions": [["content-length-range", 6, 5]]},
        {"expiration": EXPIRES, "conditions": [["content-length-range", "a", 5]]},
        {"expiration": EXPIRES, "conditions": [["content-length-range", True, 5]]},
        {"expiration": EXPIRES, "conditions": [["content-length-range", 0, 2**64]]},
        {"expiration": EXPIRES, "conditions": [["content-length-range", 0.5, 5]]},
        "[" * 5000,
    ],
)
def test_documents_that_are_none(document: object) -> None:
    with pytest.raises(S3Error) as caught:
        read_policy(encoded(document))
    assert (caught.value.code, caught.value.status) == ("InvalidPolicyDocument", 400)


@pytest.mark.parametrize("text", ["not base64!", "YWJj\n", "ä", "{}"])
def test_what_is_not_base64(text: str) -> None:
    with pytest.raises(S3Error) as caught:
        read_policy(text)
    assert caught.value.code == "InvalidPolicyDocument"
