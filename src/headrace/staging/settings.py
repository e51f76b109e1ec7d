"""Settings of the write-back journal: the `[staging]` table."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace.model.units import parse_duration, parse_size


class StagingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[staging]`: what mounts with `write = "back"` may keep waiting. Beyond a bound, writes go straight to the store."""

    path: str = "journal"
    """Directory of the journals, on a file system that can fsync; a relative one lies under the server's home."""
    capacity: str = "10GiB"
    """At most this many bytes of writes that a mount's store does not have yet."""
    max_age: str = "24h"
    """While the oldest such write is older than this, no further ones are taken in."""

    @property
    def capacity_bytes(self) -> int:
        """`capacity` in bytes. Raises `SettingsError`."""
        return parse_size(self.capacity)

    @property
    def max_age_s(self) -> float:
        """`max_age` in seconds. Raises `SettingsError`."""
        return parse_duration(self.max_age)

    def root(self, home: Path) -> Path:
        """The directory with `home` taken into account."""
        return home / Path(self.path).expanduser()
