"""One child process of the supervisor: start it, speak to it, start it again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from headrace.model.errors import HeadraceError
from headrace.node.channel import Channel, Listener
from headrace.node.messages import Boot, Done, Reply, Request

_log = logging.getLogger("headrace.supervisor")

_STEADY_S = 5.0
_LONGEST_WAIT_S = 5.0
BOOT_TIMEOUT_S = 60.0


class Child:
    """A worker process on the supervisor's side.

    `boot` makes its first message anew at each start, once the state is known, so that a restarted
    worker begins with the state in force. `fds` are inherited at every start; the supervisor keeps them open.
    """

    def __init__(self, module: str, *, boot: Callable[[], Awaitable[Boot]], fds: Sequence[int], on_event: Listener) -> None:
        self._module = module
        self._boot = boot
        self._fds = tuple(fds)
        self._on_event = on_event
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        self.channel: Channel | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0
        self.started_s = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None and self.ready.is_set()

    async def run(self) -> None:
        """Keep the process running until `stop`; each start after a quick death waits longer."""
        quick = 0
        while not self._stopping.is_set():
            process = await self._start()
            code = await process.wait()
            self._forget()
            if self._stopping.is_set():
                return
            quick = quick + 1 if time.monotonic() - self.started_s < _STEADY_S else 0
            wait_s = min(_LONGEST_WAIT_S, 0.1 * 2.0**quick) if quick else 0.0
            _log.error("%s (process %d) ended with %s; starting it again in %.1f s", self._module, self.pid, code, wait_s)
            self.restarts += 1
            await asyncio.sleep(wait_s)

    async def ask(self, request: Request, *, timeout_s: float | None = None) -> Reply:
        if self.channel is None:
            return await Channel(_nobody, self._on_event).ask(request)
        return await self.channel.ask(request, timeout_s=timeout_s)

    async def stop(self, request: Request, *, timeout_s: float) -> None:
        """Ask it to end, wait, then make it end."""
        self._stopping.set()
        process = self.process
        if process is None or process.returncode is not None:
            return
        try:
            await self.ask(request, timeout_s=timeout_s)
            await asyncio.wait_for(process.wait(), 5.0)
        except (HeadraceError, TimeoutError):
            _log.error("process %d did not end in time; it is killed", process.pid)
            process.kill()
            await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        command = [sys.executable, "-m", self._module, str(theirs.fileno()), *(str(fd) for fd in self._fds)]
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command, pass_fds=(theirs.fileno(), *(fd for fd in self._fds if fd >= 0)), env=dict(os.environ)
            )
        self.process = process
        self.started_s = time.monotonic()
        self.channel = Channel(_nobody, self._on_event)
        await self.channel.start(ours)
        try:
            await self.channel.ask(await self._boot(), timeout_s=BOOT_TIMEOUT_S)
        except HeadraceError as error:
            _log.error("process %d did not start: %s", process.pid, error)
            if process.returncode is None:
                process.kill()
            return process
        self.ready.set()
        return process

    def _forget(self) -> None:
        self.ready.clear()
        if self.channel is not None:
            self.channel.close()
            self.channel = None


async def _nobody(request: Request) -> Reply:
    del request
    return Done()
