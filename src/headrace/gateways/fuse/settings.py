"""Settings of mounted directories: the `[fuse]` table."""

from __future__ import annotations

import msgspec

from headrace.model.units import parse_size


class FuseSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[fuse]`: what `headrace fuse` may take of this machine."""

    staged: str = "0"
    """Bytes that files which are open for writing may hold together; more fail with ENOSPC. 0: as much as the disk takes."""

    @property
    def staged_bytes(self) -> int:
        """`staged` in bytes. Raises `SettingsError`."""
        return parse_size(self.staged)
