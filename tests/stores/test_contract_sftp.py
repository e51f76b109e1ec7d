"""SFTP against a real OpenSSH server passes the suites of stores that are read and written."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

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
from support.sshd import SshServer, make_key, sshd

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


class LaterClock(SystemClock):
    """For which every change lies an hour back: waiting until a second is over is tested in `test_sftp.py`."""

    @staticmethod
    def time() -> float:  # type: ignore[override]  # a plain function there
        return time.time() + 3600


def open_sftp(url: str, environ: Mapping[str, str]) -> Store:
    return open_store(MountSpec("/f", url, credentials="env:F"), environ=environ, clock=LaterClock())


class SftpHooks:
    """SFTP keeps bytes under paths, and nothing with them."""

    knows_content_type = False
    keeps_attributes = False
    keeps_tags = False
    etag_is_md5 = False  # made of time and length
    keeps_checksums = False

    @pytest.fixture(autouse=True)
    def place(self, server: SshServer, tmp_path: Path) -> Iterator[None]:
        self.server = server
        self.root = tmp_path / uuid.uuid4().hex
        self.root.mkdir()
        yield
        shutil.rmtree(self.root)

    async def make_store(self) -> Store:
        return open_sftp(self.server.url(self.root), self.server.environ)

    async def put_behind(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        stamp = path.stat().st_mtime + 1 if path.exists() else int(time.time()) - 60
        aside = self.root.with_suffix(".aside")
        aside.write_bytes(data)
        os.utime(aside, (stamp, stamp))
        aside.rename(path)

    async def delete_behind(self, key: str) -> None:
        (self.root / key).unlink()

    async def make_unreachable_store(self) -> Store:
        return open_sftp(f"sftp://127.0.0.1:{free_port()}/x", self.server.environ)

    async def make_denied_store(self) -> Store:
        stranger = self.root / "stranger"
        await asyncio.to_thread(make_key, stranger)
        return open_sftp(self.server.url(self.root), {**self.server.environ, "F_KEY_FILE": str(stranger)})

    def kept(self, keys: Sequence[str]) -> list[str]:
        """Keys that are paths, none of which is a directory of another that was taken before it."""
        taken: list[str] = []
        for key in keys:
            named = all(part not in ("", ".", "..") and len(part.encode()) <= 255 for part in key.split("/"))
            apart = all(not key.startswith(other + "/") and not other.startswith(key + "/") for other in taken)
            if named and apart and 0 < len(key.encode()) <= 1024:
                taken.append(key)
        return taken

    def written(self, keys: Sequence[str]) -> list[str]:
        return self.kept(keys)

    def takes(self, verb: str, condition: Condition) -> bool:
        """SFTP makes a file only where there is none, and knows no other condition."""
        return not condition or (verb != "delete" and condition == Condition(if_none_match="*"))

    async def left_behind(self) -> Sequence[str]:
        return [path.name for path in (self.root / ".headrace" / "new").glob("*")]


class TestSftp(SftpHooks, StoreContract):
    """Reading and listing."""


class TestSftpWrites(SftpHooks, WriteContract, ConditionContract, ChangingContract):
    """Writing, conditions, removing and copying."""
