"""Small objects that came whole are held against their ETag, where that is the MD5 of the bytes.

S3 says that of most objects but not of all, and not every service that speaks S3 says it at all. So a body that differs from
its ETag is drawn once more: bytes that come alike twice are what the store holds, others were damaged on their way.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from headrace.model.errors import CorruptData
from headrace.model.objects import ObjectInfo
from headrace.model.reading import Buffer, Reading
from headrace.stores.s3_objects import is_md5_etag

MAX_BYTES = 1 << 20
"""Larger objects are read in ranges, of which no ETag tells anything."""

_STRANGERS = 3
_ENCRYPTION = "x-amz-server-side-encryption"
_NO_MD5 = ("aws:kms", "aws:kms:dsse")


class Etags:
    """What is known of one store's ETags."""

    def __init__(self) -> None:
        self._matched = False
        self._strange = 0

    def prove(self, info: ObjectInfo, headers: Mapping[str, str]) -> bool:
        """Whether the ETag of this object, as the answer's headers describe it, is worth a comparison."""
        if not 0 < info.size <= MAX_BYTES or (self._strange >= _STRANGERS and not self._matched):
            return False
        if (
            headers.get("x-amz-server-side-encryption", "") in _NO_MD5
            or "x-amz-server-side-encryption-customer-algorithm" in headers
        ):
            return False
        return is_md5_etag(info.etag)

    def matched(self) -> None:
        self._matched = True

    def strange(self) -> None:
        """An ETag that is no MD5. A store that has had none that is one is soon not asked any more."""
        self._strange += 1


class ProvedReading(Reading):
    """A whole object whose last bytes wait until all are known to be right. `again` reads that version once more."""

    __slots__ = ("_again", "_etags", "_inner")

    def __init__(self, inner: Reading, etags: Etags, again: Callable[[], Awaitable[Reading]]) -> None:
        super().__init__(inner.info, inner.range)
        self._inner = inner
        self._etags = etags
        self._again = again

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        summing = hashlib.md5(usedforsecurity=False)
        held: Buffer = b""
        async for piece in self._inner:
            summing.update(piece)
            if held:
                yield held
            held = piece
        if summing.hexdigest() == self.info.etag:
            self._etags.matched()
        else:
            await self._compare(summing.digest())
        yield held

    async def _compare(self, first: bytes) -> None:
        """Raises `CorruptData` unless the same bytes come a second time."""
        summing = hashlib.md5(usedforsecurity=False)
        reading = await self._again()
        try:
            async for piece in reading:
                summing.update(piece)
        finally:
            await reading.aclose()
        if summing.digest() != first:
            path = self.info.key
            raise CorruptData(
                f"{path!r}: bytes were damaged on their way: they differ from their ETag and from a second look", path=path
            )
        self._etags.strange()
