"""Many sorted names in little memory: joined text, a thousand names to a block.

A Python string costs 50 bytes beside its letters; a directory of a million names has to stay far below that.
"""

from __future__ import annotations

import heapq
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice

_BLOCK_NAMES = 1024
_RUN_NAMES = 32_768


class SortedNames:
    """An immutable sorted sequence of names. Names hold no NUL."""

    __slots__ = ("_blocks", "_firsts", "count", "last", "size_bytes")

    def __init__(self, names: Iterable[str], *, limit: int = sys.maxsize, limit_bytes: int = sys.maxsize) -> None:
        """From sorted names, of which at most `limit` (and about `limit_bytes` of memory) are taken."""
        self._blocks: list[str] = []
        self._firsts: list[str] = []
        self.count = self.size_bytes = 0
        self.last = ""
        source = iter(names)
        while self.size_bytes < limit_bytes and (block := list(islice(source, min(_BLOCK_NAMES, limit - self.count)))):
            self._firsts.append(block[0])
            self._blocks.append("\0".join(block))
            self.count += len(block)
            self.last = block[-1]
            self.size_bytes += sys.getsizeof(self._blocks[-1])

    def __iter__(self) -> Iterator[str]:
        return self.iterate_from("")

    def iterate_from(self, low: str) -> Iterator[str]:
        """The names that are not before `low`."""
        for position in range(max(0, bisect_right(self._firsts, low) - 1), len(self._blocks)):
            for name in self._blocks[position].split("\0"):
                if name >= low:
                    yield name


class SmallestNames:
    """Collects names in any order and keeps the smallest: at most `limit`, and `limit_bytes` of memory."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._run_names = min(_RUN_NAMES, limit)
        self._loose: list[str] = []
        self._runs: list[SortedNames] = []
        self.high: str | None = None
        """Names behind this one are of no use any more; None while all are kept."""

    def add(self, name: str) -> None:
        if self.high is not None and name > self.high:  # others that sort before it were let go already
            return
        self._loose.append(name)
        if len(self._loose) > self._run_names:
            self._close_run()

    def take(self) -> SortedNames:
        """What was kept; call once, at the end."""
        self._close_run()
        return self._runs[0] if len(self._runs) == 1 else SortedNames(heapq.merge(*self._runs))

    def _close_run(self) -> None:
        self._loose.sort()
        self._runs.append(SortedNames(self._loose))
        self._loose.clear()
        count = sum(run.count for run in self._runs)
        if count > self._limit or sum(run.size_bytes for run in self._runs) > self._limit_bytes:
            kept = self._merged()
            if kept.count < count:
                self.high = kept.last
            self._runs = [kept]

    def _merged(self) -> SortedNames:
        # Half of the memory, so that the next runs do not merge everything again at once.
        merged = heapq.merge(*self._runs)
        return SortedNames(merged, limit=self._limit, limit_bytes=self._limit_bytes // 2)
