"""Objects written in parts by one call: all of them, or nothing that stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from headrace.model.errors import ConditionFailed, HeadraceError, Unsupported
from headrace.model.objects import ObjectInfo
from headrace.model.reading import Buffer
from headrace.model.uploads import MAX_PART_NUMBER, Part, Upload
from headrace.model.writing import Attributes, Condition, Pairs
from headrace.stores.s3_objects import written_info
from headrace.stores.s3_parts import BodyCutter, growing_part_bytes, part_bytes
from headrace.stores.s3_proofs import Info, Proofs, Verb, settle_refusal
from headrace.stores.s3_uploads import S3Uploads
from headrace.stores.sending import Sending

_TIDY_S = 30.0

SetTags = Callable[[str, Pairs], Awaitable[None]]


class Parted:
    """Begins an upload, has its parts made, completes it; gives it up when anything fails, also when the caller does."""

    def __init__(self, uploads: S3Uploads, proofs: Proofs, info: Info, set_tags: SetTags) -> None:
        self._uploads = uploads
        self._proofs = proofs
        self._info = info
        self._set_tags = set_tags
        self._tidying: set[asyncio.Task[None]] = set()

    async def write(
        self,
        key: str,
        size: int | None,
        attributes: Attributes,
        condition: Condition,
        make_parts: Callable[[Upload], Awaitable[Sequence[Part]]],
    ) -> ObjectInfo:
        """The object of the parts that `make_parts` makes. `size` is None when only they tell it."""
        if condition:
            await self._proofs.condition_headers(Verb.COMPLETE, condition, key)  # refused before a byte is sent
        tags_later = bool(attributes.tags) and not await self._proofs.keeps_upload_tags(key)
        begun = asyncio.ensure_future(self._uploads.begin_anyhow(key, attributes))
        try:
            upload = await asyncio.shield(begun)
            parts = await make_parts(upload)
            etag, response = await self._uploads.publish(upload, parts, condition=condition)
        except BaseException as error:  # whatever it is: tidied up here, raised on
            await self._give_up(begun)
            if isinstance(error, ConditionFailed):
                raise await settle_refusal(error, key, condition, self._info) from error
            raise
        if tags_later:
            await self._set_tags(key, attributes.tags)
        total = sum(part.size for part in parts) if size is None else size
        return written_info(key, total, response.headers, attributes, etag=etag) or await self._info(key)

    async def close(self) -> None:
        """Wait for uploads that are being given up."""
        if self._tidying:
            await asyncio.wait(self._tidying)

    async def _give_up(self, begun: asyncio.Future[Upload]) -> None:
        # On its own, so that a caller who is cancelled again leaves nothing behind either.
        task = asyncio.create_task(self._drop(begun))
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)
        await asyncio.shield(task)

    async def _drop(self, begun: asyncio.Future[Upload]) -> None:
        try:
            async with asyncio.timeout(_TIDY_S):
                await self._uploads.abort(await begun)
        except (HeadraceError, TimeoutError):
            return  # what went wrong first is told; the store's uploads are swept besides


async def send_parts(uploads: S3Uploads, upload: Upload, cutter: BodyCutter, length: int) -> list[Part]:
    """Parts of a body of known length, streamed one after the other. The body is seen to its end."""
    size = part_bytes(length)
    parts = []
    for number, start in enumerate(range(0, length, size), 1):
        count = min(size, length - start)
        parts.append(await uploads.send_part(upload, number, Sending(cutter.take(count), count, path=upload.key)))
    await cutter.finish()
    return parts


async def send_growing_parts(uploads: S3Uploads, upload: Upload, cutter: BodyCutter, first: list[Buffer]) -> list[Part]:
    """Parts of a body of unknown length, of which `first` is at hand. One is sent while the next comes in."""
    parts: list[Part] = []
    pieces, number = first, 1
    while True:
        size = sum(map(len, pieces))
        sending = asyncio.create_task(uploads.send_part(upload, number, Sending(_each(pieces), size, path=upload.key)))
        try:
            pieces = await cutter.gather(growing_part_bytes(number + 1))
            parts.append(await sending)
        except BaseException:  # whatever it is: tidied up here, raised on
            sending.cancel()
            await asyncio.wait([sending])
            raise
        if not pieces:
            return parts
        number += 1
        if number > MAX_PART_NUMBER:
            message = f"s3 {upload.key!r}: a body without a known length is too long for {MAX_PART_NUMBER} parts: send its length"
            raise Unsupported(message, path=upload.key)


async def _each(pieces: Sequence[Buffer]) -> AsyncIterator[Buffer]:
    for piece in pieces:
        yield piece
