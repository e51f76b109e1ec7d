"""One sample: an object whose bytes are at hand, in memory or in open files of the page cache."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from headrace.model.reading import FileSlice, Piece


class Sample:
    """An object's bytes, of one version. They are read where they lie when they are asked for."""

    __slots__ = ("_again", "_pieces", "number", "path", "size")

    def __init__(self, number: int, path: str, pieces: Sequence[Piece], again: Callable[[str], bytes]) -> None:
        self.number = number
        """Its place among all samples of its source."""
        self.path = path
        self.size = sum(piece.length if isinstance(piece, FileSlice) else len(piece) for piece in pieces)
        self._pieces = pieces
        self._again = again

    def read(self) -> bytes:
        """All bytes. Raises what a read of the object raises where they have to be asked for anew."""
        if len(self._pieces) == 1:
            piece = self._pieces[0]
            if not isinstance(piece, FileSlice):
                return bytes(piece)
            if piece.until > time.monotonic():
                data = os.pread(piece.fd, piece.length, piece.offset)
                if len(data) == self.size:
                    return data
        whole = bytearray(self.size)
        return bytes(whole) if self._fill(memoryview(whole)) else self._anew()

    def read_into(self, target: Any) -> None:
        """All bytes into the writable buffer `target`, which must be `size` bytes long."""
        view = memoryview(target).cast("B")
        if view.nbytes != self.size:
            raise ValueError(f"{self.path} has {self.size} bytes, the buffer for it {view.nbytes}")
        if not self._fill(view):
            view[:] = self._anew()

    def _anew(self) -> bytes:
        """The right to read open files ends after seconds, and a damaged one is short: the object is asked for again."""
        data = self._again(self.path)
        if len(data) != self.size:
            raise ValueError(f"{self.path} changed its size from {self.size} to {len(data)} bytes while it waited to be read")
        return data

    def _fill(self, view: memoryview) -> bool:
        now, done = time.monotonic(), 0
        for piece in self._pieces:
            if isinstance(piece, FileSlice):
                if piece.until <= now or os.preadv(piece.fd, [view[done : done + piece.length]], piece.offset) != piece.length:
                    return False
                done += piece.length
            else:
                view[done : done + len(piece)] = piece
                done += len(piece)
        return done == self.size
