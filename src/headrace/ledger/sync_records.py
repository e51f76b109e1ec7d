"""Syncs as the ledger knows them: what is kept alike with what, by which rules, and what was done so far."""

from __future__ import annotations

from enum import StrEnum

import msgspec

DEFAULT_TRANSFERS = 16
DEFAULT_MAX_DELETE = 50


class Mode(StrEnum):
    """Which side follows which."""

    MIRROR = "mirror"
    """B becomes what A is."""
    TWO_WAY = "two-way"
    """What changes on either side is brought to the other."""


class ConflictRule(StrEnum):
    """What becomes of an object that changed on both sides since they agreed."""

    NEWEST = "newest"
    """The one that was modified last; both are kept when that cannot be told."""
    PREFER_A = "prefer-a"
    PREFER_B = "prefer-b"
    KEEP_BOTH = "keep-both"
    """The newer keeps its name; the other is kept beside it, on both sides."""


class SyncSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sync. `a` and `b` are directories of the namespace, without a slash at their ends."""

    name: str
    a: str
    b: str
    mode: Mode = Mode.MIRROR
    conflict: ConflictRule = ConflictRule.NEWEST
    schedule: str = ""
    """`10m` (an interval), `02:00,14:30` (times of day, local), `live`, or empty: only when asked for."""
    bandwidth: str = ""
    """`50MiB/s`, or windows of the day such as `09:00-18:00=50MiB/s,22:00-06:00=200MiB/s`; empty: no bound."""
    transfers: int = DEFAULT_TRANSFERS
    """Objects under way at the same time."""
    checksum: bool = False
    """Read both sides where their ETags cannot be compared, instead of copying or trusting equal sizes and times."""
    max_delete: int = DEFAULT_MAX_DELETE
    """A run removes at most this many of a hundred of a side's objects, unless it is forced."""


class SyncPair(msgspec.Struct, frozen=True, array_like=True):
    """What an object was on both sides when they last agreed. `a` and `b` are its marks: ETags, else versions."""

    key: str
    a: str
    b: str


class SyncCounts(msgspec.Struct, frozen=True):
    """Sums of what was done."""

    to_b: int = 0
    """Objects copied from A to B."""
    to_a: int = 0
    bytes: int = 0
    """Of the copied objects."""
    deleted_a: int = 0
    deleted_b: int = 0
    agreed: int = 0
    """Objects that were found alike without being copied."""
    conflicts: int = 0
    """Objects that had changed on both sides; what the rule made of them is among the copies."""
    verified: int = 0
    """Copies whose bytes the destination was shown to have, by ETag or by reading them back."""

    def plus(self, other: SyncCounts) -> SyncCounts:
        return SyncCounts(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))

    @property
    def done(self) -> int:
        """Objects that were changed somewhere."""
        return self.to_a + self.to_b + self.deleted_a + self.deleted_b


class SyncState(msgspec.Struct, frozen=True):
    """How a sync fares. Times are seconds since 1970 UTC."""

    job_id: str = ""
    """Of its last run."""
    force: bool = False
    """Whether the run that is under way may remove more than `max_delete`."""
    started_s: float = 0.0
    ended_s: float = 0.0
    error: str = ""
    """Of the last run; empty: it ended well."""
    initial_done: bool = False
    """Whether a run has ended well, so that what comes now is a change."""
    initial: SyncCounts = SyncCounts()
    """What was done until then."""
    live: SyncCounts = SyncCounts()
    """What was done since."""
    objects_a: int = 0
    """As the last whole listing had them."""
    objects_b: int = 0

    def counted(self, done: SyncCounts) -> SyncState:
        """With what was just done counted where it belongs."""
        if self.initial_done:
            return msgspec.structs.replace(self, live=self.live.plus(done))
        return msgspec.structs.replace(self, initial=self.initial.plus(done))


class SyncRecord(msgspec.Struct, frozen=True):
    """A sync, how it fares, and when it was made."""

    spec: SyncSpec
    state: SyncState
    created_s: float
    paused: bool
    """Whether its schedule is not followed."""
