"""The keeper process: `python -m headrace.node.keeper CHANNEL_FD`. One thread for each page directory of `[cache] disk`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
from pathlib import Path

import msgspec

from headrace.cache.keeper import Keeper, run_in_thread
from headrace.cache.merge import Merger
from headrace.cache.scrub import Scrubber
from headrace.control.node_view import TierStats
from headrace.model.clock import SystemClock
from headrace.model.events import TierFault
from headrace.node.channel import Channel
from headrace.node.child_loop import run_until_ended
from headrace.node.logs import log_to
from headrace.node.messages import AskStats, Boot, Done, Drain, Event, Reply, Request, WorkerReport
from headrace.node.tally import Tally
from headrace.node.view import rss_bytes

_log = logging.getLogger("headrace.keeper")
_STUCK_S = 60.0


class KeeperProcess:
    """What the supervisor's channel drives: started by `Boot`, ended by `Drain`."""

    def __init__(self) -> None:
        self.channel = Channel(self.answer, lambda _: None)
        self.ended = asyncio.Event()
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._tally = Tally(self._tell)
        self._keepers: dict[str, Keeper] = {}
        self._threads: list[threading.Thread] = []

    async def answer(self, request: Request) -> Reply:
        match request:
            case Boot():
                self._boot(request)
            case AskStats():
                return WorkerReport(self._tally.counters(), tiers=self._tiers(), rss_bytes=rss_bytes())
            case Drain():
                await self.drain()
        return Done()

    async def drain(self) -> None:
        """End the threads; nothing of theirs needs to be saved."""
        self._stop.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 5.0)
        self.ended.set()

    def _boot(self, boot: Boot) -> None:
        geometry = boot.cache.geometry
        for disk in boot.cache.disk:
            root = str(disk.root(Path(boot.home)))
            try:
                Path(root).mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                # The keeper's own loop tries again and again; the other directories must not go without one meanwhile.
                self._tally.emit(TierFault("disk", "mkdir", str(error), f"make {root} a directory that this user may write"))
            keeper = Keeper(
                root,
                disk.capacity_bytes,
                geometry,
                clock=SystemClock(),
                emit=self._emit,
                chores=(Merger(root, geometry), Scrubber(root, geometry)),
            )
            self._keepers[root] = keeper
            self._threads.append(run_in_thread(keeper, self._stop))

    def _emit(self, event: object) -> None:
        # Keepers run in threads; the tally and the channel belong to the loop.
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._tally.emit, event)

    def _tell(self, event: Event) -> None:
        self.channel.tell(event)

    def _tiers(self) -> tuple[TierStats, ...]:
        return tuple(_tier(root, keeper) for root, keeper in self._keepers.items())


def _tier(root: str, keeper: Keeper) -> TierStats:
    stats = keeper.stats()
    tier = TierStats(root, stats.capacity, stats.bytes, stats.segments)
    if stats.age_s > _STUCK_S:
        note = f"the keeper's loop has not gone round for {stats.age_s:.0f} s: check the device"
        return msgspec.structs.replace(tier, healthy=False, note=note)
    if not stats.elected:
        return msgspec.structs.replace(tier, note="another process keeps this page directory")
    return tier


async def _run(channel_fd: int) -> None:
    await run_until_ended(KeeperProcess(), channel_fd, _log)


def main() -> None:
    # What the terminal's Ctrl-C means is the supervisor's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_to(None)
    asyncio.run(_run(int(sys.argv[1])))


if __name__ == "__main__":
    main()
