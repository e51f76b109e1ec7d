"""What a write hands to a store: bytes as they come, what is kept with them, and the condition under which they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

import msgspec

from headrace.model.objects import ObjectInfo
from headrace.model.reading import Buffer, Reading

Pairs = tuple[tuple[str, str], ...]

ACL_TAG = "headrace:acl"
"""The tag under which a gateway keeps who owns an object and who may do what. No caller names it; it counts and shows as none."""


class Attributes(msgspec.Struct, frozen=True):
    """What is kept with an object's bytes. Names as in `ObjectInfo`."""

    content_type: str = ""
    headers: Pairs = ()
    metadata: Pairs = ()
    tags: Pairs = ()


PLAIN = Attributes()


def attributes_of(info: ObjectInfo, tags: Pairs = ()) -> Attributes:
    """The attributes that an object has, so that a copy keeps them."""
    return Attributes(info.content_type, info.headers, info.metadata, tags)


class Condition(msgspec.Struct, frozen=True):
    """What must be so at the very moment at which a write takes effect. Entity tags are without quotes."""

    if_match: str = ""
    """The object must have this entity tag; `*`: there must be one. Empty: whatever is there."""
    if_none_match: str = ""
    """There must be no object with this entity tag; `*`: none at all. Empty: whatever is there."""

    def __bool__(self) -> bool:
        return bool(self.if_match or self.if_none_match)

    def holds(self, info: ObjectInfo | None) -> bool:
        """Whether the condition is met by what is there; None: there is nothing."""
        if info is None:
            return not self.if_match
        if self.if_match and self.if_match not in ("*", info.etag):
            return False
        return not self.if_none_match or self.if_none_match not in ("*", info.etag)


ALWAYS = Condition()


class Body(ABC):
    """The bytes of one write, in order.

    An iteration that ends has yielded the whole body, with every length, digest and signature that was promised for it proved.
    One that raises has not: whoever writes it then publishes nothing, and lets the error pass.
    """

    length: int | None
    """In bytes; None when it is known at the end only."""
    rewindable: bool = False
    """Whether it may be iterated again from its start, so that a failed write can be tried once more."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Buffer]:
        """The bytes. Only once, unless `rewindable`."""

    def at_hand(self) -> Buffer | None:
        """All of it, where it is in memory already, proved; it then counts as iterated. None: iterate."""
        return None

    def checksums(self) -> Pairs:
        """Checksums of the whole body that its sender gave, proved right and named as in `ObjectInfo.checksums`.

        What is sent behind the body is among them only when the iteration has ended.
        """
        return ()


class BytesBody(Body):
    """A body at hand."""

    rewindable = True

    def __init__(self, data: Buffer, checksums: Pairs = ()) -> None:
        self.length = len(data)
        self._data = data
        self._checksums = checksums

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        if self.length:
            yield self._data

    def at_hand(self) -> Buffer | None:
        return self._data

    def checksums(self) -> Pairs:
        return self._checksums


class ReadingBody(Body):
    """What is read here is written there. The reading is closed when the iteration ends, however it does."""

    def __init__(self, reading: Reading) -> None:
        self.length = reading.range.length
        self._reading = reading

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        try:
            async for piece in self._reading:
                yield piece
        finally:
            await self._reading.aclose()

    def checksums(self) -> Pairs:
        info, whole = self._reading.info, self._reading.range
        return info.checksums if whole.length == info.size and ("type", "COMPOSITE") not in info.checksums else ()
