"""What every process of a node must know, as one frozen value with an epoch."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.model.mounts import MountSpec
from headrace.policy.rules import Rule


class KeyRecord(msgspec.Struct, frozen=True):
    """An access key and its secret in the clear. Printing it never shows the secret."""

    id: str
    secret: str

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("id", self.id), ("secret", "***")]

    def __repr__(self) -> str:
        return f"KeyRecord(id={self.id!r}, secret='***')"


class NodeState(msgspec.Struct, frozen=True):
    """Mounts, keys and rules in force. A higher `epoch` replaces a lower one as a whole."""

    epoch: int
    mounts: tuple[MountSpec, ...] = ()
    keys: tuple[KeyRecord, ...] = ()
    rules: tuple[Rule, ...] = ()
