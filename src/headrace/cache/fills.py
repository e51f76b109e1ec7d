"""The growing fills of this process: one for each page, bounded in bytes."""

from __future__ import annotations

import asyncio

from headrace.cache.buffers import Buffers
from headrace.cache.fill import Fill, Filler, Source, as_headrace_error
from headrace.cache.handles import CachedObject
from headrace.cache.layout import tag_of
from headrace.cache.moves import Moves
from headrace.cache.plan import Run
from headrace.model.clock import Clock
from headrace.model.events import FillEnded
from headrace.model.objects import Emit
from headrace.model.reading import Reading

_CLOSE_S = 5.0
_KEEP_BYTES = 32 << 20


class Fills:
    """Registry and owner of the fills' tasks."""

    def __init__(self, *, budget_bytes: int, clock: Clock, emit: Emit, moves: Moves | None) -> None:
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._emit = emit
        self._moves = moves
        self._buffers = Buffers(keep_bytes=min(budget_bytes, _KEEP_BYTES))
        self._growing: dict[tuple[bytes, int], Fill] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.held_bytes = 0
        self.fetched_bytes = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def find(self, object_id: bytes, page: int) -> Fill | None:
        """The fill that makes the page, if one does."""
        fill = self._growing.get((object_id, page))
        return None if fill is None or fill.abandoned else fill

    def start(self, target: CachedObject, run: Run, source: Source, *, mount: str, adopted: Reading | None = None) -> Fill | None:
        """Begin to fill a run, or None when too many bytes are growing already. The caller holds what it gets."""
        first, last = run.extent(target.geometry, target.size)
        if self.held_bytes + last - first > self._budget_bytes:
            return None
        fill = Fill(target, run, self._buffers)
        self.held_bytes += last - first
        for page in range(run.first, run.last):
            self._growing[(target.object_id, page)] = fill
        filler = Filler(fill, source, adopted=adopted, pinned=target.pinned)
        task = fill.task = asyncio.ensure_future(self._run(fill, filler, mount))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return fill

    async def ended(self, tag: bytes) -> None:
        """Return once none of a mount's fills grows. Those that began before must not publish after what follows."""
        tasks = {fill.task for (object_id, _), fill in self._growing.items() if tag_of(object_id) == tag and fill.task}
        if tasks:
            await asyncio.wait(tasks)

    async def settled(self, object_id: bytes) -> None:
        """Return once none of the object's fills grows that do so now."""
        tasks = {fill.task for (growing, _), fill in self._growing.items() if growing == object_id and fill.task}
        if tasks:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Give up the fills that lack bytes, let the others be written; returns when none is left."""
        await asyncio.sleep(0)  # let those just made begin: a task that never ran settles nothing
        fills = set(self._growing.values())
        for fill in fills:
            if fill.filled < fill.end and fill.task is not None:
                fill.task.cancel()
        tasks = set(self._tasks)
        if tasks:  # what has all its bytes is being written: soon done, or its device hangs
            _, hanging = await asyncio.wait(tasks, timeout=_CLOSE_S)
            for task in hanging:
                task.cancel()
            if hanging:
                await asyncio.wait(hanging)
        self._buffers.close()

    async def _run(self, fill: Fill, filler: Filler, mount: str) -> None:
        began = self._clock.monotonic()
        fill.begun = True
        try:
            await filler.run()
            fill.published = filler.kept or self._keep_in_memory(fill)
        except asyncio.CancelledError as error:
            fill.error = as_headrace_error(error, fill.target)
        except Exception as error:  # noqa: BLE001 - readers wait for this task: whatever went wrong must reach them
            fill.error = as_headrace_error(error, fill.target)
        finally:
            fill.over = True
            for page in range(fill.run.first, fill.run.last):
                if self._growing.get((fill.target.object_id, page)) is fill:
                    del self._growing[(fill.target.object_id, page)]
            self.held_bytes -= fill.end - fill.start
            self.fetched_bytes += fill.fetched
            fill.wake()
            seconds = self._clock.monotonic() - began
            self._emit(FillEnded(mount, fill.fetched, seconds, type(fill.error).__name__ if fill.error else ""))

    def _keep_in_memory(self, fill: Fill) -> bool:
        if self._moves is None:
            return False
        size = fill.target.geometry.page
        kept = True
        for page in range(fill.run.first, fill.run.last):
            data = fill.view(page * size, min((page + 1) * size, fill.end))
            kept = self._moves.put(fill.target, page, data) and kept
        return kept
