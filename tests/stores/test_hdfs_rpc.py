"""HDFS in its own protocol besides the contract: URLs, credentials, clusters of several NameNodes, long directories."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import SettingsError, Unavailable
from headrace.model.mounts import MountSpec
from headrace.model.writing import BytesBody
from headrace.stores.contract_hooks import read_all
from headrace.stores.registry import open_store
from headrace.stores.store import Store
from support.hdfs import USER, HdfsServer
from support.processes import free_port


def opened(url: str, environ: dict[str, str] | None = None, **options: str) -> Store:
    spec = MountSpec("/h", url, **options)  # type: ignore[arg-type]
    return open_store(spec, environ=environ or {}, clock=SystemClock())


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOOP_USER_NAME", USER)


@pytest.mark.parametrize(
    "url",
    ["hdfs://", "hdfs:///x", "hdfs://u@nn/x", "hdfs://nn/../x", "hdfs://nn,/x", "hdfs://169.254.169.254/x", "hdfs://nn/x?a=b"],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        opened(url)


def test_credentials_that_are_not_there_are_named() -> None:
    with pytest.raises(SettingsError, match="PREFIX_PRINCIPAL"):
        opened("hdfs://nn/x", credentials="env:H")
    with pytest.raises(SettingsError, match="H_KEYTAB: /nowhere/keytab is no file"):
        opened("hdfs://nn/x", {"H_PRINCIPAL": "me@EXAMPLE.COM", "H_KEYTAB": "/nowhere/keytab"}, credentials="env:H")


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdfs_native", None)
    with pytest.raises(SettingsError, match=r"pip install 'headrace\[hdfs\]'"):
        opened("hdfs://nn/x")


async def test_a_namenode_that_is_away_is_reported_in_seconds() -> None:
    store = opened(f"hdfs://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/x")
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match="Connection refused"):
            await store.info("a")
    await store.close()


async def test_a_namenode_that_says_nothing_is_reported_within_the_timeout() -> None:
    silent = await asyncio.start_server(lambda _reader, writer: hold(writer), "127.0.0.1", 0)
    held: list[asyncio.StreamWriter] = []

    def hold(writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    store = opened(f"hdfs://127.0.0.1:{silent.sockets[0].getsockname()[1]}/x", timeout="1s")
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable):
            await store.info("a")
    assert held, "nobody asked"
    for writer in held:
        writer.close()
    silent.close()
    await store.close()


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.usefixtures("as_user")
async def test_the_namenode_that_lives_is_found(hdfs_server: HdfsServer) -> None:
    store = opened(f"hdfs://127.0.0.1:{free_port()},{hdfs_server.rpc}/several")
    await store.write("a", BytesBody(b"12"))
    assert await read_all(store, "a") == b"12"
    await store.delete("a")
    await store.close()


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.usefixtures("as_user")
async def test_a_cluster_is_found_by_its_name(hdfs_server: HdfsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "dfs.nameservices": "prod",
        "dfs.ha.namenodes.prod": "one,two",
        "dfs.namenode.rpc-address.prod.one": f"127.0.0.1:{free_port()}",
        "dfs.namenode.rpc-address.prod.two": hdfs_server.rpc,
    }
    lines = "".join(f"<property><name>{name}</name><value>{value}</value></property>" for name, value in said.items())
    (tmp_path / "hdfs-site.xml").write_text(f"<configuration>{lines}</configuration>")
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    store = opened("hdfs://prod/named")
    await store.write("a", BytesBody(b"12"))
    assert await read_all(store, "a") == b"12"
    await store.delete("a")
    await store.close()


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.usefixtures("as_user")
async def test_a_long_directory_is_read_in_pieces_and_from_any_place(
    hdfs_server: HdfsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.stores.hdfs_rpc._PAGE_NAMES", 3)
    store = opened(f"hdfs://{hdfs_server.rpc}/long")
    names = [f"n{number:02}" for number in range(10)]
    for name in names:
        await store.write(name, BytesBody(b"x"))
    for after in ("", "n01", "n04x", "n09"):
        page = await store.list(after=after)
        assert [entry.key for entry in page.entries] == [name for name in names if name > after]
    await store.close()
