"""The bodies of a journal that are too long for a record: files in `bodies/`, fsynced before the record that names them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from headrace.model.disk import Disk
from headrace.staging.logs import sync_folder

_FOLDER = "bodies"


class Bodies:
    """`<root>/bodies/<name>`. Everything blocks and raises `OSError`."""

    def __init__(self, root: str, disk: Disk) -> None:
        self.folder = f"{root}/{_FOLDER}"
        self._disk = disk

    def path(self, name: str) -> str:
        """Where a body lies."""
        return f"{self.folder}/{name}"

    def sync(self) -> None:
        """Return once the names of all bodies survive a power cut."""
        sync_folder(self._disk, self.folder)

    def remove(self, name: str) -> None:
        """That it is gone is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(self.path(name))

    def remove_strays(self, named: Collection[str], before_s: float) -> int:
        """Remove those that no record names and that were last written before `before_s`: of writes that never counted.

        Returns how many. For the one process that uploads.
        """
        strays = 0
        for name in self._disk.names(self.folder):
            if name not in named and self._disk.stat(self.path(name)).st_mtime < before_s:
                self.remove(name)
                strays += 1
        return strays
