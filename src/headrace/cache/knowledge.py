"""What one process knows of a mount's keys, how long that may be used, and asking the store for more."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from headrace.cache.freshness import bound_of, is_fresh
from headrace.cache.handles import CachedObject
from headrace.cache.marks import Marks
from headrace.cache.metadata import Known, Metadata
from headrace.cache.refresh import is_often, soon
from headrace.model.errors import NotFound
from headrace.model.mounts import Freshness
from headrace.model.objects import ObjectInfo
from headrace.stores.store import Store

Stand = tuple[int, int, int]
"""A key's slot among the node's marks, the mark that it has, and its place's era, taken before the store is asked."""


class Knowledge:
    """Answers of `inner` about keys. `target_of` tells how the tiers know a version; `place` is where the store's keys begin."""

    def __init__(
        self,
        inner: Store,
        *,
        place: str,
        freshness: Freshness,
        marks: Marks,
        now: Callable[[], float],
        target_of: Callable[[ObjectInfo], CachedObject],
        refresh: Callable[[str], None],
    ) -> None:
        """`refresh` is told of keys that are worth asking for again, now and in the background."""
        self._inner = inner
        self._place = place
        self._freshness_s = freshness.seconds
        self._marks = marks
        self._now = now
        self._target_of = target_of
        self._refresh = refresh
        self._metadata = Metadata()
        self.known = self._metadata.known
        self.mark_of = marks.table
        self.era_slot = marks.era(place)

    def standing(self, key: str) -> Known | None:
        """What is known of the key, however old, unless this node has replaced it since."""
        known = self.known.get(key)
        if known is None or known.mark != self.mark_of[known.slot] or known.era != self.mark_of[self.era_slot]:
            return None
        return known

    def fresh(self, key: str) -> Known | None:
        """What is known of the key and may serve a read that starts now."""
        known = self.standing(key)
        now_s = self._now()
        if known is None or not is_fresh(known.asked_s, now_s, known.bound_s):
            return None
        if now_s - known.asked_s > known.soon_s:
            self.read_late(key, known)
        return known

    def read_late(self, key: str, known: Known) -> None:
        """An answer is used that is about to be used no longer."""
        known.late_reads += 1
        if is_often(known.late_reads, late_before=known.late_before):
            self._refresh(key)

    def stand(self, key: str) -> Stand:
        slot = self._marks.slot(self._place, key)
        return slot, self.mark_of[slot], self.mark_of[self.era_slot]

    async def ask(self, key: str, asked_s: float) -> Known:
        """The store's word on a key. Only its own `NotFound` is remembered as one."""
        stand = self.stand(key)
        try:
            info = await self._inner.info(key)
        except NotFound:
            return self.absent(key, asked_s, stand)
        return self.learn(key, info, asked_s, stand, complete=True)

    async def single(self, key: str, ask: Callable[[float], Awaitable[Known]]) -> Known | None:
        """`Metadata.single`, with the key's own bound."""
        return await self._metadata.single(key, self._bound_s(key), self._now, ask)

    def absent(self, key: str, asked_s: float, stand: Stand) -> Known:
        """Remember that the store said that there is no such key."""
        return self._put(key, Known(asked_s, None, None, True, self._bound_s(key), *stand))

    def learn(self, key: str, info: ObjectInfo, asked_s: float, stand: Stand, *, complete: bool) -> Known:
        """Remember an answer. The handles of a version that was known already stay."""
        before, bound_s = self.known.get(key), self._bound_s(key)
        if before is not None and before.info is not None and before.info.version == info.version and before.target is not None:
            if before.complete and not complete:
                info, complete = before.info, True
            before.target.pinned = self._target_of(info).pinned
            return self._put(key, Known(asked_s, info, before.target, complete, bound_s, *stand))
        return self._put(key, Known(asked_s, info, self._target_of(info), complete, bound_s, *stand))

    def forget(self, key: str) -> None:
        """The answer proved wrong."""
        self._metadata.forget(key)

    def replaced(self, key: str) -> None:
        """The key is not what it was, or may not be: what was known of it is void, in every process of the node."""
        self.void(key)
        self._metadata.forget(key)

    def wrote(self, key: str, info: ObjectInfo | None) -> None:
        """This process has made the object, or (None) has removed it: to tell it from what others do."""
        self._marks.note_own(self._place, key, _entity(info))

    def was_own(self, key: str, info: ObjectInfo | None) -> bool:
        """Whether the node has made the object, or (None) has removed it, as far as that is known. Another's is noted as such."""
        own = self._marks.is_own(self._place, key, _entity(info))
        if not own:
            self._marks.disown(self._place, key)
        return own

    def void(self, key: str) -> None:
        """The key is not what it was: no process uses what it knew. Safe in any thread."""
        self._marks.set(self._marks.slot(self._place, key))

    def void_all(self) -> None:
        """No process uses what it knew of any key of this place."""
        self._marks.set(self.era_slot)

    def _put(self, key: str, known: Known) -> Known:
        known.soon_s = soon(known.bound_s, random.random())  # noqa: S311  it spreads questions, and guards nothing
        return self._metadata.put(key, known)

    def _bound_s(self, key: str) -> float:
        return bound_of(key, self._freshness_s)


def _entity(info: ObjectInfo | None) -> str:
    return "" if info is None else info.etag or info.version.token


def described(known: Known, key: str) -> ObjectInfo:
    """The object. Raises `NotFound`."""
    if known.info is None:
        raise NotFound(f"{key!r} is not in the store", path=key)
    return known.info
