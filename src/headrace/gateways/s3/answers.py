"""What answers to writes have in common: headers and elements that say what was written, and patience with slow stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from headrace.gateways.http.messages import Chunks, Response, render_fields
from headrace.gateways.s3.errors import error_element, translate
from headrace.gateways.s3.xml import DECLARATION, escape
from headrace.model.checksums import Algorithm
from headrace.model.errors import HeadraceError
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Pairs

PATIENCE_S = 10.0
"""How long a client waits without a byte: most give up after a minute, and proxies sooner."""
_XML = b"content-type: application/xml\r\n"
_NAMES = {algorithm.value: f"Checksum{algorithm.name}" for algorithm in Algorithm} | {"type": "ChecksumType"}


def checksum_elements(checksums: Pairs) -> str:
    """`<ChecksumSHA256>…` and, where it is known of what, `<ChecksumType>`."""
    return "".join(f"<{_NAMES[name]}>{escape(value)}</{_NAMES[name]}>" for name, value in checksums if name in _NAMES)


def written_fields(info: ObjectInfo) -> bytes:
    """The headers that describe an object just written."""
    pairs = [("etag", f'"{info.etag}"')] if info.etag else []
    if info.version_id and info.version_id != "null":
        pairs.append(("x-amz-version-id", info.version_id))
    pairs.extend((f"x-amz-checksum-{name}", value) for name, value in info.checksums)
    return render_fields(pairs)


def version_fields(info: ObjectInfo) -> bytes:
    """The header that names the version just written, where there are versions."""
    return render_fields((("x-amz-version-id", info.version_id),)) if info.version_id not in ("", "null") else b""


_running: set[asyncio.Future[ObjectInfo]] = set()
"""The event loop itself holds its tasks weakly only."""


def _ended(task: asyncio.Future[ObjectInfo]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # whoever waited has it; nobody does once the client has left


async def patiently(
    work: Awaitable[ObjectInfo], show: Callable[[ObjectInfo], str], *, patience_s: float = PATIENCE_S
) -> Response:
    """The document that `show` makes of what the work comes to.

    Work that takes longer than `patience_s` is answered as S3 does: 200 at once, white space while it lasts, then the
    document, or the error's. It goes on when the client leaves, so that nothing is left half done.
    """
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_ended)
    done, _ = await asyncio.wait((task,), timeout=patience_s)
    if done:
        info = task.result()
        return Response(200, _XML + version_fields(info), (DECLARATION + show(info)).encode("utf-8", "replace"))
    return Response(200, _XML, Chunks(_late(task, show, patience_s)))


async def _late(task: asyncio.Future[ObjectInfo], show: Callable[[ObjectInfo], str], patience_s: float) -> AsyncGenerator[bytes]:
    yield DECLARATION.encode()
    while not task.done():
        yield b" "
        await asyncio.wait((task,), timeout=patience_s)
    try:
        yield show(task.result()).encode("utf-8", "replace")
    except HeadraceError as error:
        yield error_element(translate(error)).encode("utf-8", "replace")
