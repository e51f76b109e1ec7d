"""Group commit: everything that waits is written and fsynced together, while the next group gathers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from headrace.model.errors import Unavailable
from headrace.staging.journal import Journal

T = TypeVar("T")

_MAX_WAITING_BYTES = 64 << 20


class Committer:
    """Appends to one journal from one process, one group at a time."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="headrace-journal")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None

    async def append(self, record: bytes) -> None:
        """Return once the record is durable. Raises `JournalFailed`, and `Unavailable` when too much waits already."""
        if self._waiting_bytes + len(record) > _MAX_WAITING_BYTES and self._waiting:
            raise Unavailable(f"{self._waiting_bytes} bytes wait for the journal's disk already: try again", retry_after_s=1.0)
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        durable.add_done_callback(_seen)
        self._waiting.append((record, durable))
        self._waiting_bytes += len(record)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._commit())
        # The record is on its way, whether or not who asked still waits: this future is nobody else's.
        await durable

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Run a call of the journal that must not run beside an append."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def close(self) -> None:
        """Let what waits be committed."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        self._thread.shutdown(wait=False)

    async def _commit(self) -> None:
        while self._waiting:
            group, self._waiting, self._waiting_bytes = self._waiting, [], 0
            try:
                await self.in_thread(partial(self._journal.append, [record for record, _ in group]))
            except Exception as error:  # noqa: BLE001  whoever waits must learn of it, whatever it is
                for _, durable in group:
                    if not durable.done():
                        durable.set_exception(error)
            else:
                self._journal.sync()
                for _, durable in group:
                    if not durable.done():
                        durable.set_result(None)


def _seen(durable: asyncio.Future[None]) -> None:
    """Whoever asked may have gone: then nobody looks at what became of it."""
    if not durable.cancelled():
        durable.exception()
