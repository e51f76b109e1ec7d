"""PutObject."""

from __future__ import annotations

from collections.abc import AsyncIterator

from headrace.gateways.http.messages import Response
from headrace.gateways.s3.answers import written_fields
from headrace.gateways.s3.attributes import read_attributes, read_condition
from headrace.gateways.s3.context import Call
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.incoming import incoming_body
from headrace.model.reading import Buffer
from headrace.model.writing import Body, BytesBody, Pairs

MAX_PUT_BYTES = 5 * 1024**3
"""The longest body of one request, as with S3; more goes in parts."""

_AT_ONCE_BYTES = 64 * 1024
"""Up to here a body is taken in and proved before it is handed on: it then costs less, and can be sent once more."""


async def put_object(call: Call) -> Response:
    """The body becomes the object; nothing is asked of the client before it is known that it may."""
    headers = call.request.headers
    attributes, condition = read_attributes(call), read_condition(headers)
    call.namespace.writable(call.path)
    body = upload_body(call)
    if body.length is not None and body.length <= _AT_ONCE_BYTES:
        body = await _taken_in(body)
    info = await call.namespace.write(call.path, body, attributes, condition=condition)
    return Response(200, written_fields(info))


def upload_body(call: Call) -> Body:
    """The body of an upload, of at most `MAX_PUT_BYTES`. Raises `S3Error`, and so does its iteration."""
    return bounded(incoming_body(call))


async def _taken_in(body: Body) -> Body:
    data = body.at_hand()
    if data is None:
        pieces = [piece async for piece in body]
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return BytesBody(data, body.checksums())


def bounded(body: Body) -> Body:
    """The body, which raises `S3Error`, here or while it is iterated, when it has more than `MAX_PUT_BYTES`."""
    if body.length is None:
        return _Bounded(body)
    if body.length > MAX_PUT_BYTES:
        raise _too_large()
    return body


class _Bounded(Body):
    """A body whose length its sender did not tell."""

    length = None

    def __init__(self, inner: Body) -> None:
        self._inner = inner

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        seen = 0
        async for piece in self._inner:
            seen += len(piece)
            if seen > MAX_PUT_BYTES:
                raise _too_large()
            yield piece

    def checksums(self) -> Pairs:
        return self._inner.checksums()


def _too_large() -> S3Error:
    return S3Error(
        "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size",
        detail=(("MaxSizeAllowed", str(MAX_PUT_BYTES)),),
    )  # fmt: skip
