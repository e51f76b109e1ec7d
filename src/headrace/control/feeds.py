"""All feeds of a node: started and stopped together, shown together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from headrace.control.feed import Feed
from headrace.control.node_view import FeedStats


class Feeds:
    """Runs each feed as a task of its own."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = tuple(feeds)
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def start(self) -> None:
        self._tasks = tuple(asyncio.create_task(feed.run()) for feed in self._feeds)

    async def stop(self) -> None:
        """What was not committed is read again at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stats(self) -> tuple[FeedStats, ...]:
        return tuple(feed.stats for feed in self._feeds)
