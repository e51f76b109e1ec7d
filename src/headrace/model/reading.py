"""The answer to a read: which version, which bytes, and the bytes themselves as they come."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from enum import StrEnum

from headrace.model.objects import ByteRange, ObjectInfo

Buffer = bytes | bytearray | memoryview
"""Bytes of a body. Whoever is handed one may keep it: it is never written again."""


class Served(StrEnum):
    """How a response was served (`x-headrace-cache`)."""

    HIT = "hit"
    MISS = "miss"
    PARTIAL = "partial"
    STALE = "stale"
    BYPASS = "bypass"


class FileSlice:
    """A run of bytes in an open file of immutable content; `owner` keeps `fd` open while held.

    `until` is the monotonic second at which the right to read it ends: who keeps the slice asks again then.
    """

    __slots__ = ("fd", "length", "offset", "owner", "until")

    def __init__(self, fd: int, offset: int, length: int, owner: object, *, until: float = math.inf) -> None:
        self.fd = fd
        self.offset = offset
        self.length = length
        self.owner = owner
        self.until = until


Piece = bytes | bytearray | memoryview | FileSlice


class Reading(ABC):
    """Bytes of exactly one version. Either `ready` holds all of them, or they are iterated once.

    Iterating yields the bytes of `range` in order and raises (`VersionChanged`, `Unavailable`,
    `CorruptData`) rather than end early: a finished iteration has yielded exactly `range.length`
    bytes. Always `aclose()` one that was not iterated to its end.
    """

    __slots__ = ("age_s", "info", "range", "ready", "served")

    def __init__(
        self,
        info: ObjectInfo,
        byte_range: ByteRange,
        *,
        served: Served = Served.MISS,
        age_s: float = 0.0,
        ready: tuple[Piece, ...] | None = None,
    ) -> None:
        self.info = info
        self.range = byte_range
        self.served = served
        self.age_s = age_s
        """Seconds since the version was last known to be the store's current one."""
        self.ready = ready

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Buffer]:
        """The bytes of `range`, in order."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give up the rest; frees the connection or the wait. May be called more than once."""
