"""Which prefixes of a mount are pinned: a small file in the first page directory, shared by all processes."""

from __future__ import annotations

import os

import msgspec

from headrace.cache.directory import PageDirectory

_PINS_MAX_BYTES = 1 << 20


def is_at_or_below(key: str, root: str) -> bool:
    """Whether `key` is `root` or lies below it as below a directory. Everything lies below nothing and below `dir/`."""
    return not root or key == root or key.startswith(root if root.endswith("/") else root + "/")


class Pins:
    """Read again when the file changes; a file that cannot be read pins nothing."""

    def __init__(self, directories: tuple[PageDirectory, ...], tag: bytes) -> None:
        self._directory = directories[0] if directories else None
        self._path = f"{self._directory.root}/{tag.hex()}.pins" if self._directory is not None else ""
        self._stamp: tuple[int, int] = (-1, -1)
        self._prefixes: tuple[str, ...] = ()

    def covers(self, key: str) -> bool:
        """Whether the key lies at or below something pinned."""
        self._refresh()
        return any(is_at_or_below(key, prefix) for prefix in self._prefixes)

    def has(self, prefix: str) -> bool:
        """Whether that very prefix is pinned; so is everything where there is no disk to keep it on."""
        self._refresh()
        return self._directory is None or prefix in self._prefixes

    async def set(self, prefix: str, on: bool) -> None:
        """Pin a prefix or let it go. Raises `OSError`."""
        if self._directory is None:
            return
        await self._directory.run(lambda: self._write(prefix, on))

    def _write(self, prefix: str, on: bool) -> None:
        assert self._directory is not None  # noqa: S101 - `set` has looked
        disk = self._directory.disk
        self._refresh()
        kept = {one for one in self._prefixes if on or not one.startswith(prefix)}
        data = msgspec.json.encode(sorted(kept | {prefix} if on else kept))
        fresh = f"{self._path}.{os.getpid()}.part"
        fd = disk.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            disk.pwrite(fd, data, 0)
        finally:
            disk.close(fd)
        disk.rename(fresh, self._path)

    def _refresh(self) -> None:
        if self._directory is None:
            return
        disk = self._directory.disk
        try:
            status = disk.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp:
                return
            fd = disk.open(self._path, os.O_RDONLY)
            try:
                self._prefixes = tuple(msgspec.json.decode(disk.pread(fd, _PINS_MAX_BYTES, 0), type=list[str]))
            finally:
                disk.close(fd)
            self._stamp = stamp
        except (OSError, msgspec.DecodeError):
            self._prefixes, self._stamp = (), (-1, -1)
