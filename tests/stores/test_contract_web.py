"""What web servers hold passes the suite of stores that are read: nginx, and Python's server without ranges and ETags."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
from headrace.stores.contract import StoreContract
from headrace.stores.registry import open_store
from headrace.stores.store import Store
from support.processes import free_port
from support.web import nginx_files, python_files

pytestmark = [pytest.mark.servers, pytest.mark.slow]  # a listing asks for every object: a minute


def open_web(url: str, **options: object) -> Store:
    return open_store(MountSpec("/w", url, **options), environ={}, clock=SystemClock())  # type: ignore[arg-type]  # of tests


@pytest.fixture(scope="module")
def by_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("root")
    with nginx_files(tmp_path_factory.mktemp("nginx"), root, more="location /denied/ { deny all; }") as url:
        yield url, root


@pytest.fixture(scope="module")
def by_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("root")
    with python_files(tmp_path_factory.mktemp("server"), root) as url:
        yield url, root


class WebHooks:
    """Objects are files of a served directory.

    `Last-Modified` counts seconds: files are stamped as if their changes lay seconds apart, in the last minute. What holds of
    changes within one second is tested in `test_web.py`.
    """

    knows_content_type = True

    served: str
    """The fixture that serves a directory."""
    max_connections = 64

    @pytest.fixture(autouse=True)
    def place(self, request: pytest.FixtureRequest) -> Iterator[None]:
        url, top = request.getfixturevalue(self.served)
        name = uuid.uuid4().hex
        self.root, self.url = top / name, f"{url}/{name}"
        self.root.mkdir()
        self.aside = top / f"{name}.aside"
        yield
        shutil.rmtree(self.root)
        self.aside.unlink(missing_ok=True)

    async def make_store(self) -> Store:
        return open_web(self.url, max_connections=self.max_connections)

    async def put_behind(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        stamp = path.stat().st_mtime + 1 if path.exists() else int(time.time()) - 60
        self.aside.write_bytes(data)
        os.utime(self.aside, (stamp, stamp))
        self.aside.rename(path)

    async def delete_behind(self, key: str) -> None:
        (self.root / key).unlink()

    async def make_unreachable_store(self) -> Store:
        return open_web(f"http://127.0.0.1:{free_port()}/x")

    def kept(self, keys: Sequence[str]) -> list[str]:
        """Keys that are paths, none of which is a directory of another that was taken before it."""
        taken: list[str] = []
        for key in keys:
            named = all(part not in ("", ".", "..") and len(part.encode()) <= 255 for part in key.split("/"))
            apart = all(not key.startswith(other + "/") and not other.startswith(key + "/") for other in taken)
            if named and apart and len(key.encode()) <= 1024:
                taken.append(key)
        return taken


class TestNginx(WebHooks, StoreContract):
    """Ranges, ETags made of time and length, index pages."""

    served = "by_nginx"

    async def make_denied_store(self) -> Store:
        return open_web(self.url.rpartition("/")[0] + "/denied/")


class TestPythonServer(WebHooks, StoreContract):
    """No ranges, no ETags: bodies are cut here, versions are time and length."""

    served = "by_python"
    max_connections = 2  # of callers who wait to be accepted, it keeps five and forgets the others
    knows_content_type = False  # guessed from names that end in .txt alone
