"""How the admin API reads requests and answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.console.guard import MAX_BODY_BYTES
from headrace.console.messages import ErrorBody
from headrace.model import errors
from headrace.model.errors import HeadraceError, SettingsError

_T = TypeVar("_T")
Handler = Callable[[Request], Awaitable[Response]]

ACTOR = "admin"

_STATUS: tuple[tuple[type[HeadraceError], int], ...] = (
    (errors.NotFound, 404),
    (errors.AccessDenied, 403),
    (errors.VersionChanged, 409),
    (errors.SettingsError, 400),
    (errors.InvalidKey, 400),
    (errors.Unsupported, 501),
    (errors.Unavailable, 503),
)


def answering(handler: Handler) -> Handler:
    """Errors of our tree become their status and an `ErrorBody`."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except HeadraceError as error:
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
            return json_answer(error_body(error), status=status)

    return answer


def error_body(error: HeadraceError) -> ErrorBody:
    """An error as its words go over the wire."""
    return ErrorBody(type(error).__name__, str(error), error.path)


async def read_bytes(request: Request) -> bytes:
    """A request's body. Raises `SettingsError` for one that is too long."""
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > MAX_BODY_BYTES:
            raise SettingsError(f"the body has more than {MAX_BODY_BYTES} bytes")
    return bytes(taken)


async def read_body(request: Request, kind: type[_T]) -> _T:
    """A request's body as a message. Raises `SettingsError` for anything else."""
    taken = await read_bytes(request)
    try:
        return msgspec.json.decode(taken, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the request's body: {error}") from error
    except RecursionError as error:
        raise SettingsError("the request's body is nested too deeply") from error


def json_answer(value: object, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")
