"""What HDFS does besides the contract: URLs, users, redirects, highly available pairs, NameNodes that are away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied, CorruptData, SettingsError, Unavailable
from headrace.model.mounts import MountSpec
from headrace.model.writing import BytesBody
from headrace.stores.contract_hooks import read_all
from headrace.stores.registry import open_store
from headrace.stores.store import Store
from support.hdfs import USER, HdfsServer
from support.processes import free_port

STANDBY = b'{"RemoteException":{"exception":"StandbyException","javaClassName":"x","message":"Operation category READ"}}'
FOUND = (
    b'{"FileStatus":{"length":3,"modificationTime":1000,"fileId":7,"pathSuffix":"","type":"FILE","childrenNum":0,"owner":"o"}}'
)


def opened(url: str, environ: Mapping[str, str] | None = None, **options: str) -> Store:
    spec = MountSpec("/h", url, **options)  # type: ignore[arg-type]
    return open_store(spec, environ={"HADOOP_USER_NAME": USER} if environ is None else environ, clock=SystemClock())


class Scripted:
    """An HTTP server that answers each request with the next of `answers`, and remembers what was asked."""

    def __init__(self, *answers: tuple[int, Mapping[str, str], bytes]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __aenter__(self) -> Scripted:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.at = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n")[0].decode())
        status, headers, body = self.answers.pop(0)
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        writer.close()


@pytest.mark.parametrize(
    "url",
    [
        "webhdfs://", "webhdfs:///x", "webhdfs://u:p@nn/x", "webhdfs://nn/x?op=DELETE", "webhdfs://nn/../x", "webhdfs://nn//x",
        "webhdfs://nn:1:2/x", "webhdfs://nn,/x", "webhdfs://169.254.169.254/x", "webhdfs://nn,metadata.google.internal/x",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        opened(url)


@pytest.mark.parametrize(
    ("credentials", "environ", "sent"),
    [
        ("", {"HADOOP_USER_NAME": "me&op=DELETE"}, "user.name=me%26op%3DDELETE"),
        ("env:C", {"C_USER_NAME": "them"}, "user.name=them"),
        ("env:C", {"C_USER_NAME": "them", "C_DELEGATION_TOKEN": "abc/+"}, "delegation=abc%2F%2B"),
    ],
)
async def test_who_asks_is_said_by_reference(credentials: str, environ: dict[str, str], sent: str) -> None:
    async with Scripted((200, {}, FOUND)) as namenode:
        store = opened(f"webhdfs://{namenode.at}/x", environ, credentials=credentials)
        info = await store.info("a b")
        await store.close()
    assert (info.size, info.version.token) == (3, "stat:1000000000-3-7")
    assert namenode.asked == [f"GET /webhdfs/v1/x/a%20b?op=GETFILESTATUS&{sent} HTTP/1.1"]


@pytest.mark.parametrize("credentials", ["env:NOBODY", "hunter2", "file:/x"])
def test_without_a_user_it_is_said_what_to_set(credentials: str) -> None:
    with pytest.raises(SettingsError) as refused:
        opened("webhdfs://nn/x", {}, credentials=credentials)
    assert "_DELEGATION_TOKEN" in str(refused.value)
    assert "hunter2" not in str(refused.value)


async def test_the_active_namenode_is_found_and_kept() -> None:
    async with Scripted((403, {}, STANDBY)) as standby, Scripted((200, {}, FOUND), (200, {}, FOUND)) as active:
        store = opened(f"webhdfs://127.0.0.1:{free_port()},{standby.at},{active.at}/x")
        await store.info("a")
        await store.info("a")
        await store.close()
    assert (len(standby.asked), len(active.asked)) == (1, 2)


async def test_a_pair_without_an_active_one_is_unavailable() -> None:
    async with Scripted((403, {}, STANDBY)) as one, Scripted((403, {}, STANDBY)) as two:
        store = opened(f"webhdfs://{one.at},{two.at}/x")
        with pytest.raises(Unavailable, match="StandbyException"):
            await store.info("a")
        await store.close()


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://169.254.169.254/webhdfs/v1/x?op=OPEN", AccessDenied),
        ("http://metadata.google.internal/webhdfs/v1/x?op=OPEN", AccessDenied),
        ("http://0xa9fea9fe/webhdfs/v1/x?op=OPEN", AccessDenied),
        ("file:///etc/passwd", CorruptData),
        ("http://127.0.0.1:1/latest/meta-data", CorruptData),
        ("http://u:p@127.0.0.1:1/webhdfs/v1/x", CorruptData),
        ("", CorruptData),
    ],
)
async def test_a_redirect_leads_to_datanodes_alone(location: str, error: type[Exception]) -> None:
    async with Scripted((200, {}, FOUND), (307, {"location": location} if location else {}, b"")) as namenode:
        store = opened(f"webhdfs://{namenode.at}/x")
        with pytest.raises(error):
            await read_all(store, "a")
        await store.close()


async def test_a_datanode_gets_the_query_that_the_namenode_wrote_and_our_own_path() -> None:
    async with Scripted((200, {}, b"abc")) as datanode:
        place = {"location": f"http://{datanode.at}/webhdfs/v1/somewhere/else?op=OPEN&offset=0&length=3"}
        async with Scripted((200, {}, FOUND), (307, place, b""), (200, {}, FOUND)) as namenode:
            store = opened(f"webhdfs://{namenode.at}/x")
            assert await read_all(store, "a") == b"abc"
            await store.close()
    assert datanode.asked == ["GET /webhdfs/v1/.reserved/.inodes/7?op=OPEN&offset=0&length=3 HTTP/1.1"]


@pytest.mark.parametrize("body", [b"ab", b"abcd"])
async def test_a_body_of_another_length_is_never_taken_for_the_object(body: bytes) -> None:
    async with Scripted((200, {}, body)) as datanode:
        place = {"location": f"http://{datanode.at}/webhdfs/v1/x?op=OPEN"}
        async with Scripted((200, {}, FOUND), (307, place, b""), (200, {}, FOUND)) as namenode:
            store = opened(f"webhdfs://{namenode.at}/x")
            with pytest.raises((Unavailable, CorruptData)):
                await read_all(store, "a")
            await store.close()


async def test_a_web_server_that_is_no_namenode_never_makes_an_object_absent() -> None:
    async with Scripted((404, {}, b"<html>"), (200, {}, b"<html>")) as other:
        store = opened(f"webhdfs://{other.at}/x")
        with pytest.raises(Unavailable, match="is WebHDFS served there"):
            await store.info("a")
        with pytest.raises(CorruptData):
            await store.info("a")
        await store.close()


async def test_a_namenode_that_is_away_is_reported_in_seconds() -> None:
    store = opened(f"webhdfs://127.0.0.1:{free_port()}/x")
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="connection refused"):
        await store.info("a")
    assert time.monotonic() - begun < 5
    await store.close()


@pytest.mark.servers
async def test_an_append_by_another_program_is_a_new_version_and_seen(hdfs_server: HdfsServer) -> None:
    store = opened(f"webhdfs://{hdfs_server.web}/appended")
    before = await store.write("log", BytesBody(b"one "))
    await asyncio.to_thread(hdfs_server.request, "POST", "/appended/log", b"two", op="APPEND")
    assert await read_all(store, "log") == b"one two"
    assert (await store.info("log")).version != before.version
    await store.close()


@pytest.mark.servers
async def test_what_is_written_belongs_to_the_user_and_is_a_plain_file(hdfs_server: HdfsServer) -> None:
    store = opened(f"webhdfs://{hdfs_server.web}/plain")
    await store.write("d/a.csv", BytesBody(b"1,2"))
    assert await asyncio.to_thread(hdfs_server.request, "GET", "/plain/d/a.csv", op="OPEN") == b"1,2"
    assert b'"owner":"root"' in await asyncio.to_thread(hdfs_server.request, "GET", "/plain/d/a.csv", op="GETFILESTATUS")
    await store.delete("d/a.csv")
    assert b'"pathSuffix":"d"' not in await asyncio.to_thread(hdfs_server.request, "GET", "/plain", op="LISTSTATUS")
    await store.close()
