import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from headrace.stores import file_attributes
from headrace.stores.contract import StoreContract
from headrace.stores.contract_buckets import BucketsContract
from headrace.stores.contract_writing import WritingContract
from headrace.stores.file import FileStore
from headrace.stores.file_account import FileAccountStore
from headrace.stores.file_own import valid_segments
from headrace.stores.store import Store


class TestFileStore(StoreContract, WritingContract):
    min_part_bytes = 5_000

    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.root = tmp_path / "root"
        self.root.mkdir()

    async def make_store(self) -> Store:
        return FileStore(str(self.root), min_part_bytes=self.min_part_bytes)

    async def put_behind(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if path.exists() else "wb") as file:  # in place, as a careless writer does
            file.write(data)

    async def delete_behind(self, key: str) -> None:
        (self.root / key).unlink()

    async def make_unreachable_store(self) -> Store | None:
        return FileStore(str(self.root / "gone"))

    def kept(self, keys: Sequence[str]) -> list[str]:
        """A path has no empty, `.` or `..` segments, and is a file or a directory, not both."""
        kept: list[str] = []
        for key in keys:
            clash = any(other.startswith(key + "/") or key.startswith(other + "/") for other in kept)
            if valid_segments(key) and not clash:
                kept.append(key)
        return kept

    async def left_behind(self) -> Sequence[str]:
        own = self.root / ".headrace"
        return [str(path) for name in ("tmp", "removed", "uploads") for path in (own / name).rglob("*")]


class TestFileStoreWithSmallWindows(TestFileStore):
    """Windows of few names: directories are scanned many times for one listing."""

    async def make_store(self) -> Store:
        return FileStore(str(self.root), window_names=3, min_part_bytes=self.min_part_bytes)


class TestFileStoreWithoutExtendedAttributes(TestFileStore):
    """As on a file system that has none: all is kept beside the files."""

    @pytest.fixture(autouse=True)
    def _refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(file_attributes, "NAME", "trusted-not.headrace")

    async def left_behind(self) -> Sequence[str]:
        objects = sum(1 for path in self.root.rglob("*") if path.is_file() and ".headrace" not in path.parts)
        objects += sum(1 for path in (self.root / ".headrace/objects").rglob("*") if path.is_file())
        beside = [str(path) for path in (self.root / ".headrace/attributes").rglob("*") if path.is_file()]
        return [*await super().left_behind(), *(beside if len(beside) > objects else ())]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no file system in memory")
class TestFileStoreInMemory(TestFileStore):
    """On tmpfs."""

    @pytest.fixture(autouse=True)
    def _root(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with TemporaryDirectory(dir="/dev/shm", prefix="headrace-test-") as folder:
            self.root = Path(folder)
            yield


class TestFileAccountStore(BucketsContract):
    keeps_acls = True

    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.root = tmp_path

    async def make_account(self) -> Store:
        return FileAccountStore(str(self.root))
