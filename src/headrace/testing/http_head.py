"""Heads and bodies of HTTP/1.1 messages, read plainly and passed on without judging them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

_READ_BYTES = 64 * 1024


class Head(msgspec.Struct, frozen=True):
    """The first line and the headers as they came, in order."""

    first: str
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The first value of a header, empty when there is none."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), "")

    def replace(self, name: str, value: str) -> Head:
        """The same head with this header instead of its namesakes; an empty value takes it away."""
        kept = tuple(each for each in self.headers if each[0].lower() != name.lower())
        return Head(self.first, (*kept, (name, value)) if value else kept)

    def encode(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    @property
    def chunked(self) -> bool:
        return "chunked" in self.get("transfer-encoding").lower()

    @property
    def length(self) -> int | None:
        """Content-Length, None when it is not said."""
        text = self.get("content-length")
        return int(text) if text.isdigit() else None


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head, None when the connection ended in front of it. Raises `EOFError` when it ended within."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = raw[:-4].decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Head(first, tuple((name, value.strip()) for name, _, value in pairs))


async def read_body(reader: asyncio.StreamReader, head: Head, *, until_end: bool) -> AsyncIterator[bytes]:
    """The body's bytes, chunks taken apart. A body of unknown length lasts to the connection's end or is empty."""
    if head.chunked:
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    elif head.length is not None:
        left = head.length
        while left:
            data = await reader.read(min(left, _READ_BYTES))
            if not data:
                raise EOFError("the body ended early")
            left -= len(data)
            yield data
    elif until_end:
        while data := await reader.read(_READ_BYTES):
            yield data
