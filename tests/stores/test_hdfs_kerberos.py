"""A cluster that asks for Kerberos is read and written with a key table, by a user of its own; without one it is denied."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hdfs_native import Client

from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied
from headrace.model.mounts import MountSpec
from headrace.model.objects import ObjectInfo
from headrace.model.writing import BytesBody, Condition
from headrace.stores.contract_hooks import read_all
from headrace.stores.registry import open_store
from headrace.stores.store import Store
from support.hdfs import hdfs
from support.kerberos import REALM, Kdc, kdc, secured_by
from support.processes import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@dataclass(frozen=True)
class Secured:
    rpc: str
    user_keys: Path

    def as_user(self) -> Store:
        return self.opened({"H_PRINCIPAL": f"analyst@{REALM}", "H_KEYTAB": str(self.user_keys)}, "env:H")

    def opened(self, environ: dict[str, str], credentials: str) -> Store:
        spec = MountSpec("/h", f"hdfs://{self.rpc}/open", credentials=credentials, timeout="10s")
        return open_store(spec, environ=environ, clock=SystemClock())


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    with kdc(tmp_path_factory.mktemp("kerberos") / "kdc") as running:
        yield running


@pytest.fixture(scope="module")
def cluster(centre: Kdc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    security = secured_by(centre)
    own_keys = centre.folder / "hdfs-localhost.keytab"
    with hdfs(folder, security=security) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {**centre.environ, "HADOOP_CONF_DIR": str(folder / "conf")}.items():
            patch.setenv(name, value)
        superuser = Client(f"hdfs://{server.rpc}", kerberos_principal=f"hdfs/localhost@{REALM}", kerberos_keytab=str(own_keys))

        def opened_to_all() -> bool:
            try:
                superuser.mkdirs("/open", 0o777)
                superuser.set_permission("/open", 0o777)
                superuser.delete("/open/ready")  # what an attempt before there was a DataNode has left
                with superuser.create("/open/ready") as writer:
                    writer.write(b"x")
                return superuser.delete("/open/ready")
            except (OSError, RuntimeError):
                return False

        wait_until(opened_to_all, f"HDFS with Kerberos; see {server.namenode.log} and {server.datanode.log}")
        yield Secured(server.rpc, centre.key_table("analyst"))


async def test_a_key_table_reads_and_writes_as_its_user(cluster: Secured) -> None:
    store = cluster.as_user()
    made = await store.write("a/b", BytesBody(b"12345" * 100_000))
    assert await read_all(store, "a/b") == b"12345" * 100_000
    await store.write("a/b", BytesBody(b"new"), condition=Condition(if_match=made.etag))
    listed = await store.list()
    assert [(entry.key, entry.size) for entry in listed.entries if isinstance(entry, ObjectInfo)] == [("a/b", 3)]
    user = Client(f"hdfs://{cluster.rpc}", kerberos_principal=f"analyst@{REALM}", kerberos_keytab=str(cluster.user_keys))
    assert (await asyncio.to_thread(user.get_file_info, "/open/a/b")).owner == "analyst"
    await store.delete("a/b")
    await store.close()


async def test_without_a_ticket_it_is_denied_never_absent(cluster: Secured) -> None:
    store = cluster.opened({}, "")
    for verb in (store.info, store.read, store.list):
        with pytest.raises(AccessDenied, match="Kerberos"):
            await verb("a")
    await store.close()


async def test_keys_that_the_centre_does_not_know_are_denied(cluster: Secured, centre: Kdc) -> None:
    keys = centre.key_table("gone")
    centre.run("kadmin.local", "-q", f"delprinc -force gone@{REALM}")
    store = cluster.opened({"H_PRINCIPAL": f"gone@{REALM}", "H_KEYTAB": str(keys)}, "env:H")
    with pytest.raises(AccessDenied, match="Kerberos"):
        await store.info("a")
    await store.close()
