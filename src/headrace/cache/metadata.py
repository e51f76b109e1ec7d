"""What is known of keys: the version, or that there is none, and when the store was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from headrace.cache.freshness import may_join
from headrace.cache.handles import CachedObject
from headrace.cache.plan import Streak
from headrace.model.errors import AccessDenied, HeadraceError, Unavailable
from headrace.model.objects import ObjectInfo

_KNOWN_MAX = 65_536
_NO_STREAK = Streak()


@dataclass(slots=True)
class Known:
    """`info` and `target` are None when the store said that there is no such key."""

    asked_s: float
    info: ObjectInfo | None
    target: CachedObject | None
    complete: bool = True
    """`info` came from `Store.info`; an answer to a range may lack checksums."""
    bound_s: float = 0.0
    """How long after `asked_s` the answer may be used."""
    slot: int = 0
    """The key's slot among the node's marks, and what stood there before the store was asked."""
    mark: int = 0
    era: int = 0
    """The era of the key's place before the store was asked."""
    streak: Streak = _NO_STREAK
    soon_s: float = float("inf")
    """The age from which a read is a late one: the answer is about to be used no longer."""
    late_reads: int = 0
    late_before: bool = False
    """Whether the answer before this one had late reads, too."""


class Metadata:
    """At most `limit` keys, those refreshed longest ago out first; one question per key at a time."""

    def __init__(self, limit: int = _KNOWN_MAX) -> None:
        self._limit = limit
        self.known: dict[str, Known] = {}
        self._asking: dict[str, tuple[float, asyncio.Future[HeadraceError | None]]] = {}

    def put(self, key: str, known: Known) -> Known:
        """Remember an answer; one to an older question does not replace a newer one."""
        before = self.known.pop(key, None)
        if before is not None and before.info is not None and known.info is not None:
            known.streak = before.streak
        if before is not None:
            known.late_before = before.late_reads > 0
        if before is not None and before.asked_s > known.asked_s:
            self.known[key] = before
            return known
        self.known[key] = known
        if len(self.known) > self._limit:
            del self.known[next(iter(self.known))]
        return known

    def forget(self, key: str) -> None:
        """The answer proved wrong."""
        self.known.pop(key, None)

    async def single(
        self, key: str, bound_s: float, now: Callable[[], float], ask: Callable[[float], Awaitable[Known]]
    ) -> Known | None:
        """Ask for one key, one question at a time: `ask` is handed the time of asking and remembers the answer.

        Returns the answer when this caller asked, None when another's question was answered meanwhile: look
        again. That the store cannot be asked is told to all who waited; of other errors each learns by asking.
        """
        arrived_s = now()
        while (asking := self._asking.get(key)) is not None:
            asked_s, answered = asking
            await asyncio.wait((answered,))
            if not may_join(asked_s, arrived_s, bound_s):
                continue
            refused = answered.result()
            if refused is not None:
                raise refused
            if key in self.known and self.known[key].asked_s >= asked_s:
                return None
        asked_s, answered = now(), asyncio.get_running_loop().create_future()
        self._asking[key] = (asked_s, answered)
        told: HeadraceError | None = None
        try:
            return await ask(asked_s)
        except (Unavailable, AccessDenied) as error:
            told = error
            raise
        finally:
            del self._asking[key]
            answered.set_result(told)
