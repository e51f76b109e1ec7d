"""GsBuckets: the buckets of a Google Cloud project."""

from __future__ import annotations

from datetime import datetime

import msgspec

from headrace.model.errors import BucketExists, BucketNotEmpty, Conflict, InvalidKey, Unavailable
from headrace.model.uploads import Bucket
from headrace.stores.buckets import Buckets
from headrace.stores.gs_objects import decoded
from headrace.stores.gs_requests import GsRequests
from headrace.stores.urls import can_be_created, is_bucket_name

_PATH = "/storage/v1/b"
_MAX_PAGES = 1000
_MAX_LIST_BYTES = 16 << 20


class _Bucket(msgspec.Struct, rename="camel"):
    name: str
    time_created: str = ""


class _Page(msgspec.Struct, rename="camel"):
    items: list[_Bucket] = []
    next_page_token: str = ""


class GsBuckets(Buckets):
    """The buckets of the project that `requests` names, as the service tells them now."""

    def __init__(self, requests: GsRequests) -> None:
        self._requests = requests

    async def list(self) -> tuple[Bucket, ...]:
        found: list[Bucket] = []
        query = {"project": self._requests.project, "fields": "nextPageToken,items(name,timeCreated)", "pageToken": ""}
        for _ in range(_MAX_PAGES):
            response = await self._requests.send("GET", _PATH, path=self._requests.project, query=query)
            page = decoded(await response.read(_MAX_LIST_BYTES), _Page, "*")
            found.extend([Bucket(item.name, _seconds(item.time_created)) for item in page.items])
            if not page.next_page_token:
                return tuple(sorted(found, key=lambda bucket: bucket.name.encode()))
            query["pageToken"] = page.next_page_token
        raise Unavailable("gs: the project's list of buckets does not get ahead, try again")

    async def create(self, name: str) -> Bucket:
        if not can_be_created(name):
            message = f"bucket {name!r}: names have 3 to 63 lower-case letters, digits, dots and hyphens and are no address"
            raise InvalidKey(message, path=name)
        query = {"project": self._requests.project}
        try:
            answer = await self._requests.change("POST", _PATH, {"name": name}, path=name, query=query)
        except Conflict as error:
            raise BucketExists(f"gs bucket {name!r} is there already, perhaps in another project", path=name) from error
        return Bucket(name, _seconds(decoded(answer, _Bucket, name).time_created))

    async def delete(self, name: str) -> None:
        if not is_bucket_name(name):
            raise InvalidKey(f"bucket {name!r}: no bucket can be called so", path=name)
        try:
            (await self._requests.send("DELETE", f"{_PATH}/{name}", path=name)).close()
        except Conflict as error:
            message = f"gs bucket {name!r} holds objects, versions of them, or unfinished uploads"
            raise BucketNotEmpty(message, path=name) from error


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
