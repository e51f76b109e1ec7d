"""HDFS passes the suites of stores that are read and written, over WebHDFS and in the NameNode's own protocol."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import uuid
from collections.abc import Iterator, Sequence

import pytest

from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
from headrace.stores.contract import StoreContract
from headrace.stores.contract_changing import ChangingContract
from headrace.stores.contract_writing import ConditionContract, WriteContract
from headrace.stores.registry import open_store
from headrace.stores.store import Store
from support.hdfs import USER, HdfsServer
from support.processes import free_port

pytestmark = [pytest.mark.servers, pytest.mark.slow]  # minutes: every object is made by a redirect and a Java pipeline


def open_hdfs(server: HdfsServer, root: str, *, user: str = USER) -> Store:
    spec = MountSpec("/h", f"webhdfs://{server.web}{root}", credentials="env:H")
    return open_store(spec, environ={"H_USER_NAME": user}, clock=SystemClock())


def beside(keys: Sequence[str]) -> list[str]:
    """Keys that paths of HDFS can be, and none of which is a directory of another that was taken before it."""
    taken: list[str] = []
    for key in keys:
        segments = key.split("/")
        named = all(part not in ("", ".", "..") and ":" not in part and len(part.encode()) <= 255 for part in segments)
        apart = all(not key.startswith(other + "/") and not other.startswith(key + "/") for other in taken)
        if named and apart and 0 < len(key.encode()) <= 1024:
            taken.append(key)
    return taken


class HdfsHooks:
    """HDFS keeps bytes under paths, and nothing with them."""

    knows_content_type = False
    keeps_attributes = False
    keeps_tags = False
    etag_is_md5 = False  # made of modification time, length and inode: HDFS tells no digest of the bytes
    keeps_checksums = False
    scheme = "webhdfs"

    @pytest.fixture(autouse=True)
    def place(self, hdfs_server: HdfsServer) -> Iterator[None]:
        self.server = hdfs_server
        self.root = f"/contract/{uuid.uuid4().hex}"
        hdfs_server.request("PUT", self.root, op="MKDIRS")
        yield
        hdfs_server.delete(self.root)

    async def make_store(self) -> Store:
        return self.opened(self.root)

    def opened(self, root: str, *, user: str = USER) -> Store:
        """The store below a directory, as a user."""
        return open_hdfs(self.server, root, user=user)

    async def put_behind(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(self.server.put, f"{self.root}/{key}", data)

    async def put_all(self, keys: Sequence[str]) -> list[str]:
        if len(keys) < 500:
            return await super().put_all(keys)  # type: ignore[misc, no-any-return]  # a mixin: the hooks come behind it
        for folder in {key.rpartition("/")[0] for key in keys}:
            await asyncio.to_thread(self.server.request, "PUT", f"{self.root}/{folder}", op="MKDIRS")
        await asyncio.to_thread(self.server.touch, [f"{self.root}/{key}" for key in keys])
        return list(keys)

    async def delete_behind(self, key: str) -> None:
        await asyncio.to_thread(self.server.delete, f"{self.root}/{key}")

    async def make_unreachable_store(self) -> Store:
        spec = MountSpec("/h", f"{self.scheme}://127.0.0.1:{free_port()}/x")
        return open_store(spec, environ={"HADOOP_USER_NAME": USER}, clock=SystemClock())

    async def make_denied_store(self) -> Store:
        for path in (self.root, f"{self.root}/a"):
            await asyncio.to_thread(self.server.request, "PUT", path, op="MKDIRS")
        await asyncio.to_thread(self.server.request, "PUT", self.root, op="SETPERMISSION", permission="700")
        return self.opened(self.root, user="stranger")

    def kept(self, keys: Sequence[str]) -> list[str]:
        return beside(keys)

    def written(self, keys: Sequence[str]) -> list[str]:
        return beside(keys)

    async def left_behind(self) -> Sequence[str]:
        def look() -> list[str]:
            found = []
            for folder in ("new", "claims"):
                try:
                    told = self.server.request("GET", f"{self.root}/.headrace/{folder}", op="LISTSTATUS")
                except urllib.error.HTTPError as error:
                    with error:
                        assert error.code == 404
                    continue
                found += [one["pathSuffix"] for one in json.loads(told)["FileStatuses"]["FileStatus"]]
            return found

        return await asyncio.to_thread(look)


class TestHdfs(HdfsHooks, StoreContract):
    """Reading and listing."""


class TestHdfsWrites(HdfsHooks, WriteContract, ConditionContract, ChangingContract):
    """Writing, conditions, removing and copying."""


class RpcHooks(HdfsHooks):
    """The same in the NameNode's own protocol, whose library takes the user from the environment."""

    scheme = "hdfs"

    @pytest.fixture(autouse=True)
    def environment(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            self.patch = patch
            patch.setenv("HADOOP_USER_NAME", USER)
            yield

    def opened(self, root: str, *, user: str = USER) -> Store:
        self.patch.setenv("HADOOP_USER_NAME", user)
        return open_store(MountSpec("/h", f"hdfs://{self.server.rpc}{root}"), environ={}, clock=SystemClock())


class TestHdfsRpc(RpcHooks, StoreContract):
    """Reading and listing."""


class TestHdfsRpcWrites(RpcHooks, WriteContract, ConditionContract, ChangingContract):
    """Writing, conditions, removing and copying."""
