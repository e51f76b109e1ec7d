"""Objects of Google Cloud Storage put together from others by the service: at most 32 at a time, so in levels."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

import msgspec

from headrace.model.checksums import Algorithm, ChecksumType, PartSum, of_parts
from headrace.model.uploads import Upload
from headrace.stores.gs_objects import Item
from headrace.stores.gs_requests import GsRequests, Query
from headrace.stores.gs_send import Document, GsSender
from headrace.stores.gs_upload_folder import UploadFolder

MOST = 32
"""What the service joins in one request."""

_AT_ONCE = 8


class Piece(msgspec.Struct, frozen=True):
    """An object that another one is made from."""

    name: str
    generation: str
    size: int
    crc32c: str


def piece_of(item: Item) -> Piece:
    """An object as a piece of another."""
    return Piece(item.name, item.generation, int(item.size), item.crc32c)


class Joiner:
    """Joins what belongs to an upload."""

    def __init__(self, requests: GsRequests, sender: GsSender, folder: UploadFolder) -> None:
        self._requests = requests
        self._sender = sender
        self._folder = folder

    async def reduce(self, upload: Upload, pieces: Sequence[Piece]) -> Sequence[Piece]:
        """So few pieces, in their order, that one request joins them. What is made for that belongs to the upload."""
        gate = asyncio.Semaphore(_AT_ONCE)
        nonce, level = secrets.token_hex(4), 0

        async def joined(group: Sequence[Piece], number: int) -> Piece:
            async with gate:
                key = self._folder.part(upload, f"join-{nonce}-{level}-{number:05}")
                return piece_of(await self.join(key, group, {}, {}))

        while len(pieces) > MOST:
            groups = [pieces[at : at + MOST] for at in range(0, len(pieces), MOST)]
            pieces = await asyncio.gather(*(joined(group, number) for number, group in enumerate(groups)))
            level += 1
        return pieces

    async def join(self, key: str, pieces: Sequence[Piece], document: Document, query: Query) -> Item:
        """The object made of exactly those versions. `query` is its condition.

        Raises `ConditionFailed`, and `NotFound` when one of the pieces is gone.
        """
        sources = [{"name": piece.name, "generation": piece.generation} for piece in pieces]
        message = {"kind": "storage#composeRequest", "sourceObjects": sources, "destination": document}
        target = self._requests.object_path(key) + "/compose"
        item = self._requests.described(await self._requests.change("POST", target, message, path=key, query=query), key)
        sums = [PartSum(piece.crc32c, piece.size) for piece in pieces]
        known = all(part.value for part in sums)
        crc32c = of_parts(Algorithm.CRC32C, ChecksumType.FULL_OBJECT, sums) if known else item.crc32c
        await self._sender.compare(key, item, crc32c, sum(piece.size for piece in pieces))
        return item
