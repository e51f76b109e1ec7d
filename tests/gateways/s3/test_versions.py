"""ListObjectVersions shows each object once, as the null version."""

from __future__ import annotations

from typing import Any

import pytest

from support.writing import BUCKET, refusal

KEYS = sorted(["v/a", "v/a//b", "v/d/1", "v/d/2", "v/é", "v/ "], key=str.encode)


@pytest.fixture(scope="module", autouse=True)
def objects(s3: Any) -> None:
    for key in KEYS:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_every_key_once(s3: Any, limit: int) -> None:
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET, Prefix="v/", PaginationConfig={"PageSize": limit})
    found = [(v["Key"], v["VersionId"], v["IsLatest"], v["Size"]) for page in pages for v in page.get("Versions", [])]
    assert found == [(key, "null", True, 1) for key in KEYS]


def test_prefixes_are_rolled_up(s3: Any) -> None:
    found = s3.list_object_versions(Bucket=BUCKET, Prefix="v/", Delimiter="/")
    assert [entry["Prefix"] for entry in found["CommonPrefixes"]] == ["v/a/", "v/d/"]
    assert [entry["Key"] for entry in found["Versions"]] == ["v/ ", "v/a", "v/é"]


def test_markers(s3: Any) -> None:
    found = s3.list_object_versions(Bucket=BUCKET, Prefix="v/", KeyMarker="v/a", VersionIdMarker="null")
    assert [entry["Key"] for entry in found["Versions"]] == KEYS[KEYS.index("v/a") + 1 :]
    with refusal("InvalidArgument"):
        s3.list_object_versions(Bucket=BUCKET, VersionIdMarker="null")
    with refusal("NoSuchBucket"):
        s3.list_object_versions(Bucket="no-such-bucket")
