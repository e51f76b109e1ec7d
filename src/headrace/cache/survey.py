"""A survey: all that a store has in a span of keys is listed now, and what differs from the last survey is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from headrace.cache.pieces import PIECE_KEYS, Page, pages
from headrace.cache.snapshot import Damaged, Head, Record, SnapshotReader, SnapshotWriter, Span, encode, file_of, joined
from headrace.cache.store import CachedStore
from headrace.model.errors import HeadraceError, Unavailable
from headrace.model.mounts import Residency
from headrace.model.objects import ObjectInfo
from headrace.stores.keys import text_behind

T = TypeVar("T")

_COVERED_MAX = 1000
_LAST = "\U0010ffff"


class Differences(msgspec.Struct, frozen=True):
    """What a survey has found so far, in numbers of objects."""

    objects: int = 0
    """Listed."""
    added: int = 0
    changed: int = 0
    deleted: int = 0
    ours: int = 0
    """Of all differences, those that this node's own writes made; in none of the counts before."""
    new: int = 0
    """Of `objects`, those of which no earlier survey could tell: they are compared with nothing."""
    note: str = ""
    """Why the next survey will find some of it again; empty when it will not."""

    def plus(self, other: Differences) -> Differences:
        return Differences(
            self.objects + other.objects,
            self.added + other.added,
            self.changed + other.changed,
            self.deleted + other.deleted,
            self.ours + other.ours,
            self.new + other.new,
            self.note or other.note,
        )


class Tally:
    """Counts differences as they are found, and voids what was known of their keys."""

    def __init__(self, void: Callable[[str], None], was_own: Callable[[str, ObjectInfo | None], bool]) -> None:
        self._void = void
        self._was_own = was_own
        self.objects = self.added = self.changed = self.deleted = self.ours = self.new = 0

    def differs(self, key: str, info: ObjectInfo | None, *, before: bool) -> None:
        """The key has (None: has no more) an object that is not what it was; `before`: there was one."""
        self._void(key)
        if self._was_own(key, info):
            self.ours += 1
        elif info is None:
            self.deleted += 1
        elif before:
            self.changed += 1
        else:
            self.added += 1

    def found(self, note: str) -> Differences:
        return Differences(self.objects, self.added, self.changed, self.deleted, self.ours, self.new, note)


class Comparison:
    """A listing, handed in page by page, beside the snapshot of the last one; makes the next snapshot. Blocks for the disk.

    Spans come in order. What an interrupted listing has not reached is compared with nothing: half of one deletes nothing.
    """

    def __init__(self, path: Path, tally: Tally) -> None:
        self._path = path
        self._tally = tally
        self._old: SnapshotReader | None = None
        self._new = SnapshotWriter(path)
        self._covered: tuple[Span, ...] = ()
        self._is_covered = False

    def open(self, spans: Sequence[Span], hidden: tuple[str, ...], *, what: str) -> None:
        """Before anything else. Raises `Unavailable` while another survey of the same runs."""
        self._new.claim(what)
        self._old = _open(self._path, hidden)
        self._covered = self._old.head.covered if self._old is not None else ()
        covered = joined((*self._covered, *spans))
        if len(covered) > _COVERED_MAX:
            self._forget()
            covered = joined(spans)
        self._new.begin(Head(covered, hidden))

    def begin(self, span: Span) -> Iterable[str]:
        """What follows lies in `span`. Answers with keys at which its pages may be cut, which are read as they are drawn."""
        self._is_covered = any(known.covers(span) for known in self._covered)
        if self._old is not None and span.low:
            self._old.hand_on(span.low, self._new)
        return self._old.ends(span, PIECE_KEYS) if self._old is not None else ()

    def add(self, infos: Sequence[ObjectInfo], below: str) -> None:
        """All objects that follow and lie below a text (empty: all that there are)."""
        records: list[Record] = [(info.key, info.version.token, info.modified_s) for info in infos]
        self._tally.objects += len(records)
        body = encode(records)
        if not (records and self._old is not None and self._old.passes_same(body)):
            self._compare(records, infos, below)
        if records:
            self._new.add(records[-1][0], len(records), body)

    def finish(self) -> str:
        """Put the new snapshot in place of the old one. Why that was not possible, or nothing."""
        if self._old is not None:
            self._old.hand_on("", self._new)
        self._new.finish()
        return self._new.failure

    def forget_old(self) -> None:
        """The old snapshot turned out to be of no use."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of what is not finished."""
        self._forget()
        self._new.close()

    def _compare(self, records: list[Record], infos: Sequence[ObjectInfo], below: str) -> None:
        now = {record[0]: (record, info) for record, info in zip(records, infos, strict=True)}
        for batch in self._old.take(below) if self._old is not None else ():
            for record in batch:
                found = now.pop(record[0], None)
                if found is None:
                    self._tally.differs(record[0], None, before=True)
                elif found[0] != record:
                    self._tally.differs(record[0], found[1], before=True)
        for key, (_, info) in now.items():
            if self._is_covered or any(known.holds(key) for known in self._covered):
                self._tally.differs(key, info, before=False)
            else:
                self._tally.new += 1

    def _forget(self) -> None:
        if self._old is not None:
            self._old.close()
            self._old, self._covered = None, ()


def _open(path: Path, hidden: tuple[str, ...]) -> SnapshotReader | None:
    """The last snapshot, if it can be trusted and told of the same keys."""
    try:
        old = SnapshotReader(path)
    except (OSError, Damaged):
        return None
    if old.head.hidden != hidden:
        old.close()
        return None
    return old


class Survey:
    """One look through a store. Without a `path` nothing is written down, and nothing can be compared.

    While it runs, what was known of a key that differs is void at once. When it is over, so is all that any process of the
    node knew of the mount: a key that came and went between two surveys is in neither.
    """

    def __init__(self, cached: CachedStore, spans: Sequence[Span], *, hidden: tuple[str, ...], path: Path | None) -> None:
        self._inner = cached.inner
        self._knowledge = cached.knowledge
        self._at_once = cached.options.pages_at_once
        self._spans = spans
        self._hidden = hidden
        self._path = path
        self._what = cached.options.mount
        self._tally = Tally(cached.knowledge.void, cached.knowledge.was_own)
        self._note = ""

    @property
    def found(self) -> Differences:
        """So far."""
        return self._tally.found(self._note)

    async def run(self) -> None:
        """Raises what listing raises, and `Unavailable` while another survey of the same runs."""
        comparison = Comparison(self._path, self._tally) if self._path is not None else None
        try:
            if comparison is not None:
                await _in_thread(partial(comparison.open, self._spans, self._hidden, what=self._what))
            for span in self._spans:
                await self._walk(span, comparison)
            self._knowledge.void_all()
            if comparison is not None:
                failure = await _in_thread(comparison.finish)
                self._note = f"what was listed could not be written down: {failure}" if failure else ""
        except HeadraceError:
            raise  # some of them are OSErrors, too
        except (OSError, Damaged) as error:
            if comparison is not None:
                comparison.forget_old()
            message = f"{self._what}: what was listed the last time cannot be read ({error}) and is forgotten: repeat it"
            raise Unavailable(message, path=self._what) from error
        finally:
            if comparison is not None:
                comparison.close()

    async def _walk(self, span: Span, comparison: Comparison | None) -> None:
        """List a span; while a page is compared, others are on their way."""
        ends = await _in_thread(partial(comparison.begin, span)) if comparison is not None else ()
        async with aclosing(pages(partial(self._page, span), ends, self._at_once)) as listed:
            async for infos, after in listed:
                if comparison is None:
                    self._tally.objects += len(infos)
                    self._tally.new += len(infos)
                else:
                    below = span.high if after is None else after + "\0"
                    await _in_thread(partial(comparison.add, infos, below))

    async def _page(self, span: Span, after: str, most: int) -> Page:
        """The next objects of a span, and where to go on."""
        one = span.high == span.low + "\0"
        page = await self._inner.list(span.low, after=after, limit=1 if one else most)
        infos = [entry for entry in page.entries if isinstance(entry, ObjectInfo)]
        if one:
            return Page([info for info in infos if info.key == span.low], None)
        if not self._hidden:
            return Page(infos, page.after)
        shown = [info for info in infos if not info.key.startswith(self._hidden)]
        over = next((hidden for hidden in self._hidden if infos and infos[-1].key.startswith(hidden)), "")
        return Page(shown, page.after if page.after is None or not over else over + _LAST)


async def _in_thread(work: Callable[[], T]) -> T:
    """As `asyncio.to_thread`, but when it is cancelled the thread has ended too: nothing is closed under its hands."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    finally:
        await asyncio.wait((working,))


def survey_of(cached: CachedStore, spans: Sequence[Span], *, hidden: tuple[str, ...], folder: Path | None) -> Survey:
    """A survey of the store behind a cache. Names go to `folder` only where bytes may go to a disk."""
    options = cached.options
    kept = folder is not None and options.residency is Residency.DISK
    path = file_of(folder, options.identity) if folder is not None and kept else None
    return Survey(cached, spans, hidden=hidden, path=path)


def spans_of(key: str) -> tuple[Span, ...]:
    """All keys at or below `key` (empty: all keys), in order."""
    if not key:
        return (Span(""),)
    if key.endswith("/"):
        return (Span(key, text_behind(key)),)
    return Span(key, key + "\0"), Span(key + "/", text_behind(key + "/"))
