"""Reading an object that lives here: block by block, each proved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from headrace.model.objects import ByteRange
from headrace.model.reading import Buffer, Reading, Served
from headrace.scratch.records import BLOCK_BYTES
from headrace.scratch.root import Blocks, Opened, ScratchRoot
from headrace.stores.keys import cut_range

_PIECE_BYTES = 4 * BLOCK_BYTES


class ScratchReading(Reading):
    """Bytes of one version. Its first ones are read when it is made."""

    __slots__ = ("_blocks", "_first", "_opened", "_root")

    def __init__(self, root: ScratchRoot, opened: Opened, byte_range: ByteRange | None) -> None:
        """In a thread. Raises `InvalidRange`, `Lost`."""
        info = opened.held.info
        super().__init__(info, cut_range(byte_range, info.size, info.key), served=Served.HIT)
        self._root = root
        self._opened = opened
        self._blocks = Blocks(root, opened)
        self._first = self._blocks.read(_piece(self.range.start, self.range.end)) if self.range.length else b""

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        if self._first:
            yield self._first
        position = self.range.start + len(self._first)
        while position < self.range.end:
            piece = _piece(position, self.range.end)
            yield await self._root.run(partial(self._blocks.read, piece), self.info.key)
            position = piece.end
        self._opened.file.close()

    async def aclose(self) -> None:
        if self._opened.file.idle():
            self._opened.file.close()
        else:  # a read that was given up still runs in its thread
            await asyncio.get_running_loop().run_in_executor(None, self._opened.file.close)


def _piece(start: int, end: int) -> ByteRange:
    """What is read at once: up to where a block ends."""
    return ByteRange(start, min(end, start - start % BLOCK_BYTES + _PIECE_BYTES))
