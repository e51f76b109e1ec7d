"""A child of the supervisor that only does as its home's name says: `good`, `refuses`, `dies`, `hangs`, `slow`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

from headrace.control.node_view import Counters
from headrace.model.errors import SettingsError
from headrace.node.channel import Channel
from headrace.node.messages import Apply, AskStats, Boot, Done, Drain, Reply, Request, WorkerReport


class TinyChild:
    """Reports the epoch in force as its number of requests."""

    def __init__(self) -> None:
        self.channel = Channel(self.answer, lambda _: None)
        self.ended = asyncio.Event()
        self._home = Path()
        self._epoch = 0

    async def answer(self, request: Request) -> Reply:
        match request:
            case Boot():
                await self._boot(request)
            case Apply():
                if self._home.name == "hangs":
                    await asyncio.Event().wait()
                self._epoch = request.state.epoch
            case AskStats():
                return WorkerReport(Counters(requests=self._epoch))
            case Drain():
                if self._home.name == "hangs":
                    await asyncio.Event().wait()
                self.ended.set()
        return Done()

    async def _boot(self, boot: Boot) -> None:
        self._home, self._epoch = Path(boot.home), boot.state.epoch
        match self._home.name:
            case "refuses":
                raise SettingsError("this child never starts")
            case "dies":
                os._exit(7)
            case "slow":
                (self._home / "booting").touch()
                while not (self._home / "go").exists():
                    await asyncio.sleep(0.01)


async def run(channel_fd: int) -> None:
    child = TinyChild()
    await child.channel.start(socket.socket(fileno=channel_fd))
    waits = [asyncio.ensure_future(child.channel.closed.wait()), asyncio.ensure_future(child.ended.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1])))
