"""AzContainers: the containers of an Azure storage account."""

from __future__ import annotations

import re
from collections.abc import Callable

from headrace.model.errors import InvalidKey, Unavailable
from headrace.model.uploads import Bucket
from headrace.stores.account import check_empty
from headrace.stores.az_requests import AzRequests
from headrace.stores.az_xml import parse_containers
from headrace.stores.buckets import Buckets
from headrace.stores.store import Store
from headrace.stores.urls import is_bucket_name

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?!-)){1,61}[a-z0-9]")
_MAX_LIST_BYTES = 16 << 20
_MAX_PAGES = 1000


class AzContainers(Buckets):
    """The containers of the account, as the service tells them now. `open_container` makes the store of one."""

    def __init__(self, requests: AzRequests, open_container: Callable[[str], Store]) -> None:
        self._requests = requests
        self._open_container = open_container

    async def list(self) -> tuple[Bucket, ...]:
        found: list[Bucket] = []
        marker = ""
        for _ in range(_MAX_PAGES):
            query = (("comp", "list"), *((("marker", marker),) if marker else ()))
            page = parse_containers(await (await self._requests.send("GET", "", query=query)).read(_MAX_LIST_BYTES))
            found.extend([Bucket(name, changed_s) for name, changed_s in page.names if is_bucket_name(name)])
            marker = page.marker
            if not marker:
                return tuple(sorted(found, key=lambda bucket: bucket.name.encode()))
        raise Unavailable("az: the account's list of containers does not get ahead, try again")

    async def create(self, name: str) -> Bucket:
        if not _NAME.fullmatch(name):
            message = f"container {name!r}: names have 3 to 63 lower-case letters, digits and single hyphens"
            raise InvalidKey(message, path=name)
        (await self._requests.for_container(name).send("PUT", "", query=(("restype", "container"),))).close()
        return Bucket(name, self._requests.clock.time())

    async def delete(self, name: str) -> None:
        if not is_bucket_name(name):
            raise InvalidKey(f"container {name!r}: no container can be called so", path=name)
        # The service removes a container with all that it holds; what is written between this and that goes, too.
        await check_empty(self._open_container(name), name)
        (await self._requests.for_container(name).send("DELETE", "", query=(("restype", "container"),))).close()
