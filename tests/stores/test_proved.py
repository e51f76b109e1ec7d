"""Bodies are held against ETags that are MD5s, and ETags that are none refuse nothing."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.errors import CorruptData
from headrace.model.objects import ByteRange, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.stores.proved import MAX_BYTES, Etags, ProvedReading


class Sent(Reading):
    def __init__(self, info: ObjectInfo, pieces: Sequence[bytes]) -> None:
        super().__init__(info, ByteRange(0, info.size))
        self.pieces = pieces
        self.closed = False

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._all()

    async def _all(self) -> AsyncIterator[Buffer]:
        for piece in self.pieces:
            yield piece

    async def aclose(self) -> None:
        self.closed = True


def described(body: bytes, etag: str = "") -> ObjectInfo:
    etag = etag or hashlib.md5(body, usedforsecurity=False).hexdigest()
    return ObjectInfo("k", len(body), Version(f"etag:{etag}"), 0.0, etag=etag)


class Place:
    """A store whose bodies come as `ways` says, one after the other."""

    def __init__(self, info: ObjectInfo, *ways: Sequence[bytes]) -> None:
        self.info = info
        self.ways = [Sent(info, pieces) for pieces in ways]
        self.etags = Etags()
        self.asked = 0

    async def next(self) -> Reading:
        self.asked += 1
        return self.ways[self.asked - 1]

    async def read(self) -> bytes:
        reading = ProvedReading(await self.next(), self.etags, self.next)
        return b"".join([bytes(piece) async for piece in reading])


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5))
async def test_right_bytes_come_through_in_one_look(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    place = Place(described(body), pieces)
    assert await place.read() == body
    assert place.asked == 1


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=5), st.data())
async def test_no_body_with_a_flipped_bit_is_ever_whole(pieces: list[bytes], data: st.DataObject) -> None:
    body = b"".join(pieces)
    number = data.draw(st.integers(0, len(pieces) - 1))
    at = data.draw(st.integers(0, len(pieces[number]) - 1))
    flipped = bytearray(pieces[number])
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    damaged = [*pieces[:number], bytes(flipped), *pieces[number + 1 :]]
    place = Place(described(body), damaged, pieces)
    with pytest.raises(CorruptData, match="damaged"):
        await place.read()
    assert place.ways[1].closed


async def test_an_etag_that_is_no_md5_refuses_nothing_and_is_soon_not_compared() -> None:
    body, etag = b"12345", "0123456789abcdef0123456789abcdef"
    info = described(body, etag)
    etags = Etags()
    for _ in range(3):
        assert etags.prove(info, {})
        place = Place(info, [body], [body])
        place.etags = etags
        assert await place.read() == body
        assert place.asked == 2
    assert not etags.prove(info, {})


async def test_a_store_whose_etags_were_md5s_is_compared_for_good() -> None:
    body = b"12345"
    place = Place(described(body), [body])
    await place.read()
    for _ in range(5):
        place.etags.strange()
    assert place.etags.prove(described(body), {})


@pytest.mark.parametrize(
    ("etag", "size", "headers"),
    [
        ("0123456789abcdef0123456789abcdef-2", 5, {}),
        ("1a-5-7", 5, {}),
        ("0123456789abcdef0123456789abcdef", MAX_BYTES + 1, {}),
        ("d41d8cd98f00b204e9800998ecf8427e", 0, {}),
        ("0123456789abcdef0123456789abcdef", 5, {"x-amz-server-side-encryption": "aws:kms"}),
        ("0123456789abcdef0123456789abcdef", 5, {"x-amz-server-side-encryption-customer-algorithm": "AES256"}),
    ],
)
def test_what_no_etag_tells_is_not_compared(etag: str, size: int, headers: dict[str, str]) -> None:
    assert not Etags().prove(ObjectInfo("k", size, Version("v"), 0.0, etag=etag), headers)
