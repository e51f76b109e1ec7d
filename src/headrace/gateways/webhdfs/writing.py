"""CREATE, APPEND and CONCAT: bodies that stream with bounded memory, seen whole or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from headrace.gateways import changing
from headrace.gateways.fsspec import body as all_bytes
from headrace.gateways.http.messages import Response
from headrace.gateways.s3.incoming import IncomingWrite
from headrace.gateways.s3.proofs import Proofs
from headrace.gateways.webhdfs.asked import clean_path, quoted
from headrace.gateways.webhdfs.attributes import made_attributes
from headrace.gateways.webhdfs.changing import check_parents
from headrace.gateways.webhdfs.context import Call, done
from headrace.gateways.webhdfs.errors import HdfsError, bad_parameter, not_offered
from headrace.gateways.webhdfs.status import find, find_file
from headrace.gateways.writing import APPEND_MAX_BYTES, Outgoing, appending
from headrace.model.errors import ConditionFailed, Unsupported
from headrace.model.objects import ByteRange, ObjectInfo, with_key
from headrace.model.reading import Buffer
from headrace.model.sigv4 import UNSIGNED_PAYLOAD
from headrace.model.writing import ALWAYS, Body, BytesBody, Condition
from headrace.policy.rules import Action

_AT_ONCE_BYTES = 64 * 1024
"""Up to here a body is taken in before it is handed on: it then costs less, and can be sent once more."""
_ABSENT = Condition(if_none_match="*")
_MOST_SOURCES = 1000
_READ_BYTES = 4 << 20


class _Watched(Body):
    """A body of which it is known whether it was begun."""

    def __init__(self, inner: Body) -> None:
        self.length = inner.length
        self.begun = False
        self._inner = inner

    def __aiter__(self) -> AsyncIterator[Buffer]:
        self.begun = True
        return aiter(self._inner)


def _incoming(call: Call) -> IncomingWrite:
    """The request's body, which is asked for when it is iterated."""
    source = call.request.body
    length = 0 if source is None else source.length
    if source is not None:
        source.allow(None)
    content = call.who.content_sha256
    sha256 = None if content == UNSIGNED_PAYLOAD else content
    return IncomingWrite(source, length, Proofs(sha256=sha256, length=length))


async def create(call: Call) -> Response:
    """First the way to where the bytes are taken, then the bytes."""
    overwrite = call.asked.flag("overwrite")
    await _check_target(call, overwrite=overwrite)
    call.namespace.writable(call.path)
    if not call.is_data_step:
        return call.redirect()
    body: Body = _incoming(call)
    if body.length is not None and body.length <= _AT_ONCE_BYTES:
        body = BytesBody(b"".join([piece async for piece in body]))
    await _write(call, body, overwrite=overwrite)
    place = call.origin.partition("://")[2]
    return done((("location", f"webhdfs://{place}{quoted(call.path)}"),), 201)


async def _check_target(call: Call, *, overwrite: bool) -> None:
    path = call.path
    if path == "/":
        raise HdfsError("FileAlreadyExistsException", "/ already exists as a directory")
    if path.count("/") < 2:
        raise HdfsError("AccessControlException", f"{path}: files lie in a mount or a bucket, not beside it")
    try:
        found = await find(call.namespace, path)
    except HdfsError:
        await check_parents(call, path)
        if not call.asked.flag("createparent", default=True):
            await find(call.namespace, path.rpartition("/")[0])
        return
    if found.info is None:
        raise HdfsError("FileAlreadyExistsException", f"{path} already exists as a directory")
    if not overwrite:
        raise _exists(path)


async def _write(call: Call, body: Body, *, overwrite: bool) -> None:
    watched = _Watched(body) if not body.rewindable else None
    attributes = made_attributes(call, 0o644)
    try:
        await call.namespace.write(call.path, watched or body, attributes, condition=ALWAYS if overwrite else _ABSENT)
    except ConditionFailed:
        raise _exists(call.path) from None
    except Unsupported:
        if overwrite or (watched is not None and watched.begun):
            raise
        # The store proves no conditions: that there is no such file was seen a moment ago.
        await call.namespace.write(call.path, watched or body, attributes)


def _exists(path: str) -> HdfsError:
    return HdfsError("FileAlreadyExistsException", f"{path} already exists")


async def append(call: Call) -> Response:
    """A new version that is longer, in the place of the one that is there now: of two who append at once, one is told so."""
    if (await find(call.namespace, call.path)).info is None:
        raise HdfsError("FileAlreadyExistsException", f"{call.path} is a directory")
    call.namespace.writable(call.path)
    if not call.is_data_step:
        return call.redirect()
    await _lengthen(call, _incoming(call))
    return done()


async def _lengthen(call: Call, more: AsyncIterable[Buffer]) -> None:
    try:
        made, rest, _ = await appending(call.namespace, call.key_path, gate=call.desk.parts)
    except Unsupported as error:
        raise not_offered(f"{error}") from None
    try:
        await _pour(made, rest, more)
        await made.publish()
    except ConditionFailed:
        raise HdfsError("IOException", f"{call.path} was changed by another meanwhile: nothing was appended, try again") from None
    except Unsupported:
        raise not_offered(f"the store behind {call.path} cannot replace a version by a longer one: write another file") from None
    finally:
        await made.discard()


async def _pour(made: Outgoing, rest: bytes, more: AsyncIterable[Buffer]) -> None:
    held = bytearray(rest)
    async for piece in more:
        held += piece
        while len(held) > made.next_part_bytes:
            size = made.next_part_bytes
            part = bytes(memoryview(held)[:size])
            del held[:size]
            await made.add(part)
    await made.seal(bytes(held))


async def concat(call: Call) -> Response:
    """The files `sources` behind the one at the path, in one new version of it; then they are removed."""
    named = [name for name in call.asked.get("sources").split(",") if name]
    if not named or len(named) > _MOST_SOURCES or any(not name.startswith("/") for name in named):
        raise bad_parameter("sources", f"1 to {_MOST_SOURCES} paths are named, with commas between them")
    paths = [clean_path(name) for name in named]
    if len({*paths, call.path}) != len(paths) + 1:
        raise HdfsError("IllegalArgumentException", "concat: the target and its sources are all different files")
    target = await find_file(call.namespace, call.path)
    sources: list[ObjectInfo] = []
    for path in paths:
        call.require(Action.READ, path)
        call.require(Action.WRITE, path)
        sources.append(with_key(await find_file(call.namespace, path), path))
    if target.size + sum(one.size for one in sources) > APPEND_MAX_BYTES:
        raise not_offered(f"concat makes files of at most {APPEND_MAX_BYTES} bytes: the bytes pass through here")
    for one in (call.path, *paths):
        call.namespace.writable(one)
    await call.desk.to_the_end(_concat(call, sources))
    return done()


async def _concat(call: Call, sources: list[ObjectInfo]) -> None:
    await _lengthen(call, _bytes_of(call, sources))
    await changing.remove_versions(call.namespace, sources)


async def _bytes_of(call: Call, sources: list[ObjectInfo]) -> AsyncIterator[Buffer]:
    for info in sources:
        for start in range(0, info.size, _READ_BYTES):
            cut = ByteRange(start, min(start + _READ_BYTES, info.size))
            yield await all_bytes(await call.namespace.read(info.key, cut, version=info.version))
