import asyncio
import logging
import socket

import pytest

from headrace.node.channel import Channel
from headrace.node.child_loop import run_until_ended
from headrace.node.messages import Reply, Request

LOG = logging.getLogger("child")


class Work:
    """Counts its drains."""

    def __init__(self) -> None:
        self.channel = Channel(self._refuse, lambda _: None)
        self.ended = asyncio.Event()
        self.drains = 0

    async def drain(self) -> None:
        self.drains += 1
        self.ended.set()

    async def _refuse(self, request: Request) -> Reply:
        raise AssertionError(request)


async def test_a_child_whose_supervisor_is_gone_finishes_and_ends_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    work = Work()
    running = asyncio.create_task(run_until_ended(work, theirs.detach(), LOG))
    ours.close()
    await asyncio.wait_for(running, 10)
    assert work.drains == 1
    assert "the supervisor is gone" in caplog.text
    work.channel.close()


async def test_a_child_that_was_drained_ends_without_a_second_time() -> None:
    ours, theirs = socket.socketpair()
    work = Work()
    running = asyncio.create_task(run_until_ended(work, theirs.detach(), LOG))
    await work.drain()
    await asyncio.wait_for(running, 10)
    assert work.drains == 1
    work.channel.close()
    ours.close()
