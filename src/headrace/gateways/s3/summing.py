"""A body that is read here and given a checksum on its way."""

from __future__ import annotations

from collections.abc import AsyncIterator

from headrace.model.checksums import Algorithm, Checksummer
from headrace.model.reading import Buffer, Reading
from headrace.model.writing import Body, Pairs, ReadingBody


class SummedBody(Body):
    """What a reading yields, with a checksum of it that is known when all of it has passed."""

    def __init__(self, reading: Reading, algorithm: Algorithm) -> None:
        self._inner = ReadingBody(reading)
        self._summer = Checksummer(algorithm)
        self._algorithm = algorithm
        self._sum = ""
        self.length = reading.range.length

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        async for piece in self._inner:
            self._summer.update(piece)
            yield piece
        self._sum = self._summer.base64()

    def checksums(self) -> Pairs:
        return ((self._algorithm.value, self._sum),) if self._sum else ()
