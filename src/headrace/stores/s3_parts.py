"""Bodies cut into the parts of multipart uploads, with bounded memory. No requests are made here."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from headrace.model.errors import CorruptData, Unsupported
from headrace.model.reading import Buffer
from headrace.model.uploads import MAX_PART_NUMBER
from headrace.model.writing import Body

FIRST_PART_BYTES = 8 << 20
_LARGEST_AT_HAND = 64 << 20
_STEP = 1000
_UNIT = 1 << 20


def part_bytes(length: int) -> int:
    """How long the parts of an object of `length` bytes are, so that 10,000 suffice."""
    fitting = -(-length // MAX_PART_NUMBER)
    return max(FIRST_PART_BYTES, -(-fitting // _UNIT) * _UNIT)


def growing_part_bytes(number: int) -> int:
    """How long part `number` of a body of unknown length is: from 8 MiB, doubled each 1,000 parts, up to 64 MiB."""
    return min(_LARGEST_AT_HAND, FIRST_PART_BYTES << ((number - 1) // _STEP))


class BodyCutter:
    """Takes a body apart in order."""

    def __init__(self, body: AsyncIterable[Buffer], path: str) -> None:
        self._pieces = aiter(body)
        self._path = path
        self._rest: Buffer = b""
        self.is_ended = False

    async def take(self, count: int) -> AsyncIterator[Buffer]:
        """The next `count` bytes, or fewer at the end."""
        while count:
            piece = self._rest if len(self._rest) else await anext(self._pieces, None)
            if piece is None:
                self.is_ended = True
                return
            if len(piece) > count:
                view = memoryview(piece)
                piece, self._rest = view[:count], view[count:]
            else:
                self._rest = b""
            count -= len(piece)
            yield piece

    async def gather(self, count: int) -> list[Buffer]:
        """The next `count` bytes at hand; fewer only at the end."""
        return [piece async for piece in self.take(count)]

    async def finish(self) -> None:
        """See the body to its end, which proves it. Raises `CorruptData` when more bytes come."""
        if not self.is_ended and (len(self._rest) or await anext(self._pieces, None) is not None):
            raise CorruptData(f"{self._path!r}: the body is longer than was announced; nothing was written", path=self._path)

    async def aclose(self) -> None:
        """Give up the rest."""
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()


async def gathered(body: Body, limit: int, path: str) -> bytes:
    """The whole of a small body. Raises `CorruptData` when it is not as long as announced, `Unsupported` beyond `limit`."""
    cutter = BodyCutter(body, path)
    try:
        pieces = await cutter.gather(limit if body.length is None else body.length)
        size = sum(map(len, pieces))
        if body.length is None and not cutter.is_ended and size == limit:
            raise Unsupported(f"{path!r}: {limit} bytes and more at once must come with their length", path=path)
        if body.length is not None and size < body.length:
            raise CorruptData(f"{path!r}: the body ended {body.length - size} bytes early; nothing was written", path=path)
        await cutter.finish()
    finally:
        await cutter.aclose()
    return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
