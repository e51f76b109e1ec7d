"""All objects below a prefix as numbered samples, read together and ahead of who takes them."""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeGuard

import msgspec

from headrace import bridge
from headrace.client import Client, namespace_path
from headrace.embedded import OwnNamespace
from headrace.gateways import fsspec as calls
from headrace.model.errors import NotFound
from headrace.model.objects import Entry, ObjectInfo
from headrace.model.reading import Piece
from headrace.namespace.namespace import Namespace
from headrace.samples.sample import Sample
from headrace.session import Session

_AT_ONCE = 16
_TOGETHER = 64


class Ahead(msgspec.Struct, frozen=True):
    """How far to read ahead: at most so many samples, and so many bytes of them, the one in use included."""

    samples: int = 256
    bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.samples < 1 or self.bytes < 1:
            raise ValueError("at least one sample of one byte is held at a time")

    @property
    def window(self) -> int:
        """Samples that are asked for together: as many as one exchange with a node takes."""
        return max(1, min(_TOGETHER, self.samples // 2))

    @property
    def windows(self) -> int:
        """How many windows there are at a time: one in use, the others on their way."""
        return self.samples // self.window


AHEAD = Ahead()


class Samples:
    """The objects below `prefix` whose names end with `suffix`, in the order of their keys, as they are listed now.

    Can be pickled and shared with forked processes. Raises `NotFound` where there are none.
    """

    def __init__(self, client: Client, prefix: str, *, suffix: str = "") -> None:
        self.client = client
        self.prefix = namespace_path(prefix)
        listed = [entry for entry in client.ls(prefix, recursive=True) if _is_sample(entry, suffix)]
        if not listed:
            raise NotFound(f"no objects{f' that end with {suffix}' if suffix else ''} lie below {self.prefix}", path=self.prefix)
        self._paths = [entry.key for entry in listed]
        self._sizes = array("q", (entry.size for entry in listed))

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, number: int) -> str:
        """The object behind a number."""
        return self._paths[number]

    def read(self, numbers: Sequence[int]) -> list[Sample]:
        """These samples, asked for together."""
        return self.client.session.run(lambda namespace: self._fetch(namespace, numbers))

    def stream(self, numbers: Iterable[int], *, ahead: Ahead = AHEAD) -> Iterator[Sample]:
        """These samples one after the other; those that follow are fetched meanwhile, within the bounds of `ahead`."""
        windows = self._windows(numbers, ahead)
        coming: deque[Future[list[Sample]]] = deque()
        try:
            while True:
                lacking = ahead.windows - len(coming)
                coming.extend(bridge.submit(self._fetched(window)) for window in itertools.islice(windows, lacking))
                if not coming:
                    return
                yield from coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()

    def warm(self, numbers: Iterable[int], *, ahead: Ahead = AHEAD) -> int:
        """Bring these samples into the cache, in their order, and wait for it; how many bytes they have."""
        return sum(sample.size for sample in self.stream(numbers, ahead=ahead))

    def _windows(self, numbers: Iterable[int], ahead: Ahead) -> Iterator[list[int]]:
        window: list[int] = []
        held, most_bytes = 0, ahead.bytes // ahead.windows
        for number in numbers:
            size = self._sizes[number]
            if window and (len(window) >= ahead.window or held + size > most_bytes):
                yield window
                window, held = [], 0
            window.append(number)
            held += size
        if window:
            yield window

    async def _fetched(self, numbers: Sequence[int]) -> list[Sample]:
        return await self.client.session.call(lambda namespace: self._fetch(namespace, numbers))

    async def _fetch(self, namespace: Namespace, numbers: Sequence[int]) -> list[Sample]:
        paths = [self._paths[number] for number in numbers]
        ready = await _at_hand(namespace, paths)
        missing = [path for path in dict.fromkeys(paths) if path not in ready]
        gate = asyncio.Semaphore(_AT_ONCE)

        async def asked(path: str) -> Sequence[Piece]:
            async with gate:
                return ((await calls.read_range(namespace, path[1:], None, None))[1],)

        ready |= dict(zip(missing, await asyncio.gather(*(asked(path) for path in missing)), strict=True))
        again = self.client.read
        return [Sample(number, path, ready[path], again) for number, path in zip(numbers, paths, strict=True)]

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.client.session, self.prefix, self._paths, self._sizes)


def _remade(session: Session, prefix: str, paths: list[str], sizes: array[int]) -> Samples:
    made = object.__new__(Samples)
    made.client, made.prefix, made._paths, made._sizes = Client(session), prefix, paths, sizes
    return made


def _is_sample(entry: Entry, suffix: str) -> TypeGuard[ObjectInfo]:
    return isinstance(entry, ObjectInfo) and not entry.key.endswith("/") and entry.key.endswith(suffix)


async def _at_hand(namespace: Namespace, paths: Sequence[str]) -> dict[str, Sequence[Piece]]:
    """What can be read without waiting. Objects of many pages fill an answer early: what came after them is asked for again."""
    ready: dict[str, Sequence[Piece]] = {}
    missing = list(dict.fromkeys(paths))
    while missing and isinstance(namespace, OwnNamespace):
        before = len(ready)
        for start in range(0, len(missing), _TOGETHER):
            for path, reading in (await namespace.at_hand(missing[start : start + _TOGETHER])).items():
                ready[path] = reading.ready or ()
        missing = [path for path in missing if path not in ready]
        if len(ready) == before:
            break
    return ready
