"""Multipart parts by number, on real servers and through the gateway."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from headrace.model.errors import InvalidRange
from headrace.model.objects import ByteRange
from support.node import running_node
from support.s3_stores import s3_store
from support.servers import S3Server

MIB = 1 << 20
PARTS = (os.urandom(5 * MIB), os.urandom(6 * MIB), os.urandom(12345))


def put_parts(server: S3Server, bucket: str, key: str) -> None:
    client = server.client()
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    done = []
    for number, body in enumerate(PARTS, start=1):
        answer = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done})


@pytest.mark.servers
@pytest.mark.parametrize("server", ["seaweedfs_server"])
async def test_the_bytes_of_each_part_are_the_stores_own(server: str, request: pytest.FixtureRequest) -> None:
    running: S3Server = request.getfixturevalue(server)
    running.make_bucket("parts")
    put_parts(running, "parts", "many")
    store = s3_store(running, "parts")
    info = await store.info("many")
    assert info.parts == 3
    start = 0
    for number, body in enumerate(PARTS, start=1):
        assert await store.part(info, number) == ByteRange(start, start + len(body))
        start += len(body)
    with pytest.raises(InvalidRange):
        await store.part(info, 4)
    await store.close()


@pytest.mark.servers
def test_a_part_is_read_by_number_through_the_gateway(seaweedfs_server: S3Server, tmp_path: Path) -> None:
    seaweedfs_server.make_bucket("partsgw")
    put_parts(seaweedfs_server, "partsgw", "many")
    seaweedfs_server.put("partsgw", "single", b"one part")
    environ = {"STORE_ACCESS_KEY_ID": seaweedfs_server.access_key, "STORE_SECRET_ACCESS_KEY": seaweedfs_server.secret_key}
    mount = (
        f'[[mount]]\npath = "/p"\nstore = "s3://partsgw"\nendpoint = "{seaweedfs_server.endpoint}"\ncredentials = "env:STORE"\n'
    )
    with running_node(tmp_path / "node", mount, processes=1, environ=environ) as node:
        s3 = boto3.client(
            "s3", endpoint_url=node.data_url, aws_access_key_id=node.key_id, aws_secret_access_key=node.secret,
            region_name="us-east-1", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )  # fmt: skip
        second = s3.get_object(Bucket="p", Key="many", PartNumber=2)
        assert second["PartsCount"] == 3
        assert second["Body"].read() == PARTS[1]
        assert s3.head_object(Bucket="p", Key="many", PartNumber=3)["ContentLength"] == len(PARTS[2])
        assert s3.get_object(Bucket="p", Key="single", PartNumber=1)["Body"].read() == b"one part"
        with pytest.raises(ClientError, match="InvalidPartNumber"):
            s3.get_object(Bucket="p", Key="many", PartNumber=4)
        s3.close()
