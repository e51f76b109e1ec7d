"""A staleness meter: a writer stamps objects behind a cache's back, readers say what they see, and how old that is comes out."""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

_LINES = 40
"""Of one stamp in a body: a body of two versions shows."""

Read = Callable[[str], bytes]
Write = Callable[[str, bytes], None]


class Ages(msgspec.Struct, frozen=True):
    """What the readers of one door saw. Seconds."""

    reads: int
    median_s: float
    most_s: float


class StalenessMeter:
    """Who was shown which version when. Safe among threads.

    The age of what a read saw is the time that the next version had been at the store already when the read began; 0 when
    there was none.
    """

    def __init__(self) -> None:
        self._written: dict[str, list[float]] = defaultdict(list)
        self._ages: dict[str, list[float]] = defaultdict(list)

    def next_body(self, key: str) -> bytes:
        """The body of the key's next version."""
        return f"{key} {len(self._written[key]):08d}\n".encode() * _LINES

    def written(self, key: str, at_s: float) -> None:
        """The store has acknowledged it."""
        self._written[key].append(at_s)

    def seen(self, door: str, key: str, body: bytes, began_s: float) -> float:
        """A read that began then was answered with this; its age. Raises `ValueError` for a body that was never written."""
        line, _, _ = body.partition(b"\n")
        name, _, number = line.decode(errors="replace").rpartition(" ")
        if name != key or not number.isdigit() or body != (line + b"\n") * _LINES:
            raise ValueError(f"{door} answered a read of {key!r} with what nobody wrote: {body[:100]!r}")
        times = self._written[key]
        following = int(number) + 1
        age_s = max(0.0, began_s - times[following]) if following < len(times) else 0.0
        self._ages[door].append(age_s)
        return age_s

    def ages(self) -> dict[str, Ages]:
        """By door."""
        return {door: Ages(len(ages), statistics.median(ages), max(ages)) for door, ages in self._ages.items()}


def measure(
    write: Write, doors: Mapping[str, Sequence[Read]], *, keys: Sequence[str], seconds: float, writes_per_s: float = 20.0
) -> dict[str, Ages]:
    """Write in turn to `keys`, each of which is there before a read; meanwhile every reader of every door reads them in turn.

    Raises what a reader or the writer raises.
    """
    meter = StalenessMeter()
    failed: list[BaseException] = []
    over = threading.Event()

    def put(key: str) -> None:
        write(key, meter.next_body(key))
        meter.written(key, time.monotonic())

    def writing() -> None:
        began_s, count = time.monotonic(), 0
        while not over.wait(max(0.0, began_s + count / writes_per_s - time.monotonic())):
            put(keys[count % len(keys)])
            count += 1

    def reading(door: str, read: Read, first: int) -> None:
        count = first
        while not over.wait(0.002):
            key, began_s = keys[count % len(keys)], time.monotonic()
            meter.seen(door, key, read(key), began_s)
            count += 1

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  raised by whoever waits for all of them
                failed.append(error)
                over.set()

        return run

    for key in keys:
        put(key)
    works: list[Callable[[], None]] = [writing]
    for door, reads in doors.items():
        works += [partial(reading, door, read, first) for first, read in enumerate(reads)]
    threads = [threading.Thread(target=guarded(work)) for work in works]
    for thread in threads:
        thread.start()
    over.wait(seconds)
    over.set()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return meter.ages()
