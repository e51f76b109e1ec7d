"""The admin API's part about syncs. Translates; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from headrace.console import messages
from headrace.console.answers import ACTOR, Handler, answering, error_body, json_answer, read_body
from headrace.control.sync.steps import Planned
from headrace.control.sync.syncs import Syncs
from headrace.ledger.sync_records import SyncSpec
from headrace.model.errors import HeadraceError


class SyncApi:
    """The handlers, each one call."""

    def __init__(self, syncs: Syncs) -> None:
        self._syncs = syncs

    def routes(self) -> list[BaseRoute]:
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/syncs", self.list_syncs),
            ("POST", "/syncs", self.add),
            ("POST", "/plan", self.plan),
            ("GET", "/syncs/{name}", self.get),
            ("DELETE", "/syncs/{name}", self.remove),
            ("POST", "/syncs/{name}/run", self.run),
            ("POST", "/syncs/{name}/pause", self.pause),
            ("POST", "/syncs/{name}/resume", self.resume),
        )
        return [Route(f"/api/v1{path}", answering(handler), methods=[method]) for method, path, handler in table]

    async def list_syncs(self, _request: Request) -> Response:
        return json_answer(await self._syncs.all())

    async def get(self, request: Request) -> Response:
        return json_answer(await self._syncs.get(request.path_params["name"]))

    async def add(self, request: Request) -> Response:
        return json_answer(await self._syncs.add(await read_body(request, SyncSpec), actor=ACTOR), status=201)

    async def remove(self, request: Request) -> Response:
        await self._syncs.remove(request.path_params["name"], actor=ACTOR)
        return json_answer(messages.Done())

    async def run(self, request: Request) -> Response:
        wanted = await read_body(request, messages.RunSync)
        return json_answer(await self._syncs.run(request.path_params["name"], force=wanted.force), status=202)

    async def pause(self, request: Request) -> Response:
        return json_answer(await self._syncs.set_paused(request.path_params["name"], True, actor=ACTOR))

    async def resume(self, request: Request) -> Response:
        return json_answer(await self._syncs.set_paused(request.path_params["name"], False, actor=ACTOR))

    async def plan(self, request: Request) -> Response:
        parts = self._syncs.plan(await read_body(request, SyncSpec))
        # What is wrong from the beginning has a status of its own.
        first = await anext(parts, None)
        return StreamingResponse(_lines(first, parts), media_type="application/x-ndjson")


async def _lines(first: Planned | None, rest: AsyncGenerator[Planned]) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield _line(messages.PlanLine(first))
        async for part in rest:
            yield _line(messages.PlanLine(part))
    except HeadraceError as error:
        yield _line(messages.PlanLine(error=error_body(error)))
    finally:
        await rest.aclose()


def _line(line: messages.PlanLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"
