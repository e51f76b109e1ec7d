"""What a child process of the supervisor runs until it is told to end, or is left alone."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Protocol

from headrace.node.channel import Channel


class Drainable(Protocol):
    """A child process's work. It sets `ended` when it has been drained."""

    channel: Channel
    ended: asyncio.Event

    async def drain(self) -> None: ...


async def run_until_ended(process: Drainable, channel_fd: int, log: logging.Logger) -> None:
    """Serve the supervisor; when it is gone, finish what runs and end all the same."""
    await process.channel.start(socket.socket(fileno=channel_fd))
    gone = asyncio.create_task(process.channel.closed.wait())
    ended = asyncio.create_task(process.ended.wait())
    await asyncio.wait((gone, ended), return_when=asyncio.FIRST_COMPLETED)
    if not process.ended.is_set():
        log.error("the supervisor is gone; finishing what runs, then ending")
        await process.drain()
    # The reply to Drain is on its way; the channel is closed by the process's end.
    await asyncio.sleep(0)
