"""The fills that one reading draws from: begun where nobody fills yet, held for as long as they are needed."""

from __future__ import annotations

from headrace.cache.fill import Fill, Source
from headrace.cache.handles import CachedObject
from headrace.cache.layout import CHUNK_PAGES
from headrace.cache.pages import PageCache
from headrace.cache.plan import run_at
from headrace.model.reading import Reading


class HeldFills:
    """Fills of one version's pages. Runs of pages are given as the first and the one behind the last, all of one chunk."""

    __slots__ = ("_held", "_mount", "_pages", "_source", "_target", "saw_present")

    def __init__(self, pages: PageCache, target: CachedObject, source: Source, mount: str) -> None:
        self._pages = pages
        self._target = target
        self._source = source
        self._mount = mount
        self._held: list[Fill] = []
        self.saw_present = False
        """Whether any of the pages asked about was in a tier."""

    def __bool__(self) -> bool:
        return bool(self._held)

    def adopt(self, first: int, last: int, reading: Reading) -> bool:
        """Hold a fill of pages that begins with a reading that is already open. False when it is of no use."""
        geometry, fills = self._target.geometry, self._pages.fills
        if fills.find(self._target.object_id, first) is not None:
            return False
        run = run_at(geometry, self._target.size, first, last, self._presence(first, last))
        if run is None or run.first * geometry.page != reading.range.start:
            return False
        fill = fills.start(self._target, run, self._source, mount=self._mount, adopted=reading)
        if fill is None:
            return False
        self._hold(fill)
        return True

    def draw(self, first: int, last: int) -> bool:
        """Hold the fills that pages come from. False when none does."""
        fills = self._ensure(first, last)
        for fill in fills:
            if fill not in self._held:
                self._hold(fill)
        return bool(fills)

    def start_for_good(self, first: int, last: int) -> None:
        """Have pages filled, of any number of chunks, although nobody waits for them."""
        while first < last:
            chunk_end = min(last, first - first % CHUNK_PAGES + CHUNK_PAGES)
            for fill in self._ensure(first, chunk_end):
                fill.hold()  # never released: such a page is worth keeping when its readers have left
            first = chunk_end

    def at(self, position: int) -> Fill | None:
        """The one that the byte comes from; those that are of no use behind it are let go."""
        for fill in list(self._held):
            if fill.end <= position or fill.published or (fill.error is not None and fill.start > position):
                self.let_go(fill)
            elif fill.start <= position:
                return fill
        return None

    def let_go(self, fill: Fill) -> None:
        self._held.remove(fill)
        fill.release()

    def release(self) -> None:
        """Let go of all."""
        held, self._held = self._held, []
        for fill in held:
            fill.release()

    def _hold(self, fill: Fill) -> None:
        fill.hold()
        self._held.append(fill)

    def _ensure(self, first: int, last: int) -> list[Fill]:
        """The fills that pages `first` up to `last`, all of one chunk, come from; begun where needed."""
        target, fills = self._target, self._pages.fills
        found: list[Fill] = []
        while first < last:
            growing = fills.find(target.object_id, first)
            if growing is None:
                run = run_at(target.geometry, target.size, first, last, self._presence(first, last))
                if run is None:
                    break
                growing = fills.find(target.object_id, run.first)
                growing = growing or fills.start(target, run, self._source, mount=self._mount)
                if growing is None:
                    break
            found.append(growing)
            first = growing.run.last
        return found

    def _presence(self, first: int, last: int) -> list[bool]:
        """Which pages are in a tier. Of a run that begins a chunk with an absent page, all count as absent."""
        there: list[bool] = []
        page = first
        while page < last:
            count = min(self._pages.holds(self._target, page), last - page)
            if not count and page == first and first % CHUNK_PAGES == 0 and (last - first) * 2 > CHUNK_PAGES:
                return [False] * (last - first)
            self.saw_present = self.saw_present or count > 0
            there += [True] * count if count else [False]
            page += count or 1
        return there
