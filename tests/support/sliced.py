"""A store whose objects lie in page files on disk, as a warm cache has them: readings carry `FileSlice`s."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from headrace.model.mounts import MountSpec
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.model.reading import Buffer, FileSlice, Reading, Served
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.stores.keys import cut_range
from headrace.stores.memory import MemoryStore

PAGE_BYTES = 64 * 1024


class _Page:
    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self.fd)


class _Sliced(Reading):
    def __init__(self, info: ObjectInfo, byte_range: ByteRange, ready: tuple[FileSlice, ...]) -> None:
        super().__init__(info, byte_range, served=Served.HIT, ready=ready)

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        for piece in self.ready or ():
            assert isinstance(piece, FileSlice)
            yield os.pread(piece.fd, piece.length, piece.offset)

    async def aclose(self) -> None:
        pass


class SlicedStore(MemoryStore):
    """`warm(key)` puts an object's pages on disk; `peek` and `read` then answer with slices of them."""

    def __init__(self, directory: Path, *, page_bytes: int = PAGE_BYTES) -> None:
        super().__init__()
        self._directory = directory
        self.page_bytes = page_bytes
        self.pages: dict[tuple[str, Version], list[_Page]] = {}
        self.files: list[Path] = []
        self.peeks = 0
        self.forgetful = False
        """As a cache that does not know the objects' versions: peeks find nothing until `info` is asked."""

    def warm(self, key: str) -> None:
        body = self.body(key)
        version = self._objects[key].info.version
        pages = []
        for start in range(0, len(body), self.page_bytes):
            path = self._directory / f"page{len(self.files)}"
            path.write_bytes(body[start : start + self.page_bytes])
            self.files.append(path)
            pages.append(_Page(path))
        self.pages[key, version] = pages

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        self.peeks += 1
        if key not in self._objects or self.forgetful:
            return None
        return self._sliced(self._objects[key].info, byte_range)

    async def info(self, key: str) -> ObjectInfo:
        self.forgetful = False
        return await super().info(key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        if key in self._objects and version in (None, self._objects[key].info.version):
            found = self._sliced(self._objects[key].info, byte_range)
            if found is not None:
                return found
        return await super().read(key, byte_range, version=version)

    def _sliced(self, info: ObjectInfo, byte_range: ByteRange | None) -> Reading | None:
        pages = self.pages.get((info.key, info.version))
        if pages is None:
            return None
        cut = cut_range(byte_range, info.size, info.key)
        slices = []
        at = cut.start
        while at < cut.end:
            index, offset = divmod(at, self.page_bytes)
            length = min(self.page_bytes - offset, cut.end - at)
            slices.append(FileSlice(pages[index].fd, offset, length, pages[index]))
            at += length
        return _Sliced(info, cut, tuple(slices))


def namespace_of(**stores: MemoryStore) -> Namespace:
    """A namespace with each store mounted at `/<its name>`."""
    return Namespace(MountTable(Mount(f"/{name}", MountSpec(f"/{name}"), store) for name, store in stores.items()))
