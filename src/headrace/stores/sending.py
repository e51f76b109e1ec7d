"""Sending: the bytes of one request on their way to a store, proved whole before the last of them leaves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from types import AsyncGeneratorType

from headrace.model.errors import CorruptData
from headrace.model.reading import Buffer

_PIECE_BYTES = 256 * 1024
"""What a store is given at once, so that a slow one is seen to get ahead."""


class Sending:
    """`length` bytes of `source`, for one `Http.request`. Cannot be sent again.

    A store makes an object of what it has as soon as it has all bytes, while only a source whose iteration has ended has
    proved them: so the last piece waits for that end. What the source raises is kept in `error` and nothing more is sent.
    """

    def __init__(self, source: AsyncIterable[Buffer], length: int, *, path: str = "") -> None:
        self.length = length
        self.error: Exception | None = None
        self._source = source
        self.path = path
        self._pieces: AsyncGenerator[Buffer, None] | None = None

    def pieces(self) -> AsyncIterator[Buffer]:
        """What goes out, piece by piece."""
        self._pieces = self._going_out()
        return self._pieces

    async def stop(self) -> None:
        """End the source of a request that failed, unless it is being waited for: then it ends with whoever waits."""
        if isinstance(self._pieces, AsyncGeneratorType) and not self._pieces.ag_running:
            await self._pieces.aclose()

    async def _going_out(self) -> AsyncGenerator[Buffer, None]:
        iterator = aiter(self._source)
        try:
            held: list[Buffer] = []
            left = self.length
            async for piece in _noted(iterator, self):
                left -= len(piece)
                if left < 0:
                    raise self._refused(f"is longer than the {self.length} bytes that were announced")
                for ready in held:
                    yield ready
                held = _cut(piece)
            if left:
                raise self._refused(f"ended {left} bytes early")
            for ready in held:
                yield ready
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    def _refused(self, what: str) -> CorruptData:
        self.error = error = CorruptData(f"{self.path!r}: the body {what}; nothing was written", path=self.path)
        return error


async def _noted(iterator: AsyncIterator[Buffer], sending: Sending) -> AsyncIterator[Buffer]:
    try:
        async for piece in iterator:
            if len(piece):
                yield piece
    except Exception as error:  # whatever the source raises is the write's own error
        sending.error = error
        raise


def _cut(piece: Buffer) -> list[Buffer]:
    if len(piece) <= _PIECE_BYTES:
        return [piece]
    view = memoryview(piece)
    return [view[start : start + _PIECE_BYTES] for start in range(0, len(view), _PIECE_BYTES)]
