"""Settings of the page cache: the `[cache]` table."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace.cache.layout import Geometry
from headrace.model.errors import SettingsError
from headrace.model.units import parse_size

_PAGE_MIN_BYTES = 4096
_PAGE_MAX_BYTES = 16 * 1024 * 1024


class DiskSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One page directory of the disk tier."""

    path: str = "pages"
    """Directory; relative ones lie under the server's home."""
    capacity: str = "10GiB"
    """At most this many bytes of segments."""

    @property
    def capacity_bytes(self) -> int:
        """`capacity` in bytes. Raises `SettingsError`."""
        return parse_size(self.capacity)

    def root(self, home: Path) -> Path:
        """The directory with `home` taken into account."""
        return home / Path(self.path).expanduser()


class CacheSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[cache]`: the tiers and the size of a page."""

    memory: str = "256MiB"
    """Capacity of the memory tier; `0` for none. Each serving process may use an eighth of it again, and 16 MiB at most,
    for copies of the pages that it reads most."""
    disk: tuple[DiskSettings, ...] = (DiskSettings(),)
    """Page directories of the disk tier; an empty list for none."""
    page: str = "64KiB"
    """Size of a page: a power of two from 4 KiB to 16 MiB. Changing it drops what is cached."""

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes. Raises `SettingsError`."""
        return parse_size(self.memory)

    @property
    def geometry(self) -> Geometry:
        """Sizes that follow from `page`. Raises `SettingsError`."""
        size = parse_size(self.page)
        if not _PAGE_MIN_BYTES <= size <= _PAGE_MAX_BYTES or size & (size - 1):
            raise SettingsError(f"[cache] page = {self.page!r}: write a power of two from 4KiB to 16MiB, such as 64KiB")
        return Geometry(size)
