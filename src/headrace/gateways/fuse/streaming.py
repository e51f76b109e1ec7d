"""A forward reader's stream: one long read of the object, of which the kernel's requests take their parts.

The kernel asks for a megabyte at a time, several at once and not always in order. Asked one by one they would fill pages one by
one; one long read fills them in large pieces, and goes on while answers are on their way.
"""

from __future__ import annotations

import asyncio
from collections import deque

from headrace.model.reading import Buffer, Reading

AHEAD_BYTES = 8 << 20
"""What is read before anybody asked for it, at most."""
_BEHIND_BYTES = 4 << 20
"""What was asked for already and is kept for requests that overtook each other."""


class Stream:
    """Bytes of one version, to the end of `reading`, as they come. `reading` is one without `ready`. `close` it in any case."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._buffers: deque[tuple[int, memoryview]] = deque()
        self._low = self._high = reading.range.start
        self._asked = self._low
        self._failure: Exception | None = None
        self._moved = asyncio.Event()
        self._wanted = asyncio.Event()
        self._pump = asyncio.ensure_future(self._run())

    def covers(self, offset: int, length: int) -> bool:
        """Whether a request for these bytes belongs to the stream."""
        near = self._low <= offset <= max(self._high, self._asked) + AHEAD_BYTES
        return near and offset + length <= self._reading.range.end and self._failure is None

    async def take(self, offset: int, length: int) -> tuple[memoryview, ...] | None:
        """The bytes; None when they were let go already. Raises what reading raised."""
        end = offset + length
        self._asked = max(self._asked, end)
        self._wanted.set()
        while self._high < end and not self._pump.done():
            self._moved.clear()
            await self._moved.wait()
        if self._failure is not None:
            raise self._failure
        if offset < self._low or self._high < end:
            return None
        parts: list[memoryview] = []
        for start, data in self._buffers:
            if start >= end:
                break
            if start + len(data) > offset:
                parts.append(data[max(0, offset - start) : end - start])
        return tuple(parts)

    async def close(self) -> None:
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        self._buffers.clear()

    async def _run(self) -> None:
        try:
            async for part in self._reading:
                await self._add(part)
        except Exception as error:  # noqa: BLE001  whatever it is: raised to whoever waits for the bytes
            self._failure = error
        finally:
            self._moved.set()
            await self._reading.aclose()

    async def _add(self, data: Buffer) -> None:
        self._buffers.append((self._high, memoryview(data)))
        self._high += len(data)
        self._moved.set()
        while self._buffers and self._buffers[0][0] + len(self._buffers[0][1]) < self._asked - _BEHIND_BYTES:
            start, old = self._buffers.popleft()
            self._low = start + len(old)
        while self._high - self._asked >= AHEAD_BYTES:
            self._wanted.clear()
            await self._wanted.wait()
