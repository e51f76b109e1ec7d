"""HDFS's checksum of a file: the MD5 of its blocks' MD5s, each of the CRC-32Cs of every 512 bytes.

After `DFSClient.getFileChecksum` and `MD5MD5CRC32FileChecksum` of Hadoop, so that a file here and its copy in HDFS (with blocks
of the same length) have one checksum.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct

from headrace.model.checksums import Algorithm, crc_function
from headrace.model.reading import Buffer

MOST_BYTES = 8 << 30
BYTES_PER_CRC = 512
_EMPTY = hashlib.md5(bytes(32), usedforsecurity=False).digest()
_FIRST_BUFFER = 32
_PIECE_BYTES = 256 * 1024


class BlockSums:
    """Takes a file's bytes in order."""

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._crc = crc_function(Algorithm.CRC32C)
        """A multiple of 512."""
        self._left = block_bytes
        self._held = b""
        self._block = hashlib.md5(usedforsecurity=False)
        self._digests: list[bytes] = []
        self._started = False

    async def update(self, piece: Buffer) -> None:
        """More of the file. What is long is computed in a thread."""
        view = memoryview(piece).cast("B")
        for start in range(0, len(view), _PIECE_BYTES):
            await asyncio.to_thread(self.add, view[start : start + _PIECE_BYTES])

    def add(self, view: Buffer) -> None:
        """More of the file, now."""
        data = memoryview(self._held + bytes(view))
        whole = len(data) // BYTES_PER_CRC * BYTES_PER_CRC
        at = 0
        while at < whole:
            end = min(whole, at + self._left)
            self._sum(data[at:end])
            self._left -= end - at
            at = end
            if not self._left:
                self._end_block()
        self._held = bytes(data[whole:])

    @property
    def algorithm(self) -> str:
        """As Hadoop names it; to be asked behind the last byte."""
        self._finish()
        if not self._digests:
            return "MD5-of-0MD5-of-0CRC32"
        return f"MD5-of-{self._per_block}MD5-of-{BYTES_PER_CRC}CRC32C"

    def digest(self) -> bytes:
        """The checksum; to be asked behind the last byte."""
        self._finish()
        if not self._digests:
            return struct.pack(">iq", 0, 0) + _EMPTY
        joined = b"".join(self._digests)
        size = _FIRST_BUFFER
        while size < len(joined):
            size *= 2
        # Hadoop hashes its whole buffer, which doubles as it fills, with the zeros behind the last digest.
        whole = hashlib.md5(joined.ljust(size, b"\0"), usedforsecurity=False).digest()
        return struct.pack(">iq", BYTES_PER_CRC, self._per_block) + whole

    @property
    def _per_block(self) -> int:
        return self._block_bytes // BYTES_PER_CRC if len(self._digests) > 1 else 0

    def _sum(self, data: memoryview) -> None:
        crc = self._crc
        sums = [crc(data[start : start + BYTES_PER_CRC], 0) for start in range(0, len(data), BYTES_PER_CRC)]
        self._started = True
        self._block.update(struct.pack(f">{len(sums)}I", *sums))

    def _end_block(self) -> None:
        self._digests.append(self._block.digest())
        self._block = hashlib.md5(usedforsecurity=False)
        self._left = self._block_bytes
        self._started = False

    def _finish(self) -> None:
        if self._held:
            self._sum(memoryview(self._held))
            self._held = b""
        if self._started:
            self._end_block()
