"""Multipart uploads: nothing before they are complete, everything once they are."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from support.gateway import RunningGateway
from support.writing import BUCKET, MIB, refusal

PART = bytes(range(256)) * (5 * MIB // 256)


def begin(s3: Any, key: str, **given: Any) -> dict[str, str]:
    return {"Bucket": BUCKET, "Key": key, "UploadId": s3.create_multipart_upload(Bucket=BUCKET, Key=key, **given)["UploadId"]}


def upload(s3: Any, place: dict[str, str], *bodies: bytes, **given: Any) -> list[dict[str, Any]]:
    done = [s3.upload_part(**place, PartNumber=number, Body=body, **given) for number, body in enumerate(bodies, 1)]
    names = ("ETag", "ChecksumSHA256", "ChecksumCRC64NVME")
    return [{"PartNumber": n, **{name: p[name] for name in names if name in p}} for n, p in enumerate(done, 1)]


def complete(s3: Any, place: dict[str, str], parts: list[dict[str, Any]], **given: Any) -> Any:
    return s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}, **given)


def test_parts_become_one_object(s3: Any) -> None:
    place = begin(s3, "whole", ContentType="text/x", Metadata={"a": "1"}, Tagging="t=1")
    parts = upload(s3, place, PART, b"tail")
    with refusal("NoSuchKey"):
        s3.get_object(Bucket=BUCKET, Key="whole")
    done = complete(s3, place, parts)
    digests = b"".join(hashlib.md5(body, usedforsecurity=False).digest() for body in (PART, b"tail"))
    assert done["ETag"] == f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-2"'
    got = s3.get_object(Bucket=BUCKET, Key="whole")
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (PART + b"tail", "text/x", {"a": "1"})
    assert complete(s3, place, parts)["ETag"] == done["ETag"]
    part = s3.get_object(Bucket=BUCKET, Key="whole", PartNumber=2)
    assert (part["Body"].read(), part["PartsCount"]) == (b"tail", 2)
    with refusal("InvalidPartNumber"):
        s3.get_object(Bucket=BUCKET, Key="whole", PartNumber=3)
    with refusal("416"):
        s3.head_object(Bucket=BUCKET, Key="whole", PartNumber=3)


def test_attributes_tell_the_parts_page_by_page(s3: Any) -> None:
    place = begin(s3, "attributes")
    complete(s3, place, upload(s3, place, PART, PART, b"tail"))

    def ask(**given: int) -> Any:
        return s3.get_object_attributes(Bucket=BUCKET, Key="attributes", ObjectAttributes=["ObjectParts"], **given)["ObjectParts"]

    assert [part["Size"] for part in ask()["Parts"]] == [len(PART), len(PART), 4]
    page = ask(MaxParts=1, PartNumberMarker=1)
    assert [part["PartNumber"] for part in page["Parts"]] == [2]
    assert (page["IsTruncated"], page["NextPartNumberMarker"], page["TotalPartsCount"]) == (True, 2, 3)
    assert not ask(PartNumberMarker=2)["IsTruncated"]


def test_a_part_is_told_with_its_own_checksum(s3: Any) -> None:
    place = begin(s3, "summed", ChecksumAlgorithm="SHA256")
    bodies = (PART, b"tail")
    complete(s3, place, upload(s3, place, *bodies, ChecksumAlgorithm="SHA256"))
    sums = [base64.b64encode(hashlib.sha256(body).digest()).decode() for body in bodies]
    told = s3.get_object_attributes(Bucket=BUCKET, Key="summed", ObjectAttributes=["ObjectParts"])["ObjectParts"]["Parts"]
    assert [(part["PartNumber"], part["Size"], part["ChecksumSHA256"]) for part in told] == [
        (number, len(body), value) for number, (body, value) in enumerate(zip(bodies, sums, strict=True), 1)
    ]
    for ask in (s3.get_object, s3.head_object):
        assert ask(Bucket=BUCKET, Key="summed", PartNumber=2, ChecksumMode="ENABLED")["ChecksumSHA256"] == sums[1]


def test_checksums_of_parts_and_of_the_whole(s3: Any) -> None:
    place = begin(s3, "composite", ChecksumAlgorithm="SHA256")
    parts = upload(s3, place, PART, b"tail", ChecksumAlgorithm="SHA256")
    digests = b"".join(hashlib.sha256(body).digest() for body in (PART, b"tail"))
    expected = base64.b64encode(hashlib.sha256(digests).digest()).decode() + "-2"
    listed = s3.list_parts(**place)
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == ("SHA256", "COMPOSITE")
    assert [part["ChecksumSHA256"] for part in listed["Parts"]] == [part["ChecksumSHA256"] for part in parts]
    for wrong, code in (("AAAA", "InvalidRequest"), ("A" * 43 + "=-2", "BadDigest")):
        with refusal(code):
            complete(s3, place, parts, ChecksumSHA256=wrong)
    done = complete(s3, place, parts, ChecksumSHA256=expected)
    assert (done["ChecksumSHA256"], done["ChecksumType"]) == (expected, "COMPOSITE")
    found = s3.head_object(Bucket=BUCKET, Key="composite", ChecksumMode="ENABLED")
    assert (found["ChecksumSHA256"], found["ChecksumType"]) == (expected, "COMPOSITE")


def test_a_full_object_checksum_is_that_of_a_single_put(s3: Any) -> None:
    whole = s3.put_object(Bucket=BUCKET, Key="single", Body=PART + b"tail", ChecksumAlgorithm="CRC64NVME")["ChecksumCRC64NVME"]
    place = begin(s3, "full", ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT")
    done = complete(s3, place, upload(s3, place, PART, b"tail", ChecksumAlgorithm="CRC64NVME"))
    assert (done["ChecksumCRC64NVME"], done["ChecksumType"]) == (whole, "FULL_OBJECT")


def test_what_cannot_be_completed_stays_as_it_is(s3: Any) -> None:
    place = begin(s3, "refused")
    parts = upload(s3, place, b"small", b"tail")
    with refusal("EntityTooSmall"):
        complete(s3, place, parts)
    with refusal("InvalidPartOrder"):
        complete(s3, place, parts[::-1])
    with refusal("InvalidPart"):
        complete(s3, place, [{"PartNumber": 3, "ETag": '"x"'}])
    with refusal("InvalidPart"):
        complete(s3, place, [{"PartNumber": 1, "ETag": '"0"'}])
    with refusal("MalformedXML"):
        s3.complete_multipart_upload(**place)
    with refusal("InvalidArgument"):
        s3.upload_part(**place, PartNumber=10001, Body=b"x")
    with refusal("InvalidRequest"):
        complete(s3, place, parts[:1], MpuObjectSize=4)
    complete(s3, place, parts[:1], MpuObjectSize=5)
    assert s3.get_object(Bucket=BUCKET, Key="refused")["Body"].read() == b"small"


def test_conditions_hold_when_it_is_completed(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="conditional", Body=b"old")
    place = begin(s3, "conditional")
    parts = upload(s3, place, b"new")
    with refusal("PreconditionFailed", "If-None-Match"):
        complete(s3, place, parts, IfNoneMatch="*")
    with refusal("PreconditionFailed", "If-Match"):
        complete(s3, place, parts, IfMatch='"x"')
    assert s3.get_object(Bucket=BUCKET, Key="conditional")["Body"].read() == b"old"
    complete(s3, place, parts, IfMatch=s3.head_object(Bucket=BUCKET, Key="conditional")["ETag"])


def test_an_upload_that_was_given_up_is_gone(s3: Any) -> None:
    place = begin(s3, "aborted")
    parts = upload(s3, place, b"x")
    s3.abort_multipart_upload(**place)
    for ask in (s3.abort_multipart_upload, s3.list_parts):
        with refusal("NoSuchUpload"):
            ask(**place)
    with refusal("NoSuchUpload"):
        complete(s3, place, parts)
    with refusal("NoSuchUpload"):
        s3.upload_part(**place, PartNumber=1, Body=b"x")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET, Prefix="aborted")


def test_parts_are_copied(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="a%25b", Body=PART)
    place, source = begin(s3, "copied"), {"Bucket": BUCKET, "Key": "a%25b"}
    first = s3.upload_part_copy(**place, PartNumber=1, CopySource=source)["CopyPartResult"]
    second = s3.upload_part_copy(**place, PartNumber=2, CopySource=source, CopySourceRange="bytes=1-3")["CopyPartResult"]
    for wrong in ("0-2", "bytes=0", "bytes=x-y", "bytes=0-1,3-4", "bytes=3-1"):
        with refusal("InvalidArgument"):
            s3.upload_part_copy(**place, PartNumber=3, CopySource=source, CopySourceRange=wrong)
    with refusal("InvalidRange"):
        s3.upload_part_copy(**place, PartNumber=3, CopySource=source, CopySourceRange=f"bytes=0-{len(PART)}")
    complete(s3, place, [{"PartNumber": 1, "ETag": first["ETag"]}, {"PartNumber": 2, "ETag": second["ETag"]}])
    assert s3.get_object(Bucket=BUCKET, Key="copied")["Body"].read() == PART + PART[1:4]


def test_parts_are_listed_page_by_page(s3: Any) -> None:
    place = begin(s3, "listed")
    upload(s3, place, b"1", b"22", b"333")
    first = s3.list_parts(**place, MaxParts=2)
    assert ([part["Size"] for part in first["Parts"]], first["IsTruncated"], first["NextPartNumberMarker"]) == ([1, 2], True, 2)
    second = s3.list_parts(**place, MaxParts=2, PartNumberMarker=2)
    assert ([part["Size"] for part in second["Parts"]], second["IsTruncated"]) == ([3], False)
    s3.abort_multipart_upload(**place)


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_uploads_are_listed_page_by_page(s3: Any, limit: int) -> None:
    places = [begin(s3, key) for key in ("up/a", "up/a", "up/b/1", "up/b/2", "up/c")]
    try:
        pages = list(s3.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET, Prefix="up/", MaxUploads=limit))
        found = [(entry["Key"], entry["UploadId"]) for page in pages for entry in page.get("Uploads", [])]
        assert sorted(found) == sorted((place["Key"], place["UploadId"]) for place in places)
        rolled = s3.list_multipart_uploads(Bucket=BUCKET, Prefix="up/", Delimiter="/")
        assert [entry["Prefix"] for entry in rolled["CommonPrefixes"]] == ["up/b/"]
        assert [entry["Key"] for entry in rolled["Uploads"]] == ["up/a", "up/a", "up/c"]
        behind = s3.list_multipart_uploads(Bucket=BUCKET, Prefix="up/", KeyMarker="up/a")
        assert [entry["Key"] for entry in behind["Uploads"]] == ["up/b/1", "up/b/2", "up/c"]
    finally:
        for place in places:
            s3.abort_multipart_upload(**place)


def test_33_a_document_of_too_many_parts_is_refused(s3: Any, account: RunningGateway) -> None:
    place = begin(s3, "too-many")
    part = "<Part><PartNumber>{}</PartNumber><ETag>x</ETag></Part>"
    document = "<CompleteMultipartUpload>" + "".join(part.format(n) for n in range(1, 10002)) + "</CompleteMultipartUpload>"
    answer = account.ask("POST", f"/{BUCKET}/too-many?uploadId={place['UploadId']}", body=document.encode())
    assert (answer.status, answer.code) == (400, "MalformedXML")
    s3.abort_multipart_upload(**place)
