from collections.abc import Sequence
from pathlib import Path

import pytest

from headrace.stores.contract import StoreContract
from headrace.stores.file import FileStore
from headrace.stores.file_listing import valid_segments
from headrace.stores.store import Store


class TestFileStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.root = tmp_path / "root"
        self.root.mkdir()

    async def make_store(self) -> Store:
        return FileStore(str(self.root))

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


class TestFileStoreWithSmallWindows(TestFileStore):
    """Windows of few names: directories are scanned many times for one listing."""

    async def make_store(self) -> Store:
        return FileStore(str(self.root), window_names=3)
