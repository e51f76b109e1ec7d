"""The admin API under `/api/v1`. Translates; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from headrace.console import messages
from headrace.console.answers import ACTOR, Handler, answering, error_body, json_answer, read_body, read_bytes
from headrace.control.jobs import JobRunner
from headrace.control.node_view import Found, NodeStats, NodeView
from headrace.control.notifications import parse_notification
from headrace.control.operations import Operations
from headrace.control.plane import ControlPlane
from headrace.control.sync.syncs import Syncs
from headrace.model.errors import HeadraceError, SettingsError
from headrace.model.mounts import MountSpec

MAX_JOBS_SHOWN = 200


class Api:
    """The handlers, each one call of the control plane or the node."""

    def __init__(
        self,
        control: ControlPlane,
        node: NodeView,
        operations: Operations,
        jobs: JobRunner,
        syncs: Syncs,
        *,
        stats: Callable[[], Awaitable[NodeStats]],
    ) -> None:
        self._control = control
        self._node = node
        self._operations = operations
        self._jobs = jobs
        self._syncs = syncs
        self._stats = stats

    def routes(self) -> list[BaseRoute]:
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/mounts", self.list_mounts),
            ("POST", "/mounts", self.add_mount),
            ("PUT", "/mounts", self.replace_mount),
            ("DELETE", "/mounts", self.remove_mount),
            ("GET", "/stats", self.stats),
            ("GET", "/jobs", self.list_jobs),
            ("GET", "/jobs/{id}", self.get_job),
            ("POST", "/jobs/{id}/cancel", self.cancel_job),
            ("POST", "/jobs/{id}/resume", self.resume_job),
            ("POST", "/load", self.load),
            ("POST", "/free", self.free),
            ("POST", "/events", self.events),
            ("GET", "/staged", self.staged),
            ("POST", "/settle", self.settle),
            ("POST", "/survey", self.survey),
            ("GET", "/pins", self.list_pins),
            ("POST", "/pin", self.pin),
        )
        return [Route(f"/api/v1{path}", answering(handler), methods=[method]) for method, path, handler in table]

    async def list_mounts(self, _request: Request) -> Response:
        health = {mount.path: mount for mount in (await self._node.stats()).mounts}
        entries = self._control.mounts()
        return json_answer(tuple(messages.MountView(e.spec, e.origin, health.get(e.spec.path)) for e in entries))

    async def add_mount(self, request: Request) -> Response:
        spec = await read_body(request, MountSpec)
        await self._operations.add_mount(spec, actor=ACTOR)
        return json_answer(messages.Mounted(await _is_empty(self._node, spec.path)), status=201)

    async def replace_mount(self, request: Request) -> Response:
        wanted = await read_body(request, messages.ReplaceMount)
        await self._operations.replace_mount(wanted.spec, expected=wanted.expected, actor=ACTOR)
        return json_answer(messages.Done())

    async def remove_mount(self, request: Request) -> Response:
        wanted = await read_body(request, messages.RemoveMount)
        await self._operations.remove_mount(wanted.path, actor=ACTOR)
        return json_answer(messages.Done())

    async def stats(self, _request: Request) -> Response:
        return json_answer(await self._stats())

    async def list_jobs(self, _request: Request) -> Response:
        return json_answer(await self._jobs.recent(MAX_JOBS_SHOWN))

    async def get_job(self, request: Request) -> Response:
        return json_answer(await self._jobs.get(request.path_params["id"]))

    async def cancel_job(self, request: Request) -> Response:
        return json_answer(await self._jobs.cancel(request.path_params["id"]))

    async def resume_job(self, request: Request) -> Response:
        return json_answer(await self._jobs.resume(request.path_params["id"]))

    async def load(self, request: Request) -> Response:
        wanted = await read_body(request, messages.LoadRequest)
        if not wanted.path.startswith("/"):
            raise SettingsError(f"{wanted.path!r} is not a path of the namespace: begin with a slash")
        self._check_mounted(wanted.path)
        return json_answer(await self._jobs.load(wanted.path), status=202)

    def _check_mounted(self, path: str) -> None:
        mounted = [entry.spec.path for entry in self._control.mounts()]
        if not any(at in ("/", path) or path.startswith(at + "/") or at.startswith(path.rstrip("/") + "/") for at in mounted):
            self._control.mount(path)

    async def free(self, request: Request) -> Response:
        wanted = await read_body(request, messages.FreeRequest)
        return json_answer(messages.Freed(await self._operations.free(wanted.path, prefix=wanted.prefix, actor=ACTOR)))

    async def events(self, request: Request) -> Response:
        objects = parse_notification(await read_bytes(request))
        await self._node.changed(objects)
        return json_answer(messages.Noted(len(objects)))

    async def staged(self, request: Request) -> Response:
        return json_answer(await self._node.staged(request.query_params.get("path", "/")))

    async def settle(self, request: Request) -> Response:
        wanted = await read_body(request, messages.SettleRequest)
        await self._operations.settle(wanted.conflict, ours=wanted.ours, actor=ACTOR)
        return json_answer(messages.Done())

    async def survey(self, request: Request) -> Response:
        wanted = await read_body(request, messages.SurveyRequest)
        if not wanted.path.startswith("/"):
            raise SettingsError(f"{wanted.path!r} is not a path of the namespace: begin with a slash")
        found = self._node.survey(wanted.path)
        first = await anext(found)  # what is wrong from the beginning has a status of its own
        return StreamingResponse(_survey_lines(first, found), media_type="application/x-ndjson")

    async def list_pins(self, _request: Request) -> Response:
        return json_answer(messages.Pins(self._control.ledger.state.pins()))

    async def pin(self, request: Request) -> Response:
        wanted = await read_body(request, messages.PinRequest)
        return json_answer(messages.Done(await self._operations.pin(wanted.path, wanted.on, actor=ACTOR)))


async def _is_empty(node: NodeView, path: str) -> bool:
    try:
        return not (await node.list_page(path, after="", limit=1)).entries
    except HeadraceError:
        return False  # the mount was tried and is in force: this is a note only


async def _survey_lines(first: Found, found: AsyncIterator[Found]) -> AsyncIterator[bytes]:
    """Each on a line of its own as it becomes known."""
    encode = msgspec.json.Encoder().encode
    last = first
    yield encode(messages.SurveyLine(first)) + b"\n"
    try:
        async for last in found:
            yield encode(messages.SurveyLine(last)) + b"\n"
    except HeadraceError as error:
        yield encode(messages.SurveyLine(last, True, error_body(error))) + b"\n"
    else:
        yield encode(messages.SurveyLine(last, True)) + b"\n"
