"""A part of a multipart upload on its way to Azure: blocks one behind the other, the last with the part's checksums."""

from __future__ import annotations

import asyncio
import hashlib

from headrace.model.checksums import Algorithm, Checksummer
from headrace.model.errors import Unsupported
from headrace.model.reading import Buffer
from headrace.model.uploads import Part
from headrace.model.writing import Body
from headrace.stores.az_upload_blobs import Attempt
from headrace.stores.az_write import AT_HAND_BYTES, AzWrites
from headrace.stores.s3_parts import BodyCutter
from headrace.stores.writes import TYPE, whole

_BLOCKS_OF_A_PART = 5
"""So that 10,000 parts make no more blocks than a blob may have."""

_LARGEST_BLOCK = 64 << 20


def part_block_bytes(length: int | None) -> int:
    """How long the blocks of a part are, of which each is at hand as a whole."""
    return min(_LARGEST_BLOCK, max(AT_HAND_BYTES, -(-(length or 0) // _BLOCKS_OF_A_PART)))


class PartSender:
    """Sends one part to the blob `name`."""

    def __init__(self, writes: AzWrites, name: str, attempt: Attempt, algorithm: str) -> None:
        self._writes = writes
        self._name = name
        self._attempt = attempt
        self._algorithm = algorithm
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sum = Checksummer(Algorithm(algorithm)) if algorithm else None

    async def send(self, body: Body, key: str) -> Part:
        """The part; its blocks are a part only when the last of them is there."""
        cutter = BodyCutter(whole(body, key), key)
        size = part_block_bytes(body.length)
        try:
            pieces, place, total = await cutter.gather(size), 0, 0
            while True:
                data = b"".join(pieces)
                total += len(data)
                await asyncio.to_thread(self._take, data)
                pieces = [] if cutter.is_ended else await cutter.gather(size)
                if not pieces:
                    break
                await self._writes.send_block(self._name, self._attempt.name(place), data)
                place += 1
        finally:
            await cutter.aclose()
        if not total:
            raise Unsupported(f"az {key!r}: Azure keeps no empty parts; write an empty object as a whole", path=key)
        digest = b"" if self._sum is None else self._sum.digest()
        name = self._attempt.name(place, md5=self._md5.digest(), digest=digest)
        await self._writes.send_block(self._name, name, data)
        sums = tuple([pair for pair in body.checksums() if pair[0] not in (TYPE, "md5")])
        if self._sum is not None and self._algorithm not in dict(sums):
            sums = (*sums, (self._algorithm, self._sum.base64()))
        return Part(self._attempt.number, self._md5.hexdigest(), total, self._attempt.time_ms / 1e3, sums)

    def _take(self, data: Buffer) -> None:
        self._md5.update(data)
        if self._sum is not None:
            self._sum.update(data)
