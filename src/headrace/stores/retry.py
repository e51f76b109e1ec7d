"""RetryStore: asks again what could not be known, within a deadline, and spares a store that is away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import DeadlineExceeded, Unavailable
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Buffer, Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart
from headrace.stores.retry_writes import Progress, RetriedBuckets, RetriedUploads, RetriedWrites
from headrace.stores.store import Store

T = TypeVar("T")


class RetrySettings(msgspec.Struct, frozen=True):
    """Times are seconds. A wait is drawn from 0 up to `base_s` × 2^tries, at most `longest_s`."""

    tries: int = 4
    base_s: float = 0.1
    longest_s: float = 5.0
    failures_to_open: int = 5
    probe_every_s: float = 1.0


def decide(error: Unavailable, *, tried: int, left_s: float, jitter: float, settings: RetrySettings) -> float | None:
    """Seconds to wait before the next try, or None to give up.

    `tried` counts the tries made, `left_s` is the time left, `jitter` lies in [0, 1). The store's own wish is
    obeyed: when it does not fit into the time left there is no next try.
    """
    if tried >= settings.tries or isinstance(error, DeadlineExceeded):
        return None
    wait_s = jitter * min(settings.longest_s, settings.base_s * 2 ** (tried - 1))
    if error.retry_after_s is not None:
        wait_s += error.retry_after_s
    return wait_s if wait_s < left_s else None


class Circuit:
    """Whether a store may be asked now. Opens after failures in a row; while open, one probe a second passes."""

    def __init__(self, failures_to_open: int, probe_every_s: float) -> None:
        self._failures_to_open = failures_to_open
        self._probe_every_s = probe_every_s
        self._failures = 0
        self._next_probe = 0.0

    @property
    def is_open(self) -> bool:
        return self._failures >= self._failures_to_open

    def may_ask(self, now: float) -> bool:
        """Ask at most once per request: a yes while open is the probe of this second."""
        if not self.is_open:
            return True
        if now < self._next_probe:
            return False
        self._next_probe = now + self._probe_every_s
        return True

    def answered(self) -> None:
        """The store answered, be it with an error of its own: it is there."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """The store could not be asked."""
        self._failures += 1
        if self._failures == self._failures_to_open:
            self._next_probe = now + self._probe_every_s


class RetryStore(Store):
    """`inner` with retries, a total deadline and a circuit. Only `Unavailable` is ever retried.

    A body that breaks is asked for again only while none of it has been handed on. `deadline_s` is
    for a call to be answered (a read: to begin), all tries and waits included; a write has it anew with each piece that
    the store takes.
    """

    def __init__(
        self,
        inner: Store,
        clock: Clock,
        *,
        deadline_s: float = 30.0,
        settings: RetrySettings | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._deadline_s = deadline_s
        self._settings = settings = settings or RetrySettings()
        self._sleep = sleep
        self._jitter = jitter
        self._circuit = Circuit(settings.failures_to_open, settings.probe_every_s)
        self._writes = RetriedWrites(inner, self.retried, clock, deadline_s)
        self._last_failure = ""

    @property
    def is_away(self) -> bool:
        """Whether the store failed so often that it is only probed."""
        return self._circuit.is_open

    def peek(self, key: str, byte_range: ByteRange | None, *, files: bool = False) -> Reading | None:
        return self._inner.peek(key, byte_range, files=files)

    async def info(self, key: str) -> ObjectInfo:
        return await self.retried(lambda: self._inner.info(key), key)

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        reading = await self.retried(lambda: self._inner.read(key, byte_range, version=version), key)
        if reading.ready is not None:
            return reading
        return _RetriedReading(reading, lambda: self.reread(key, byte_range, reading.info.version), self.body_ended)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        return await self.retried(lambda: self._inner.list(prefix, delimiter=delimiter, after=after, limit=limit), prefix)

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        return await self.retried(lambda: self._inner.tags(key), key)

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        return await self.retried(lambda: self._inner.part(info, number), info.key)

    async def write(self, key: str, body: Body, attributes: Attributes = PLAIN, *, condition: Condition = ALWAYS) -> ObjectInfo:
        return await self._writes.write(key, body, attributes, condition)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        return await self._writes.copy(source, key, attributes, condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:
        await self._writes.delete(key, condition)

    async def set_tags(self, key: str, tags: Pairs) -> None:
        await self.retried(lambda: self._inner.set_tags(key, tags), key)

    def multipart(self) -> Multipart:
        return RetriedUploads(self._inner.multipart(), self._inner, self.retried, self._clock, self._deadline_s)

    def buckets(self) -> Buckets:
        return RetriedBuckets(self._inner.buckets(), self.retried)

    async def close(self) -> None:
        await self._inner.close()

    async def reread(self, key: str, byte_range: ByteRange | None, version: Version) -> Reading:
        """The same bytes once more, for a body that broke before its first byte."""
        return await self.retried(lambda: self._inner.read(key, byte_range, version=version), key)

    def body_ended(self, error: Unavailable | None) -> None:
        """Tell the circuit how a body ended."""
        if error is None:
            self._circuit.answered()
        else:
            self._note(error)

    async def retried(
        self,
        call: Callable[[], Awaitable[T]],
        path: str,
        *,
        again: Callable[[Unavailable], bool] | None = None,
        progress: Progress | None = None,
    ) -> T:
        """Make a call until it is answered. `again` may refuse a next try; with `progress` its own deadline holds."""
        progress = progress or Progress(self._clock, self._deadline_s)
        tried = 0
        while True:
            if not self._circuit.may_ask(self._clock.monotonic()):
                wish_s = self._settings.probe_every_s
                message = (
                    f"the store has failed repeatedly and is probed every {wish_s:g} s; the last failure: {self._last_failure}"
                )
                raise Unavailable(message, path=path, retry_after_s=wish_s)
            tried += 1
            try:
                answer = await self._once(call, path, progress)
            except Unavailable as error:
                self._note(error)
                left_s = progress.left_s()
                wait_s = decide(error, tried=tried, left_s=left_s, jitter=self._jitter(), settings=self._settings)
                if (again is not None and not again(error)) or wait_s is None:
                    raise
                await self._sleep(wait_s)
            else:
                return answer

    async def _once(self, call: Callable[[], Awaitable[T]], path: str, progress: Progress) -> T:
        try:
            async with asyncio.timeout(progress.left_s()) as limit:
                answer = await progress.during(limit, call)
        except TimeoutError as error:
            message = f"the store did not answer within {progress.deadline_s:g} s, tries included"
            raise DeadlineExceeded(message, path=path) from error
        except Unavailable:
            raise
        except Exception:  # whatever it is: tidied up here, raised on
            self._circuit.answered()
            raise
        self._circuit.answered()
        return answer

    def _note(self, error: Unavailable) -> None:
        self._last_failure = str(error)
        # A store that only ever asks for fewer requests is spared like one that is away.
        self._circuit.failed(self._clock.monotonic())


class _RetriedReading(Reading):
    """A body that is asked for once more when it breaks before its first byte."""

    __slots__ = ("_again", "_ended", "_inner")

    def __init__(
        self, inner: Reading, again: Callable[[], Awaitable[Reading]], ended: Callable[[Unavailable | None], None]
    ) -> None:
        super().__init__(inner.info, inner.range, served=inner.served, age_s=inner.age_s)
        self._inner = inner
        self._again = again
        self._ended = ended

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        yielded = False
        try:
            async for piece in self._inner:
                yielded = True
                yield piece
            self._ended(None)
            return
        except Unavailable as error:
            self._ended(error)
            if yielded:
                raise
        await self._inner.aclose()
        self._inner = await self._again()
        async for piece in self._inner:
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()
