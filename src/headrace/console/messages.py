"""What the admin API and its client say to each other."""

from __future__ import annotations

import msgspec

from headrace.control.node_view import Found, MountStats, StagedConflict
from headrace.control.sync.steps import Planned
from headrace.model.mounts import MountSpec


class MountView(msgspec.Struct, frozen=True):
    """A mount, where it is written, and how it fares. `health` is None when no server runs."""

    spec: MountSpec
    origin: str
    health: MountStats | None = None


class Mounted(msgspec.Struct, frozen=True):
    """A mount is in force. `is_empty`: its store lists nothing there yet."""

    is_empty: bool = False


class ReplaceMount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Put `spec` in the place of `expected`."""

    spec: MountSpec
    expected: MountSpec


class RemoveMount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str


class LoadRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str


class FreeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    prefix: bool = False


class PinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    on: bool = True


class SettleRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """End a conflict: with `ours`, what was kept takes the place of the store's object."""

    conflict: StagedConflict
    ours: bool


class RunSync(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Run a sync now."""

    force: bool = False
    """Remove however much of a side is gone from the other."""


class SurveyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str


class SurveyLine(msgspec.Struct, frozen=True):
    """One line of the answer to a survey: what was found so far. The last one says that it is over, or why it ended."""

    found: Found = Found()
    over: bool = False
    error: ErrorBody | None = None


class Noted(msgspec.Struct, frozen=True):
    """How many objects a notification named."""

    objects: int


class Freed(msgspec.Struct, frozen=True):
    bytes: int


class Pins(msgspec.Struct, frozen=True):
    paths: tuple[str, ...]


class Done(msgspec.Struct, frozen=True):
    """`changed` is false when it was so already."""

    changed: bool = True


class ErrorBody(msgspec.Struct, frozen=True):
    """A refused or failed request: the error's class name in Headrace's tree, and its words."""

    kind: str
    message: str
    path: str = ""


class PlanLine(msgspec.Struct, frozen=True):
    """One line of a plan as it streams: a part of it, or the error that ended it."""

    planned: Planned | None = None
    error: ErrorBody | None = None
