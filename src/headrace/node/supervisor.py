"""`headrace up`: starts the workers, serves the control port, and keeps all of it running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace.cache.arena import MemoryTier
from headrace.control.node_view import NodeView
from headrace.control.state import NodeState
from headrace.model.clock import SystemClock
from headrace.model.errors import HeadraceError, Unavailable
from headrace.model.mounts import MountSpec
from headrace.model.units import parse_duration
from headrace.node.child import Child
from headrace.node.home import Home
from headrace.node.listen import listen_many, listen_unix, show_address
from headrace.node.logs import log_to
from headrace.node.messages import Audit, Boot, Drain, Event, Notice, Wrote
from headrace.node.view import WorkersView
from headrace.settings import Settings

if TYPE_CHECKING:
    from headrace.control.plane import ControlPlane

_log = logging.getLogger("headrace.supervisor")

_MAX_AUDIT_WAITING = 1000
_LAST_AUDIT_S = 2.0
_FINISH_S = 5.0

Announce = Callable[[str, str, str], None]
"""Called once when the node serves: data URL, control URL, admin token."""

BuildApp = Callable[["ControlPlane", NodeView], Any]
"""Makes the control port's ASGI application."""


class Supervisor:
    """The parent process of a node. It serves no data itself."""

    def __init__(self, settings: Settings, *, build_app: BuildApp, announce: Announce) -> None:
        self._settings = settings
        self._announce = announce
        self._build_app = build_app
        self._home = Home(settings.home)
        self._stop = asyncio.Event()
        self._known = asyncio.Event()
        self._audit: asyncio.Queue[Audit] = asyncio.Queue(_MAX_AUDIT_WAITING)
        self._audit_lost = 0
        self._view: WorkersView
        self._memory_fd = -1
        self._children: tuple[Child, ...] = ()
        self._data: tuple[socket.socket, ...] = ()
        self._drain_s = 0.0

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises `SettingsError` when it cannot start."""
        server = self._settings.server
        self._drain_s = parse_duration(server.drain)
        with contextlib.ExitStack() as stack:
            self._home.prepare()
            self._home.lock()
            stack.callback(self._home.unlock)
            log_to(self._home.logs / "headrace.log")
            data = [
                stack.enter_context(sock) for sock in listen_many(server.data_listen, server.processes or os.cpu_count() or 1)
            ]
            control = stack.enter_context(listen_many(server.control_listen, 1)[0])
            handoff = stack.enter_context(listen_unix(self._home.handoff_socket))
            stack.callback(self._home.handoff_socket.unlink, missing_ok=True)
            if self._settings.cache.memory_bytes:
                tier = MemoryTier.create(self._settings.cache.memory_bytes, self._settings.cache.geometry.page)
                stack.callback(tier.close)
                self._memory_fd = tier.fd
            for sig in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(sig, self._stop.set)
            workers = [self._worker(sock, handoff) for sock in data]
            keeper = self._child("headrace.node.keeper", lambda: self._boot(NodeState(0)), ())
            self._view = WorkersView(workers, keeper, data_url=f"http://{show_address(data[0])}", notes=self._notes)
            self._children = (*workers, keeper)
            self._data = tuple(data)
            running = [asyncio.create_task(child.run()) for child in self._children]
            try:
                await self._control(workers, control)
            finally:
                await self._end_children()
                await _finish(running)

    async def _end_children(self) -> None:
        """Refuse new connections, let running requests finish, end the processes. Again: nothing."""
        # Closing is not enough: workers hold these too, and a queue that nobody accepts from makes clients wait.
        for sock in self._data:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)
        asked = Drain(self._drain_s)
        await asyncio.gather(*(child.stop(asked, timeout_s=self._drain_s + 5) for child in self._children))

    def _worker(self, sock: socket.socket, handoff: socket.socket) -> Child:
        memory = () if self._memory_fd < 0 else (self._memory_fd,)
        fds = (sock.fileno(), handoff.fileno(), *memory)
        return self._child("headrace.node.worker", lambda: self._boot(self._view.state), fds)

    def _notes(self, mounts: tuple[MountSpec, ...]) -> tuple[str, ...]:
        # Not before somebody asks: it takes all kinds of stores in.
        from headrace.node.leftovers import find_leftovers  # noqa: PLC0415
        from headrace.wiring import Journals, Scratch  # noqa: PLC0415

        staging, scratch = self._settings.staging, self._settings.scratch
        home = self._home.path
        found = find_leftovers(Journals(staging.root(home), staging), Scratch(scratch.root(home), scratch), mounts)
        return tuple([left.words() for left in found])

    def _child(self, module: str, boot: Callable[[], Boot], fds: Sequence[int]) -> Child:
        return Child(module, boot=boot, known=self._known, fds=fds, on_event=self._hear)

    def _boot(self, state: NodeState) -> Boot:
        settings = self._settings
        return Boot(
            str(self._home.path), settings.cache, settings.gateway, state, settings.staging, settings.scratch, self._memory_fd
        )

    async def _control(self, workers: list[Child], sock: socket.socket) -> None:
        # The workers are starting meanwhile: what is heavy to import here is imported now.
        from headrace.control.plane import ControlPlane  # noqa: PLC0415
        from headrace.ledger.ledger import Ledger  # noqa: PLC0415

        clock = SystemClock()
        ledger = Ledger(self._home.path, clock)
        try:
            plane = ControlPlane(ledger, self._settings.control(), clock)
            self._view.state = plane.state()
            self._known.set()
            await self._serve(plane, workers, sock)
        finally:
            ledger.close()

    async def _serve(self, plane: ControlPlane, workers: list[Child], sock: socket.socket) -> None:
        import uvicorn  # noqa: PLC0415

        app = self._build_app(plane, self._view)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="on", timeout_graceful_shutdown=3
        )
        server = uvicorn.Server(config)
        # Signals are the supervisor's: the data port drains first.
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        auditing = asyncio.create_task(self._write_audit(plane))
        ready = asyncio.create_task(_all_ready(workers))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((ready, stopping, serving), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            control_url = f"http://{show_address(sock)}"
            self._home.write_addresses(self._view.data_url, control_url)
            self._announce(self._view.data_url, control_url, plane.admin_token())
            await asyncio.wait((stopping, serving), return_when=asyncio.FIRST_COMPLETED)
        alone = serving.done() and not self._stop.is_set()
        await self._end_children()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._audit.join(), _LAST_AUDIT_S)
        for task in (ready, auditing, stopping):
            task.cancel()
        server.should_exit = True
        await serving
        if alone:
            raise Unavailable("the control port ended by itself, so the node stops: see the log, then start it again")

    def _hear(self, event: Event) -> None:
        if isinstance(event, Audit):
            try:
                self._audit.put_nowait(event)
            except asyncio.QueueFull:
                self._audit_lost += 1
        elif isinstance(event, Wrote):
            self._view.wrote(event.paths)
        elif isinstance(event, Notice):
            _log.warning("%s: %s%s", event.what, event.error, f" ({event.remedy})" if event.remedy else "")

    async def _write_audit(self, plane: ControlPlane) -> None:
        while True:
            event = await self._audit.get()
            try:
                detail = f"{event.reason}; {event.method} from {event.peer}"
                await asyncio.to_thread(
                    plane.ledger.audit.add, "access.refused", actor=event.caller, target=event.path, detail=detail
                )
            except HeadraceError as error:
                _log.error("the audit log cannot be written: %s", error)
            finally:
                self._audit.task_done()
            lost, self._audit_lost = self._audit_lost, 0
            if lost:
                _log.warning("%d refused requests are not in the audit log: more came than could be written", lost)


async def _finish(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for what ends by itself; cut what does not."""
    _, left = await asyncio.wait(tasks, timeout=_FINISH_S)
    for task in left:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _all_ready(workers: list[Child]) -> None:
    await asyncio.gather(*(worker.ready.wait() for worker in workers))


def run(settings: Settings, *, build_app: BuildApp, announce: Announce) -> None:
    """Serve until told to stop. Raises `SettingsError` when that cannot begin."""

    async def main() -> None:
        await Supervisor(settings, build_app=build_app, announce=announce).run()

    asyncio.run(main())
