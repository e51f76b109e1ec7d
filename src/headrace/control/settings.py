"""What the control plane is told by `headrace.toml`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace.model.mounts import MountSpec
from headrace.policy.rules import Rule


class KeySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[key]]`: an access key that may ask the data port."""

    id: str
    """The access key id that S3 callers present."""
    secret: str
    """By reference: `env:NAME` or `file:PATH`; a literal is accepted with a warning."""

    def __repr__(self) -> str:
        return f"KeySpec(id={self.id!r})"


class ControlSettings(msgspec.Struct, frozen=True):
    """The part of the settings that mounts, keys and the control port are made of."""

    home: Path
    mounts: tuple[MountSpec, ...] = ()
    keys: tuple[KeySpec, ...] = ()
    rules: tuple[Rule, ...] = ()
    hosts: tuple[str, ...] = ()
    """Host names, besides addresses and `localhost`, under which browsers may open the control port."""
