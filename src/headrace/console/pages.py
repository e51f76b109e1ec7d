"""What browsers and monitors read on the control port: the status page, metrics and health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from headrace.console.metrics import CONTENT_TYPE, render
from headrace.control.node_view import NodeStats

_HERE = Path(__file__).parent
_STATIC = {"console.js": "text/javascript", "console.css": "text/css"}


class Pages:
    """`stats` tells of the node now, `ready` whether it serves."""

    def __init__(self, stats: Callable[[], Awaitable[NodeStats]], ready: Callable[[], bool]) -> None:
        self._stats = stats
        self._ready = ready
        self._templates = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined)
        self._static = {name: (_HERE / "static" / name).read_bytes() for name in _STATIC}

    def routes(self) -> list[Route]:
        return [
            Route("/", self._status),
            Route("/static/{name}", self._static_file),
            Route("/metrics", self._metrics),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]

    async def _status(self, _request: Request) -> Response:
        body = self._templates.get_template("status.html").render(stats=await self._stats())
        return Response(body, media_type="text/html; charset=utf-8")

    async def _static_file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._static:
            return PlainTextResponse("not found\n", status_code=404)
        return Response(self._static[name], media_type=_STATIC[name])

    async def _metrics(self, _request: Request) -> Response:
        return Response(render(await self._stats(), ready=self._ready()), headers={"content-type": CONTENT_TYPE})

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n") if self._ready() else PlainTextResponse("not ready\n", status_code=503)
