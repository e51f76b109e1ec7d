"""Tags of objects, put and taken away by documents."""

from __future__ import annotations

from typing import Any

import pytest

from support.gateway import RunningGateway
from support.writing import BUCKET, refusal


def tagging(**tags: str) -> dict[str, Any]:
    return {"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]}


def test_tags_are_put_read_and_taken_away(s3: Any) -> None:
    etag = s3.put_object(Bucket=BUCKET, Key="tagged", Body=b"x", Tagging="old=1")["ETag"]
    s3.put_object_tagging(Bucket=BUCKET, Key="tagged", Tagging=tagging(b="2 & <3>", a=""))
    assert s3.get_object_tagging(Bucket=BUCKET, Key="tagged")["TagSet"] == [
        {"Key": "a", "Value": ""},
        {"Key": "b", "Value": "2 & <3>"},
    ]
    told = s3.head_object(Bucket=BUCKET, Key="tagged")
    assert (told["ETag"], told["TagCount"]) == (etag, 2)
    s3.delete_object_tagging(Bucket=BUCKET, Key="tagged")
    assert "TagCount" not in s3.get_object(Bucket=BUCKET, Key="tagged")
    assert s3.get_object_tagging(Bucket=BUCKET, Key="tagged")["TagSet"] == []


def test_limits_are_those_of_s3(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="limits", Body=b"x")
    for tags in ({"k" * 129: "v"}, {"k": "v" * 257}, {"aws:k": "v"}):
        with refusal("InvalidTag"):
            s3.put_object_tagging(Bucket=BUCKET, Key="limits", Tagging=tagging(**tags))
    with refusal("BadRequest"):
        s3.put_object_tagging(Bucket=BUCKET, Key="limits", Tagging=tagging(**{f"k{n}": "v" for n in range(11)}))
    with refusal("InvalidTag"):
        twice = {"TagSet": [{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}]}
        s3.put_object_tagging(Bucket=BUCKET, Key="limits", Tagging=twice)
    assert s3.get_object_tagging(Bucket=BUCKET, Key="limits")["TagSet"] == []


def test_what_is_not_there_has_no_tags(s3: Any) -> None:
    for bucket, code in ((BUCKET, "NoSuchKey"), ("no-such-bucket", "NoSuchBucket")):
        with refusal(code):
            s3.put_object_tagging(Bucket=bucket, Key="no", Tagging=tagging(a="1"))


@pytest.mark.parametrize(
    "document",
    [b"", b"<Tagging/>x", b"<Tagging><Tag><Key>a</Key><Value>1</Value></Tag></Tagging>",
     b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>", b"<Tagging><TagSet/><TagSet/></Tagging>"],
)  # fmt: skip
def test_documents_are_read_strictly(s3: Any, account: RunningGateway, document: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key="strict", Body=b"x")
    answer = account.ask("PUT", f"/{BUCKET}/strict?tagging", body=document)
    assert (answer.status, answer.code) == (400, "MalformedXML")
