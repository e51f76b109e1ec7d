"""What the ledger hands out: frozen rows."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class JobState(StrEnum):
    """`running` survives a crash: such a job goes on at the next start."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class JobProgress(msgspec.Struct, frozen=True):
    """How far a job is. `cursor` is where it goes on after a crash: everything up to it is done."""

    cursor: str = ""
    objects_done: int = 0
    bytes_done: int = 0
    objects_failed: int = 0
    objects_known: int = 0
    bytes_known: int = 0
    objects_at_cursor: int = 0
    bytes_at_cursor: int = 0
    """Of the done ones, those up to the cursor: what a resumed job begins its counts with."""
    all_known: bool = False
    """Whether the listing has ended, so that the known counts are the totals."""


class JobRecord(msgspec.Struct, frozen=True):
    """One job. Times are seconds since 1970 UTC."""

    id: str
    kind: str
    target: str
    state: JobState
    progress: JobProgress
    error: str
    created_s: float
    updated_s: float


class AuditRecord(msgspec.Struct, frozen=True):
    """One change or refusal, never with a secret in it."""

    at_s: float
    kind: str
    actor: str
    target: str
    detail: str
