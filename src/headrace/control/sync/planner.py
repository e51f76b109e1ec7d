"""What is to be done so that two sides are alike: three sorted streams in, a stream of decisions out. Pure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from headrace.control.sync.steps import Seen, Side, Step, Verb
from headrace.ledger.sync_records import ConflictRule, Mode, SyncPair
from headrace.model.errors import CorruptData

_MD5 = re.compile("[0-9a-f]{32}")
_MULTIPART = re.compile(r"[0-9a-f]{32}-\d+")


class Rules(msgspec.Struct, frozen=True):
    """Of a `SyncSpec`, what decides."""

    mode: Mode
    conflict: ConflictRule
    checksum: bool = False


class Agree(msgspec.Struct, frozen=True):
    """Both sides have the same bytes: to be remembered. `is_gone`: neither has the key any more."""

    pair: SyncPair
    is_gone: bool = False


Decision = Step | Agree


class Likeness(StrEnum):
    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


def likeness(a: Seen, b: Seen) -> Likeness:
    """Whether two objects have the same bytes, as far as their listings tell."""
    if a.size != b.size:
        return Likeness.DIFFERENT
    if not a.size:
        return Likeness.SAME
    if _MD5.fullmatch(a.etag) and _MD5.fullmatch(b.etag):
        return Likeness.SAME if a.etag == b.etag else Likeness.DIFFERENT
    if a.etag == b.etag and _MULTIPART.fullmatch(a.etag):
        return Likeness.SAME
    return Likeness.UNKNOWN


def decide(rules: Rules, pair: SyncPair | None, a: Seen | None, b: Seen | None) -> Decision | None:
    """What is to be done about one key; None: nothing. `pair` is what both sides last agreed on."""
    if a is None and b is None:
        return None if pair is None else Agree(pair, is_gone=True)
    if a is not None and b is not None:
        if pair is not None and (pair.a, pair.b) == (a.mark, b.mark):
            return None
        return _both(rules, pair, a, b)
    if rules.mode is Mode.MIRROR:
        return _step(Verb.COPY if b is None else Verb.DELETE, Side.B, a, b)
    side, there = (Side.A, a) if b is None else (Side.B, b)
    if pair is not None and there is not None and there.mark == (pair.a if side is Side.A else pair.b):
        return _step(Verb.DELETE, side, a, b)
    # New, or changed since: what somebody wrote survives another's removal.
    return _step(Verb.COPY, side.other, a, b)


def _both(rules: Rules, pair: SyncPair | None, a: Seen, b: Seen) -> Decision:
    alike = likeness(a, b)
    if alike is Likeness.SAME or (alike is Likeness.UNKNOWN and pair is None and not rules.checksum and _same_moment(a, b)):
        return Agree(SyncPair(a.key, a.mark, b.mark))
    if rules.mode is Mode.MIRROR:
        return _step(Verb.COMPARE if alike is Likeness.UNKNOWN and rules.checksum else Verb.COPY, Side.B, a, b)
    if pair is not None and pair.b == b.mark:
        return _step(Verb.COPY, Side.B, a, b)
    if pair is not None and pair.a == a.mark:
        return _step(Verb.COPY, Side.A, a, b)
    if a.size == b.size:
        # ETags that look like MD5s need not be: no conflict is made of equal bytes.
        return _step(Verb.COMPARE, Side.B, a, b)
    return _conflict(rules, a, b)


def after_comparison(rules: Rules, step: Step, *, same: bool) -> Decision:
    """What follows a comparison."""
    a, b = step.a, step.b
    if a is None or b is None:
        raise ValueError(f"{step.key!r} was compared with nothing")
    if same:
        return Agree(SyncPair(step.key, a.mark, b.mark))
    return _step(Verb.COPY, Side.B, a, b) if rules.mode is Mode.MIRROR else _conflict(rules, a, b)


def _conflict(rules: Rules, a: Seen, b: Seen) -> Step:
    towards = Side.A if b.modified_s > a.modified_s else Side.B
    verb = Verb.COPY
    if rules.conflict is ConflictRule.PREFER_A:
        towards = Side.B
    elif rules.conflict is ConflictRule.PREFER_B:
        towards = Side.A
    elif rules.conflict is ConflictRule.KEEP_BOTH or a.modified_s == b.modified_s:
        verb = Verb.KEEP_BOTH
    return Step(verb, a.key, towards, a, b, is_conflict=True)


def _same_moment(a: Seen, b: Seen) -> bool:
    """Equal to a fraction of a second: one was made of the other by a program that keeps times."""
    return a.modified_s == b.modified_s and a.modified_s % 1 != 0


def _step(verb: Verb, towards: Side, a: Seen | None, b: Seen | None) -> Step:
    there = a or b
    if there is None:
        raise ValueError("a step is about an object")
    return Step(verb, there.key, towards, a, b)


class Source(StrEnum):
    """Where a merge draws from."""

    PAIRS = "pairs"
    A = "a"
    B = "b"


class Merge:
    """Joins the pairs of the last agreement and both listings by key, page by page, in memory that their pages bound.

    While `wants` names sources, `feed` it their next pages; `take` yields the decisions that are certain by then.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._pairs: deque[SyncPair] = deque()
        self._seen: dict[Source, deque[Seen]] = {Source.A: deque(), Source.B: deque()}
        self._ended = dict.fromkeys(Source, False)
        self._last: dict[Source, str | None] = dict.fromkeys(Source)
        self.counts = {Source.A: 0, Source.B: 0}
        """Objects that the listings have shown."""

    @property
    def is_over(self) -> bool:
        return all(self._ended.values()) and not self._pairs and not any(self._seen.values())

    def wants(self) -> tuple[Source, ...]:
        """Sources without which nothing more can be decided."""
        return tuple([source for source in Source if not self._ended[source] and not self._buffer(source)])

    def feed(self, source: Source, items: Sequence[Seen] | Sequence[SyncPair], *, ended: bool) -> None:
        """The next page. Raises `CorruptData` when it is not in the order of keys: what seems absent then may be there."""
        last = self._last[source]
        for item in items:
            if last is not None and item.key <= last:
                raise CorruptData(f"a listing shows {item.key!r} behind {last!r}: it is not in order, so nothing is concluded")
            last = item.key
        self._last[source] = last
        self._ended[source] = ended
        if source is Source.PAIRS:
            self._pairs.extend([item for item in items if isinstance(item, SyncPair)])
            return
        self.counts[source] += len(items)
        self._seen[source].extend([item for item in items if isinstance(item, Seen)])

    def take(self) -> Iterator[Decision]:
        """Decisions about all keys up to the smallest end of a page."""
        pairs, seen_a, seen_b = self._pairs, self._seen[Source.A], self._seen[Source.B]
        while (
            (pairs or self._ended[Source.PAIRS])
            and (seen_a or self._ended[Source.A])
            and (seen_b or self._ended[Source.B])
            and (pairs or seen_a or seen_b)
        ):
            key = min([heads[0].key for heads in (pairs, seen_a, seen_b) if heads])
            pair = pairs.popleft() if pairs and pairs[0].key == key else None
            a = seen_a.popleft() if seen_a and seen_a[0].key == key else None
            b = seen_b.popleft() if seen_b and seen_b[0].key == key else None
            decision = decide(self._rules, pair, a, b)
            if decision is not None:
                yield decision

    def _buffer(self, source: Source) -> Sequence[Seen] | Sequence[SyncPair] | deque[Seen] | deque[SyncPair]:
        return self._pairs if source is Source.PAIRS else self._seen[source]


def too_many(deleted: int, objects: int, max_delete: int) -> bool:
    """Whether a run that would remove `deleted` of a side's `objects` has to be forced."""
    return deleted * 100 > objects * max_delete
