"""Settings of scratch: the `[scratch]` table."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace.model.units import parse_size


class ScratchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[scratch]`: what mounts with `write = "scratch"` may keep on this node. When it is full, writes are refused."""

    path: str = "scratch"
    """Directory of what is written; a relative one lies under the server's home."""
    capacity: str = "10GiB"
    """At most this many bytes for each such mount, unfinished uploads included; every object counts 4 KiB besides its bytes."""

    @property
    def capacity_bytes(self) -> int:
        """`capacity` in bytes. Raises `SettingsError`."""
        return parse_size(self.capacity)

    def root(self, home: Path) -> Path:
        """The directory with `home` taken into account."""
        return home / Path(self.path).expanduser()
