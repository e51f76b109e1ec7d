"""Cyclic redundancy checks as S3 knows them: of short bytes, and of bytes put together from parts with known checks. Pure.

Checks of long bodies are computed where they are received; here they are only combined, which costs no look at the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache


class Crc:
    """A reflected CRC with all bits inverted before and after, by its reversed polynomial."""

    def __init__(self, width: int, polynomial: int) -> None:
        self.width = width
        self._polynomial = polynomial
        self._mask = (1 << width) - 1
        self._table = [self._shifted(byte, 8) for byte in range(256)]

    def of(self, data: bytes) -> bytes:
        """The check of short bytes, big-endian."""
        state = self._mask
        for byte in data:
            state = self._table[(state ^ byte) & 0xFF] ^ (state >> 8)
        return self._bytes(state ^ self._mask)

    def joined(self, first: bytes, second: bytes, second_bytes: int) -> bytes:
        """The check of two runs of bytes, one behind the other, from their checks and the second's length."""
        moved = self._product(int.from_bytes(first, "big"), _power(self, second_bytes))
        return self._bytes(moved ^ int.from_bytes(second, "big"))

    def power(self, length_bytes: int) -> int:
        """x to the power of that many bytes' bits, modulo the polynomial."""
        result = 1 << (self.width - 1)
        factor = self._shifted(result, 8)
        while length_bytes:
            if length_bytes & 1:
                result = self._product(result, factor)
            factor = self._product(factor, factor)
            length_bytes >>= 1
        return result

    def _product(self, one: int, other: int) -> int:
        # Reflected: the highest bit is the coefficient of x to the power of 0.
        result = 0
        for position in range(self.width - 1, -1, -1):
            if one >> position & 1:
                result ^= other
            other = self._shifted(other, 1)
        return result

    def _shifted(self, state: int, bits: int) -> int:
        for _ in range(bits):
            state = (state >> 1) ^ (self._polynomial if state & 1 else 0)
        return state

    def _bytes(self, state: int) -> bytes:
        return state.to_bytes(self.width // 8, "big")


@lru_cache(maxsize=256)
def _power(crc: Crc, length_bytes: int) -> int:
    return crc.power(length_bytes)


COMBINED = {
    "crc32": Crc(32, 0xEDB88320),
    "crc32c": Crc(32, 0x82F63B78),
    "crc64nvme": Crc(64, 0x9A6C9329AC4BC9B5),
}
"""By the names of `ObjectInfo.checksums`."""


def combine(algorithm: str, checks: Sequence[bytes], sizes: Sequence[int]) -> bytes:
    """The check of runs of bytes put together in order, from at least one run's check and length each."""
    crc = COMBINED[algorithm]
    whole = checks[0]
    for check, size in zip(checks[1:], sizes[1:], strict=True):
        whole = crc.joined(whole, check, size)
    return whole
