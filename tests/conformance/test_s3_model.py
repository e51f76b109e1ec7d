"""Random writes and reads through the S3 API, held against a model of a few lines, over every store that is all our own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.writing import BUCKET, KINDS, account_gateway, s3_client

KEYS = ("a", "a/b", "a//b", "dir/", "é", "../x", "z")
STEPS = 400


class Model:
    """What a bucket holds: bytes and metadata by key."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}

    def etag(self, key: str) -> str:
        return f'"{hashlib.md5(self.objects[key][0], usedforsecurity=False).hexdigest()}"'


class Player:
    """One seeded run: each step asks the gateway and the model the same."""

    def __init__(self, client: Any, seed: int) -> None:
        self._s3 = client
        self._random = random.Random(seed)
        self._model = Model()
        self._written = 0

    def play(self) -> None:
        steps: list[Callable[[], None]] = [
            self._put, self._put, self._put_if_absent, self._put_if_match, self._copy, self._replace_metadata, self._delete,
            self._delete_many, self._multipart, self._abort, self._get, self._get, self._list,
        ]  # fmt: skip
        for _ in range(STEPS):
            self._random.choice(steps)()
        self._list()

    def _key(self) -> str:
        return self._random.choice(KEYS)

    def _bytes(self) -> bytes:
        self._written += 1
        return f"{self._written}:".encode() + self._random.randbytes(self._random.choice((0, 1, 100, 70_000)))

    def _refused(self, code: str, call: Callable[..., Any], **arguments: Any) -> None:
        with pytest.raises(ClientError) as caught:
            call(Bucket=BUCKET, **arguments)
        assert caught.value.response["Error"]["Code"] == code

    def _put(self) -> None:
        key, body, metadata = self._key(), self._bytes(), {"n": str(self._written)}
        answer = self._s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata)
        self._model.objects[key] = (body, metadata)
        assert answer["ETag"] == self._model.etag(key)

    def _put_if_absent(self) -> None:
        key, body = self._key(), self._bytes()
        if key in self._model.objects:
            self._refused("PreconditionFailed", self._s3.put_object, Key=key, Body=body, IfNoneMatch="*")
        else:
            self._s3.put_object(Bucket=BUCKET, Key=key, Body=body, IfNoneMatch="*")
            self._model.objects[key] = (body, {})

    def _put_if_match(self) -> None:
        key, body = self._key(), self._bytes()
        if key not in self._model.objects:
            self._refused("NoSuchKey", self._s3.put_object, Key=key, Body=body, IfMatch="*")
        elif self._random.random() < 0.5:
            self._refused("PreconditionFailed", self._s3.put_object, Key=key, Body=body, IfMatch='"0"')
        else:
            self._s3.put_object(Bucket=BUCKET, Key=key, Body=body, IfMatch=self._model.etag(key))
            self._model.objects[key] = (body, {})

    def _copy(self) -> None:
        source, key = self._key(), self._key()
        place = {"Bucket": BUCKET, "Key": source}
        if source == key:
            code = "InvalidRequest" if source in self._model.objects else "NoSuchKey"
            self._refused(code, self._s3.copy_object, Key=key, CopySource=place)
        elif source not in self._model.objects:
            self._refused("NoSuchKey", self._s3.copy_object, Key=key, CopySource=place)
        else:
            self._s3.copy_object(Bucket=BUCKET, Key=key, CopySource=place)
            self._model.objects[key] = self._model.objects[source]

    def _replace_metadata(self) -> None:
        key, metadata = self._key(), {"replaced": str(self._written)}
        if key in self._model.objects:
            place = {"Bucket": BUCKET, "Key": key}
            self._s3.copy_object(**place, CopySource=place, MetadataDirective="REPLACE", Metadata=metadata)
            self._model.objects[key] = (self._model.objects[key][0], metadata)

    def _delete(self) -> None:
        key = self._key()
        self._s3.delete_object(Bucket=BUCKET, Key=key)
        self._model.objects.pop(key, None)

    def _delete_many(self) -> None:
        keys = self._random.sample(KEYS, 3)
        done = self._s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]})
        assert [entry["Key"] for entry in done["Deleted"]] == keys
        for key in keys:
            self._model.objects.pop(key, None)

    def _begin(self) -> tuple[str, bytes, dict[str, Any], str]:
        key, body = self._key(), self._bytes()
        place = {"Bucket": BUCKET, "Key": key, "UploadId": self._s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]}
        return key, body, place, self._s3.upload_part(**place, PartNumber=1, Body=body)["ETag"]

    def _multipart(self) -> None:
        key, body, place, etag = self._begin()
        self._get()
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        done = self._s3.complete_multipart_upload(**place, MultipartUpload=parts)
        assert done["ETag"].endswith('-1"')
        # Written once more in one piece, so that the model knows the entity tag.
        self._s3.put_object(Bucket=BUCKET, Key=key, Body=self._s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        self._model.objects[key] = (body, {})

    def _abort(self) -> None:
        self._s3.abort_multipart_upload(**self._begin()[2])

    def _get(self) -> None:
        key = self._key()
        if key not in self._model.objects:
            self._refused("NoSuchKey", self._s3.get_object, Key=key)
            return
        got = self._s3.get_object(Bucket=BUCKET, Key=key)
        assert (got["Body"].read(), got["Metadata"]) == self._model.objects[key]
        assert got["ETag"] == self._model.etag(key)

    def _list(self) -> None:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 2})
        found = [(entry["Key"], entry["Size"]) for page in pages for entry in page.get("Contents", [])]
        expected = [(key, len(self._model.objects[key][0])) for key in sorted(self._model.objects, key=str.encode)]
        assert found == expected


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_random_operations_agree_with_the_model(kind: str, seed: int) -> None:
    with account_gateway(kind) as running:
        client = s3_client(running)
        Player(client, seed).play()
        client.close()
