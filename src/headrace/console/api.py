"""The admin API under `/api/v1`. Translates; decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from headrace.console import messages
from headrace.console.guard import MAX_BODY_BYTES
from headrace.control.jobs import JobRunner
from headrace.control.node_view import Found, NodeView
from headrace.control.notifications import parse_notification
from headrace.control.operations import Operations
from headrace.control.plane import ControlPlane
from headrace.model import errors
from headrace.model.errors import HeadraceError, SettingsError
from headrace.model.mounts import MountSpec

_T = TypeVar("_T")
Handler = Callable[[Request], Awaitable[Response]]

ACTOR = "admin"
MAX_JOBS_SHOWN = 200

_STATUS: tuple[tuple[type[HeadraceError], int], ...] = (
    (errors.NotFound, 404),
    (errors.AccessDenied, 403),
    (errors.VersionChanged, 409),
    (errors.SettingsError, 400),
    (errors.InvalidKey, 400),
    (errors.Unsupported, 501),
    (errors.Unavailable, 503),
)


class Api:
    """The handlers, each one call of the control plane or the node."""

    def __init__(self, control: ControlPlane, node: NodeView, operations: Operations, jobs: JobRunner) -> None:
        self._control = control
        self._node = node
        self._operations = operations
        self._jobs = jobs

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
        return [Route(f"/api/v1{path}", _answering(handler), methods=[method]) for method, path, handler in table]

    async def list_mounts(self, _request: Request) -> Response:
        health = {mount.path: mount for mount in (await self._node.stats()).mounts}
        entries = self._control.mounts()
        return _json(tuple(messages.MountView(e.spec, e.origin, health.get(e.spec.path)) for e in entries))

    async def add_mount(self, request: Request) -> Response:
        spec = await _body(request, MountSpec)
        await self._operations.add_mount(spec, actor=ACTOR)
        return _json(messages.Mounted(await _is_empty(self._node, spec.path)), status=201)

    async def replace_mount(self, request: Request) -> Response:
        wanted = await _body(request, messages.ReplaceMount)
        await self._operations.replace_mount(wanted.spec, expected=wanted.expected, actor=ACTOR)
        return _json(messages.Done())

    async def remove_mount(self, request: Request) -> Response:
        wanted = await _body(request, messages.RemoveMount)
        await self._operations.remove_mount(wanted.path, actor=ACTOR)
        return _json(messages.Done())

    async def stats(self, _request: Request) -> Response:
        return _json(await self._node.stats())

    async def list_jobs(self, _request: Request) -> Response:
        return _json(await self._jobs.recent(MAX_JOBS_SHOWN))

    async def get_job(self, request: Request) -> Response:
        return _json(await self._jobs.get(request.path_params["id"]))

    async def cancel_job(self, request: Request) -> Response:
        return _json(await self._jobs.cancel(request.path_params["id"]))

    async def resume_job(self, request: Request) -> Response:
        return _json(await self._jobs.resume(request.path_params["id"]))

    async def load(self, request: Request) -> Response:
        wanted = await _body(request, messages.LoadRequest)
        if not wanted.path.startswith("/"):
            raise SettingsError(f"{wanted.path!r} is not a path of the namespace: begin with a slash")
        self._check_mounted(wanted.path)
        return _json(await self._jobs.load(wanted.path), status=202)

    def _check_mounted(self, path: str) -> None:
        mounted = [entry.spec.path for entry in self._control.mounts()]
        if not any(at in ("/", path) or path.startswith(at + "/") or at.startswith(path.rstrip("/") + "/") for at in mounted):
            self._control.mount(path)

    async def free(self, request: Request) -> Response:
        wanted = await _body(request, messages.FreeRequest)
        return _json(messages.Freed(await self._operations.free(wanted.path, prefix=wanted.prefix, actor=ACTOR)))

    async def events(self, request: Request) -> Response:
        objects = parse_notification(await _bytes(request))
        await self._node.changed(objects)
        return _json(messages.Noted(len(objects)))

    async def staged(self, request: Request) -> Response:
        return _json(await self._node.staged(request.query_params.get("path", "/")))

    async def settle(self, request: Request) -> Response:
        wanted = await _body(request, messages.SettleRequest)
        await self._operations.settle(wanted.conflict, ours=wanted.ours, actor=ACTOR)
        return _json(messages.Done())

    async def survey(self, request: Request) -> Response:
        wanted = await _body(request, messages.SurveyRequest)
        if not wanted.path.startswith("/"):
            raise SettingsError(f"{wanted.path!r} is not a path of the namespace: begin with a slash")
        found = self._node.survey(wanted.path)
        first = await anext(found)  # what is wrong from the beginning has a status of its own
        return StreamingResponse(_survey_lines(first, found), media_type="application/x-ndjson")

    async def list_pins(self, _request: Request) -> Response:
        return _json(messages.Pins(self._control.ledger.state.pins()))

    async def pin(self, request: Request) -> Response:
        wanted = await _body(request, messages.PinRequest)
        return _json(messages.Done(await self._operations.pin(wanted.path, wanted.on, actor=ACTOR)))


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
        yield encode(messages.SurveyLine(last, True, _error_body(error))) + b"\n"
    else:
        yield encode(messages.SurveyLine(last, True)) + b"\n"


def _error_body(error: HeadraceError) -> messages.ErrorBody:
    return messages.ErrorBody(type(error).__name__, str(error), error.path)


def _answering(handler: Handler) -> Handler:
    """Errors of our tree become their status and an `ErrorBody`."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except HeadraceError as error:
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
            return _json(_error_body(error), status=status)

    return answer


async def _bytes(request: Request) -> bytes:
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > MAX_BODY_BYTES:
            raise SettingsError(f"the body has more than {MAX_BODY_BYTES} bytes")
    return bytes(taken)


async def _body(request: Request, kind: type[_T]) -> _T:
    taken = await _bytes(request)
    try:
        return msgspec.json.decode(taken, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the request's body: {error}") from error
    except RecursionError as error:
        raise SettingsError("the request's body is nested too deeply") from error


def _json(value: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")
