"""S3Buckets: the buckets of an S3 account."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from headrace.model.errors import BucketExists, BucketNotEmpty, InvalidKey, NotFound, Unsupported
from headrace.model.uploads import Bucket
from headrace.stores.account import check_empty
from headrace.stores.buckets import Buckets
from headrace.stores.s3_requests import S3Requests
from headrace.stores.s3_write_xml import holds_versions, location_xml, parse_buckets
from headrace.stores.store import Store

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_MAX_ANSWER_BYTES = 16 << 20
_FIRST_REGION = "us-east-1"


def check_bucket_name(name: str) -> None:
    """Raises `InvalidKey` for a name that S3 does not allow."""
    if not _NAME.fullmatch(name) or _ADDRESS.fullmatch(name):
        message = f"bucket {name!r}: names have 3 to 63 lower-case letters, digits, dots and hyphens and are no address"
        raise InvalidKey(message, path=name)


class S3Buckets(Buckets):
    """The buckets of the account, as the store tells them now. `open_bucket` makes the store of one."""

    def __init__(self, requests: S3Requests, open_bucket: Callable[[str], Store]) -> None:
        self._requests = requests
        self._open_bucket = open_bucket

    async def list(self) -> tuple[Bucket, ...]:
        return parse_buckets(await (await self._requests.send("GET", "")).read(_MAX_ANSWER_BYTES))

    async def create(self, name: str) -> Bucket:
        check_bucket_name(name)
        requests = self._requests.for_bucket(name)
        if await _is_there(requests.send("HEAD", "")):
            raise BucketExists(f"s3 bucket {name!r} is there already", path=name)  # S3's first region says yes once more
        region = self._requests.settings.region
        body = location_xml(region) if region != _FIRST_REGION else b""
        (await requests.send("PUT", "", body=body)).close()
        return Bucket(name, self._requests.clock.time())

    async def delete(self, name: str) -> None:
        check_bucket_name(name)
        await self._check_empty(name)
        requests = self._requests.for_bucket(name)
        requests.forget_bucket()
        (await requests.send("DELETE", "")).close()

    async def _check_empty(self, name: str) -> None:
        """Not every store refuses to remove a bucket that holds something: SeaweedFS removes it with all objects."""
        await check_empty(self._open_bucket(name), name)
        try:
            answer = await self._requests.for_bucket(name).send("GET", "", query=[(b"versions", b""), (b"max-keys", b"1")])
            body = await answer.read(_MAX_ANSWER_BYTES)
        except Unsupported:
            return  # a store without versions
        if holds_versions(body):
            raise BucketNotEmpty(f"s3 bucket {name!r} holds versions of objects", path=name)


async def _is_there(call: Awaitable[object]) -> bool:
    try:
        await call
    except NotFound:
        return False
    return True
