"""s3fs, obstore and the AWS SDK's transfers write through a node and are read at the store, and the other way round."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import obstore
import pytest
import s3fs
from boto3.s3.transfer import TransferConfig
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store

from support.lakes import REGION, Lake, Passage, Side

pytestmark = pytest.mark.servers

MIB = 1 << 20


def filesystem(side: Side) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(
        key=side.key_id, secret=side.secret, client_kwargs={"region_name": REGION}, endpoint_url=side.endpoint,
        skip_instance_cache=True, use_listings_cache=False,
    )  # fmt: skip


def object_store(side: Side, bucket: str) -> S3Store:
    return S3Store(
        bucket, endpoint=side.endpoint, access_key_id=side.key_id, secret_access_key=side.secret, region=REGION,
        virtual_hosted_style_request=False, client_options={"allow_http": True}, retry_config={"max_retries": 0},
    )  # fmt: skip


def test_s3fs(passage: Passage, prefix: str) -> None:
    writer, reader, root = filesystem(passage.writer), filesystem(passage.reader), f"{passage.bucket}/{prefix}"
    large = os.urandom(11 * MIB)
    writer.pipe({f"{root}/a b/ü": b"one", f"{root}/empty": b"", f"{root}/gone": b"x"})
    with writer.open(f"{root}/large", "wb", block_size=5 * MIB) as file:
        file.write(large)
    with writer.open(f"{root}/grows", "wb") as file:
        file.write(large[: 6 * MIB])
    with writer.open(f"{root}/grows", "ab") as file:
        file.write(b"more")
    writer.cp_file(f"{root}/large", f"{root}/copied")
    writer.mv(f"{root}/a b/ü", f"{root}/moved")
    writer.rm(f"{root}/gone")
    writer.setxattr(f"{root}/moved", colour="blue")
    expected = {
        "moved": b"one", "empty": b"", "large": large, "grows": large[: 6 * MIB] + b"more", "copied": large,
    }  # fmt: skip
    assert passage.found(prefix) == expected
    names = reader.find(root)
    assert names == sorted(f"{root}/{name}" for name in expected)
    assert reader.cat(names) == {f"{root}/{name}": body for name, body in expected.items()}
    assert reader.metadata(f"{root}/moved") == {"colour": "blue"}
    with reader.open(f"{root}/large", block_size=MIB) as file:
        file.seek(10 * MIB)
        assert file.read() == large[10 * MIB :]
    with writer.open(f"{root}/new", "xb") as file:
        file.write(b"first")
    with pytest.raises(OSError, match="pre-conditions"), writer.open(f"{root}/new", "xb") as file:
        file.write(b"second")
    writer.rm(root, recursive=True)
    assert passage.found(prefix) == {}


def test_obstore(passage: Passage, prefix: str) -> None:
    writer, reader = (object_store(side, passage.bucket) for side in (passage.writer, passage.reader))
    large = os.urandom(11 * MIB)
    first = obstore.put(writer, f"{prefix}/once", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(writer, f"{prefix}/once", b"2", mode="create")
    second = obstore.put(writer, f"{prefix}/once", b"2", mode={"e_tag": first["e_tag"]})
    with pytest.raises(PreconditionError):
        obstore.put(writer, f"{prefix}/once", b"3", mode={"e_tag": first["e_tag"]})
    assert second["e_tag"] != first["e_tag"]
    obstore.put(writer, f"{prefix}/large", io.BytesIO(large), chunk_size=5 * MIB, max_concurrency=3)
    obstore.copy(writer, f"{prefix}/large", f"{prefix}/copied")
    obstore.put(writer, f"{prefix}/gone", b"x")
    obstore.delete(writer, [f"{prefix}/gone"])
    assert passage.found(prefix) == {"once": b"2", "large": large, "copied": large}
    assert sorted(entry["path"] for page in obstore.list(reader, prefix) for entry in page) == [
        f"{prefix}/copied", f"{prefix}/large", f"{prefix}/once",
    ]  # fmt: skip
    ranges = obstore.get_ranges(reader, f"{prefix}/large", starts=[0, 9 * MIB], lengths=[10, 20])
    assert [bytes(found) for found in ranges] == [large[:10], large[9 * MIB : 9 * MIB + 20]]


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC64NVME", "SHA256"])
def test_transfers_of_the_aws_sdk(passage: Passage, prefix: str, algorithm: str) -> None:
    writer, reader = passage.writer.client(), passage.reader.client()
    large = os.urandom(11 * MIB)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    extra: dict[str, Any] = {"Metadata": {"who": "me"}, "ContentType": "text/x", "ChecksumAlgorithm": algorithm}
    for name, body in (("large", large), ("small", b"small"), ("empty", b"")):
        writer.upload_fileobj(io.BytesIO(body), passage.bucket, f"{prefix}/{name}", ExtraArgs=extra, Config=config)
    place = {"Bucket": passage.bucket, "Key": f"{prefix}/large"}
    writer.copy(place, passage.bucket, f"{prefix}/copied", Config=config)
    assert passage.found(prefix) == {"large": large, "small": b"small", "empty": b"", "copied": large}
    into = io.BytesIO()
    reader.download_fileobj(passage.bucket, f"{prefix}/large", into, Config=config)
    assert into.getvalue() == large
    head = reader.head_object(**place)
    assert (head["Metadata"], head["ContentType"], head["ContentLength"]) == ({"who": "me"}, "text/x", len(large))
    writer.close()
    reader.close()


def test_one_of_many_writers_creates(lake: Lake, prefix: str) -> None:
    """Through the node and at the store at once: exactly one `If-None-Match: *` may win."""
    clients = [side.client() for side in (lake.gate, lake.store) * 4]

    def create(number: int) -> bool:
        try:
            clients[number].put_object(Bucket=lake.bucket, Key=f"{prefix}/one", Body=b"%d" % number, IfNoneMatch="*")
        except clients[number].exceptions.ClientError as error:
            assert error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict")
            return False
        return True

    with ThreadPoolExecutor(len(clients)) as pool:
        won = [number for number, done in enumerate(pool.map(create, range(len(clients)))) if done]
    assert len(won) == 1
    assert lake.passage().found(prefix) == {"one": b"%d" % won[0]}
    for client in clients:
        client.close()
