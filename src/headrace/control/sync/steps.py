"""What a plan is made of, and what becomes of it: plain values that go between the control plane and serving processes."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from headrace.ledger.sync_records import SyncPair


class Side(StrEnum):
    A = "a"
    B = "b"

    @property
    def other(self) -> Side:
        return Side.B if self is Side.A else Side.A


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """An object as a side's listing shows it. `key` is relative to the side's path."""

    key: str
    size: int
    etag: str
    version: str
    """The version's token."""
    modified_s: float = 0.0

    @property
    def mark(self) -> str:
        """What is remembered of it: equal marks of one key on one side mean equal bytes."""
        return self.etag or self.version


class SidePage(msgspec.Struct, frozen=True):
    """One page of a side's listing, sorted by the keys' UTF-8 bytes; `after` continues it, None: nothing follows."""

    objects: tuple[Seen, ...]
    after: str | None = None


class Verb(StrEnum):
    COPY = "copy"
    DELETE = "delete"
    COMPARE = "compare"
    """Read both and see whether they have the same bytes."""
    KEEP_BOTH = "keep-both"
    """Keep the object of the side that is changed beside it, on both sides; then copy."""


class Step(msgspec.Struct, frozen=True):
    """Something to be done about one key. `towards` is the side that is changed; `a` and `b` are what the plan saw."""

    verb: Verb
    key: str
    towards: Side
    a: Seen | None
    b: Seen | None
    is_conflict: bool = False
    """It had changed on both sides, and a rule decided."""

    def seen(self, side: Side) -> Seen | None:
        return self.a if side is Side.A else self.b

    @property
    def source(self) -> Seen:
        """What is copied."""
        found = self.seen(self.towards.other)
        if found is None:
            raise ValueError(f"{self.verb} of {self.key!r} has nothing to copy")
        return found

    @property
    def size(self) -> int:
        """Bytes that go from one side to the other."""
        return self.source.size if self.verb in (Verb.COPY, Verb.KEEP_BOTH) else 0


class StepBatch(msgspec.Struct, frozen=True):
    """Steps of one sync for one serving process, which does all of them at once."""

    name: str
    a: str
    b: str
    steps: tuple[Step, ...]
    bandwidth: str = ""
    """As `SyncSpec.bandwidth`; the process's share of it is one of `sharers`."""
    sharers: int = 1


class Result(StrEnum):
    DONE = "done"
    SAME = "same"
    """Of a comparison: both sides have the same bytes."""
    DIFFERENT = "different"
    CHANGED = "changed"
    """A side was not what the plan saw: nothing was done; the next round decides."""
    FAILED = "failed"
    AWAY = "away"
    """A side cannot be asked now: worth another try."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a step. `pairs` are the versions on which both sides now agree."""

    result: Result
    pairs: tuple[SyncPair, ...] = ()
    bytes: int = 0
    verified: bool = False
    error: str = ""


class Planned(msgspec.Struct, frozen=True):
    """A part of a plan; `objects_a` and `objects_b` are how many the listings have shown so far."""

    steps: tuple[Step, ...]
    agreed: int
    objects_a: int
    objects_b: int


def conflict_key(key: str, loser: Seen) -> str:
    """Where the version that gives way is kept: the same name for the same bytes, so that doing it again does nothing new."""
    mark = "".join(char for char in loser.mark if char.isalnum())[:32]
    return f"{key}.conflict-{mark or 'unknown'}"
