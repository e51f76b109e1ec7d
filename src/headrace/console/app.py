"""The control port: status page, admin API, metrics and health, behind one guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from headrace.console.api import Api
from headrace.console.guard import Guard
from headrace.console.messages import ErrorBody
from headrace.console.pages import Pages
from headrace.console.sync_api import SyncApi
from headrace.control.feed import Feed
from headrace.control.feeds import Feeds
from headrace.control.jobs import JobRunner
from headrace.control.node_view import NodeStats, NodeView
from headrace.control.operations import Operations
from headrace.control.plane import ControlPlane
from headrace.control.sync.syncs import Syncs

_READY_POLL_S = 0.2
_KINDS = {404: "NotFound", 405: "Unsupported"}


def build_app(control: ControlPlane, node: NodeView) -> Starlette:
    """The ASGI application of the control port.

    Its lifespan runs the jobs, so the server must run it (uvicorn: `lifespan="on"`). Host names other than
    addresses and `localhost` come from `ControlSettings.hosts`.
    """
    jobs = JobRunner(control.ledger.jobs, node, control.clock)
    feeds = Feeds([Feed(source.name, source.open, node, control.clock) for source in control.sources])
    operations = Operations(control, node)
    syncs = Syncs(control, node, jobs)

    async def stats() -> NodeStats:
        return msgspec.structs.replace(await node.stats(), feeds=feeds.stats())

    api = Api(control, node, operations, jobs, syncs, stats=stats)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await jobs.start()
        await syncs.start()
        feeds.start()
        pinning = asyncio.create_task(_hold_pins(node, operations))
        try:
            yield
        finally:
            pinning.cancel()
            await asyncio.gather(pinning, return_exceptions=True)
            await syncs.stop()
            await asyncio.gather(jobs.stop(), feeds.stop())

    names = frozenset(name.lower() for name in control.settings.hosts)
    return Starlette(
        routes=[
            *Pages(stats, node.ready).routes(),
            *api.routes(),
            *SyncApi(syncs).routes(),
        ],
        exception_handlers={HTTPException: _no_route},
        middleware=[Middleware(Guard, token=control.admin_token(), names=names, events_token=control.events_token())],
        lifespan=lifespan,
    )


async def _hold_pins(node: NodeView, operations: Operations) -> None:
    while not node.ready():  # noqa: ASYNC110  the view tells how things are, and calls nobody
        await asyncio.sleep(_READY_POLL_S)
    await operations.hold_pins()


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    body = ErrorBody(_KINDS.get(status, "HeadraceError"), f"nothing is served at {request.method} {request.url.path}")
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")
