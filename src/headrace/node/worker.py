"""A serving process: `python -m headrace.node.worker CHANNEL_FD DATA_FD HANDOFF_FD MEMORY_FD`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from headrace.control.state import NodeState
from headrace.gateways.data_port import serve
from headrace.gateways.handoff import HandoffDesk, HandoffServer
from headrace.gateways.s3.auth import Authenticator
from headrace.gateways.s3.keys import KeyRing
from headrace.gateways.s3.server import S3Gateway, Server
from headrace.gateways.webhdfs.server import WebHdfsGateway
from headrace.model.clock import SystemClock
from headrace.model.events import WriteServed
from headrace.node.channel import Channel
from headrace.node.child_loop import run_until_ended
from headrace.node.logs import log_to
from headrace.node.messages import (
    Amount,
    Apply,
    AskStaged,
    AskStats,
    Boot,
    CarryOut,
    Changed,
    ChangesMissed,
    Done,
    Drain,
    EndSurvey,
    Event,
    Free,
    HoldPin,
    Listed,
    ListPage,
    ListSide,
    Load,
    Pin,
    Reply,
    Request,
    Settle,
    Staged,
    Survey,
    TryMount,
)
from headrace.node.operations import free, hold_pin, list_page, load, pin
from headrace.node.report import report
from headrace.node.staged import settle, staged_below
from headrace.node.surveys import Surveys
from headrace.node.syncing import SyncDesk
from headrace.node.tally import Tally
from headrace.node.written import Written
from headrace.policy.rules import Policy
from headrace.wiring import Journals, LiveMounts, Parts, Scratch, listings_in, open_marks, open_pages, try_mount

_log = logging.getLogger("headrace.worker")


class Worker:
    """What one process serves: made by `Boot`, changed by `Apply`, ended by `Drain`."""

    def __init__(self, data: socket.socket, handoff: socket.socket) -> None:
        self._data = data
        self._handoff_socket = handoff
        self.channel = Channel(self.answer, lambda _: None)
        self.ended = asyncio.Event()
        self._tally = Tally(self._tell)
        self._written = Written(self._tell)
        self._epoch = -1
        self._drain_s = 30.0
        self._serving = False
        self._applying = asyncio.Lock()
        self._draining: asyncio.Future[None] | None = None

    async def answer(self, request: Request) -> Reply:
        match request:
            case Boot():
                await self._boot(request)
            case Apply():
                await self._apply(request.state)
            case AskStats():
                tally, server = self._tally, self._server.stats()
                return report(tally, server, pages=self._pages, cache=self._cache, mounts=self._mounts)
            case TryMount():
                await try_mount(request.spec, self._parts)
            case Changed():
                self._mounts.changed([(changed.bucket, changed.key) for changed in request.objects])
            case ChangesMissed():
                self._mounts.changes_missed()
            case ListSide() | CarryOut():
                return await self._syncs.answer(request)
            case Survey() | EndSurvey():
                return await self._surveys.answer(request)
            case Drain():
                self._drain_s = request.deadline_s
                await self.drain()
            case _:
                return await self._on_objects(request)
        return Done()

    async def _on_objects(self, request: Load | Free | Pin | HoldPin | ListPage | AskStaged | Settle) -> Reply:
        namespace = self._mounts.namespace
        match request:
            case Load():
                return Amount(await load(namespace, request.path))
            case Free():
                return Amount(await free(namespace, request.path, prefix=request.prefix))
            case Pin():
                await pin(namespace, request.path, request.on)
            case HoldPin():
                await hold_pin(namespace, request.path)
            case ListPage():
                return Listed(await list_page(namespace, request.path, after=request.after, limit=request.limit))
            case AskStaged():
                return Staged(staged_below(namespace, request.path))
            case Settle():
                await settle(namespace, request.conflict, ours=request.ours)
        return Done()

    async def drain(self) -> None:
        """Refuse new connections, finish what runs, and end. Asked again meanwhile, it waits for the same end."""
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain())
        await asyncio.shield(self._draining)

    async def _drain(self) -> None:
        try:
            if self._serving:
                await asyncio.gather(self._server.drain(self._drain_s), self._handoff.close())
                await self._syncs.close()
                await self._surveys.close()
                await self._mounts.close()
                await self._pages.close()
        finally:
            self.ended.set()

    async def _boot(self, boot: Boot) -> None:
        clock = SystemClock()
        self._cache = boot.cache
        self._pages = open_pages(boot.cache, Path(boot.home), clock=clock, emit=self._tally.emit, memory_fd=boot.memory_fd)
        home = Path(boot.home)
        journals = Journals(boot.staging.root(home), boot.staging)
        scratch = Scratch(boot.scratch.root(home), boot.scratch)
        self._parts = Parts(
            clock, self._tally.emit, os.environ, self._pages, open_marks(home), journals, scratch, listings_in(home)
        )
        self._mounts = LiveMounts(self._parts)
        self._surveys = Surveys(self._mounts.namespace, self._parts.listings)
        self._syncs = SyncDesk(self._mounts, self._parts, home)
        self._keys = KeyRing()
        self._gateway = S3Gateway(
            self._mounts.namespace, self._keys, Policy(), clock=clock, emit=self._served, settings=boot.gateway
        )
        await self._apply(boot.state)
        webhdfs = WebHdfsGateway(
            self._mounts.namespace,
            self._keys,
            lambda: self._gateway.policy,
            clock=clock,
            emit=self._tally.emit,
            settings=boot.gateway.webhdfs,
            region=boot.gateway.region,
            folder=home / "tokens",
        )
        self._server: Server = await serve(self._gateway, webhdfs, self._data)
        desk = HandoffDesk(
            self._mounts.namespace,
            Authenticator(self._keys, boot.gateway.region),
            lambda: self._gateway.policy,
            clock=clock,
            emit=self._tally.emit,
        )
        self._handoff = HandoffServer(desk)
        self._handoff.start(self._handoff_socket)
        _spare_collections()
        self._serving = True

    async def _apply(self, state: NodeState) -> None:
        # One after the other: an older state that takes long must not end up over a newer one.
        async with self._applying:
            if state.epoch < self._epoch:
                return
            policy = Policy(state.rules)
            self._keys.replace({key.id: key.secret for key in state.keys})
            self._gateway.policy = policy
            self._epoch = state.epoch
            self._tally.forget(frozenset(spec.path for spec in state.mounts))
            await self._mounts.apply(state.mounts)
            await self._surveys.mounts_changed()

    def _served(self, event: object) -> None:
        self._tally.emit(event)
        if isinstance(event, WriteServed):
            self._written.note(event)

    def _tell(self, event: Event) -> None:
        self.channel.tell(event)


def _spare_collections() -> None:
    """Look for cycles among what requests make, and not among what was made at start.

    To look more seldom would save a small write a little, and keep buffers of reads that were given up for as long: 40 MiB of
    them under load.
    """
    gc.collect()
    gc.freeze()


async def _run(channel_fd: int, data_fd: int, handoff_fd: int) -> None:
    data, handoff = socket.socket(fileno=data_fd), socket.socket(fileno=handoff_fd)
    await run_until_ended(Worker(data, handoff), channel_fd, _log)


def main() -> None:
    channel_fd, data_fd, handoff_fd = (int(text) for text in sys.argv[1:4])
    # The terminal's Ctrl-C reaches the whole group; what it means is the supervisor's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_to(None)
    try:
        import uvloop  # noqa: PLC0415  optional where it is not built
    except ImportError:
        asyncio.run(_run(channel_fd, data_fd, handoff_fd))
    else:
        uvloop.run(_run(channel_fd, data_fd, handoff_fd))


if __name__ == "__main__":
    main()
