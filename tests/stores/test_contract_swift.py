"""OpenStack Swift over its own API passes the suites of stores that are read and written."""

from __future__ import annotations

import asyncio
import itertools
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping

import pytest

from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
from headrace.model.writing import Condition
from headrace.stores.contract import StoreContract
from headrace.stores.contract_changing import ChangingContract
from headrace.stores.contract_writing import ConditionContract, WriteContract
from headrace.stores.registry import open_store
from headrace.stores.store import Store
from support.processes import free_port
from support.servers import S3Server
from support.swift import ACCESS_KEY, SECRET_KEY, swift

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with swift(tmp_path_factory.mktemp("swift")) as running:
        yield running


class SwiftHooks:
    """Swift knows no tags, and no condition that holds until a write takes effect."""

    keeps_tags = False
    keeps_checksums = False

    @pytest.fixture(autouse=True)
    def place(self, server: S3Server) -> None:
        self.server = server
        self.container = f"contract-{next(_numbers)}"
        asked = urllib.request.Request(
            f"{server.endpoint}/auth/v1.0", headers={"X-Auth-User": ACCESS_KEY, "X-Auth-Key": SECRET_KEY}
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            self.url, self.token = answer.headers["X-Storage-Url"], answer.headers["X-Auth-Token"]
        self.request("PUT", "")

    def request(self, method: str, path: str, data: bytes | None = None) -> None:
        """Behind the store's back."""
        headers = {"X-Auth-Token": self.token, "Content-Type": "text/plain"}
        asked = urllib.request.Request(f"{self.url}/{self.container}{path}", data, headers, method=method)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            answer.read()

    def open(self, *, endpoint: str = "", environ: Mapping[str, str] = {}) -> Store:
        spec = MountSpec("/s", f"swift://{self.container}", endpoint=endpoint or self.server.endpoint, credentials="env:S")
        return open_store(spec, environ={"S_USERNAME": ACCESS_KEY, "S_PASSWORD": SECRET_KEY, **environ}, clock=SystemClock())

    async def make_store(self) -> Store:
        return self.open()

    async def put_behind(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(self.request, "PUT", "/" + urllib.parse.quote(key), data)

    async def delete_behind(self, key: str) -> None:
        await asyncio.to_thread(self.request, "DELETE", "/" + urllib.parse.quote(key))

    async def make_unreachable_store(self) -> Store:
        return self.open(endpoint=f"http://127.0.0.1:{free_port()}")

    async def make_denied_store(self) -> Store:
        return self.open(environ={"S_PASSWORD": "wrong"})

    def takes(self, verb: str, condition: Condition) -> bool:
        return not condition


class TestSwift(SwiftHooks, StoreContract):
    """Reading and listing."""


class TestSwiftWrites(SwiftHooks, WriteContract, ConditionContract, ChangingContract):
    """Writing, conditions, removing and copying."""
