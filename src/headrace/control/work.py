"""What the job runner runs, and how it waits for what is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from headrace.ledger.records import JobProgress, JobRecord
from headrace.model.errors import Unavailable

TRIES = 5
FIRST_PAUSE_S = 0.5

_T = TypeVar("_T")
Pause = Callable[[float], Awaitable[None]]


class Work(Protocol):
    """One job while it runs."""

    hint: str
    """How a person goes on with it when it failed."""

    def progress(self) -> JobProgress:
        """How far it is, at any moment."""

    async def run(self) -> None:
        """Do it. Raises a `HeadraceError` for what keeps it from going on; cancelled, it stops where it can be resumed."""

    def verdict(self) -> str:
        """What of it could not be done, when `run` has returned; empty: all was."""


Save = Callable[[JobProgress], Awaitable[None]]
Make = Callable[[JobRecord, Save], Work]


class Kind(msgspec.Struct, frozen=True):
    """A kind of job. `make` is called when one begins or goes on, and may raise; `slots` run at the same time."""

    make: Make
    slots: int


async def patiently(ask: Callable[[], Awaitable[_T]], pause: Pause) -> _T:
    """A store or worker that is away for a moment, or starting, is asked a few times."""
    for tried in range(1, TRIES):
        try:
            return await ask()
        except Unavailable as error:
            await pause(error.retry_after_s or FIRST_PAUSE_S * 2**tried)
    return await ask()
