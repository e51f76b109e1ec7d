"""One child process of the supervisor: start it, speak to it, start it again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence

from headrace.model.errors import HeadraceError, Unavailable
from headrace.node.channel import Channel, Listener
from headrace.node.messages import Apply, Boot, Done, Reply, Request

_log = logging.getLogger("headrace.supervisor")

_STEADY_S = 5.0
_LONGEST_WAIT_S = 5.0
_EXIT_S = 5.0
BOOT_TIMEOUT_S = 60.0


def wait_before_restart(quick_deaths: int) -> float:
    """Seconds to wait before the next start, after so many short lives in a row."""
    return min(_LONGEST_WAIT_S, 0.1 * 2.0 ** min(quick_deaths, 10)) if quick_deaths else 0.0


class Child:
    """A worker process on the supervisor's side.

    `boot` makes its first message anew at each start, once `known` is set, so that a restarted
    worker begins with the state in force. `fds` are inherited at every start; the supervisor keeps them open.
    """

    def __init__(
        self, module: str, *, boot: Callable[[], Boot], known: asyncio.Event, fds: Sequence[int], on_event: Listener
    ) -> None:
        self._module = module
        self._boot = boot
        self._known = known
        self._fds = tuple(fds)
        self._on_event = on_event
        self._stopping = asyncio.Event()
        self._channel: Channel | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self.restarts = 0
        self.started_s = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None and self.ready.is_set()

    async def run(self) -> None:
        """Keep the process running until `stop`; each start after a quick death waits longer."""
        quick = 0
        while not self._stopping.is_set():
            self.started_s = time.monotonic()
            try:
                ended = await self._live()
            except OSError as error:
                ended = f"could not be started ({error})"
            if self._stopping.is_set():
                return
            quick = quick + 1 if time.monotonic() - self.started_s < _STEADY_S else 0
            wait_s = wait_before_restart(quick)
            _log.error("%s %s; starting it again in %.1f s", self._module, ended, wait_s)
            self.restarts += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def ask(self, request: Request, *, timeout_s: float | None = None) -> Reply:
        """As `Channel.ask`. Raises `Unavailable` while no process runs."""
        if self._channel is None:
            raise Unavailable(f"{self._module} is being started again: try again in a second")
        return await self._channel.ask(request, timeout_s=timeout_s)

    def kill(self) -> None:
        """End the process at once; `run` starts another one, which begins with the state in force."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self, request: Request, *, timeout_s: float) -> None:
        """Ask it to end, wait, then make it end. One that is still starting has nothing to finish."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        if self.ready.is_set():
            try:
                await self.ask(request, timeout_s=timeout_s)
                await asyncio.wait_for(process.wait(), _EXIT_S)
            except (HeadraceError, TimeoutError) as error:
                if process.returncode is None:
                    _log.error("process %d did not end by itself and is killed: %s", process.pid, str(error) or "it hangs")
        self.kill()
        await process.wait()

    async def _live(self) -> str:
        """One life of the process: how it ended, in words. Raises `OSError` when it cannot be started."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        command = [sys.executable, "-m", self._module, str(theirs.fileno()), *(str(fd) for fd in self._fds)]
        with contextlib.ExitStack() as until_started, theirs:
            until_started.callback(ours.close)
            process = await asyncio.create_subprocess_exec(
                *command, pass_fds=(theirs.fileno(), *(fd for fd in self._fds if fd >= 0)), env=dict(os.environ)
            )
            until_started.pop_all()
        self._process = process
        channel = Channel(_nobody, self._on_event)
        try:
            await channel.start(ours)
            self._channel = channel
            refused = await self._introduce(channel)
            if refused:
                self.kill()
            code = await process.wait()
        finally:
            self.ready.clear()
            self._channel = None
            channel.close()
            self.kill()
        return f"(process {process.pid}) did not start: {refused}" if refused else f"(process {process.pid}) ended with {code}"

    async def _introduce(self, channel: Channel) -> str:
        """Boot it, and set `ready` in the moment when it has the newest state. Answers why that failed, or nothing."""
        try:
            await _first(self._known, channel.closed)
            if self._stopping.is_set() or not self._known.is_set():
                return "it ended before there was a state to begin with"
            boot = self._boot()
            await channel.ask(boot, timeout_s=BOOT_TIMEOUT_S)
            epoch = boot.state.epoch
            # A state that came into force since `boot` was made was pushed to ready processes only.
            while (state := self._boot().state).epoch != epoch:
                await channel.ask(Apply(state), timeout_s=BOOT_TIMEOUT_S)
                epoch = state.epoch
        except HeadraceError as error:
            return str(error)
        self.ready.set()
        return ""


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _nobody(request: Request) -> Reply:
    del request
    return Done()
