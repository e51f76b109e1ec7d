"""S3AccountStore: all buckets of an S3 account as one store."""

from __future__ import annotations

from collections.abc import Callable

from headrace.model.errors import Unsupported
from headrace.model.uploads import Bucket
from headrace.stores.account import AccountStore
from headrace.stores.buckets import Buckets
from headrace.stores.s3_requests import S3Requests
from headrace.stores.s3_xml import parse_buckets
from headrace.stores.store import Store

_MAX_ANSWER_BYTES = 16 << 20


class S3Buckets(Buckets):
    """The buckets of the account, as the store tells them now."""

    def __init__(self, requests: S3Requests) -> None:
        self._requests = requests

    async def list(self) -> tuple[Bucket, ...]:
        response = await self._requests.send("GET", "")
        names = parse_buckets(await response.read(_MAX_ANSWER_BYTES))
        return tuple([Bucket(name) for name in sorted(names, key=str.encode)])

    async def create(self, name: str) -> Bucket:
        raise Unsupported(f"bucket {name!r}: no buckets are made in this kind of account", path=name)

    async def delete(self, name: str) -> None:
        raise Unsupported(f"bucket {name!r}: no buckets are removed from this kind of account", path=name)


class S3AccountStore(AccountStore):
    """An account over per-bucket stores that share its connections."""

    def __init__(self, requests: S3Requests, open_bucket: Callable[[str], Store]) -> None:
        super().__init__(S3Buckets(requests), open_bucket)
        self._requests = requests

    async def close(self) -> None:
        await self._requests.close()
