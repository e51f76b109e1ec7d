"""Faults as values: what goes wrong, when, and what it does to a stream of bytes. No IO and no clock."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

Headers = tuple[tuple[str, str], ...]


class Cut(msgspec.Struct, frozen=True, tag=True):
    """The connection ends in front of byte `at` (negative: counted from the end), by a reset or in order."""

    at: int = 0
    reset: bool = False


class Hang(msgspec.Struct, frozen=True, tag=True):
    """Nothing more comes from byte `at` on, and the connection stays open. `at` None: not even a head."""

    at: int | None = 0


class HalfClose(msgspec.Struct, frozen=True, tag=True):
    """This direction ends in front of byte `at`; the other one stays open."""

    at: int = 0


class Corrupt(msgspec.Struct, frozen=True, tag=True):
    """The bits of `flip` are turned over in byte `at`."""

    at: int = 0
    flip: int = 0xFF


class Slow(msgspec.Struct, frozen=True, tag=True):
    """At most `rate` bytes a second."""

    rate: float


class Delay(msgspec.Struct, frozen=True, tag=True):
    """The answer is held back for `seconds` before its head."""

    seconds: float


class Answer(msgspec.Struct, frozen=True, tag=True):
    """This answer instead of the store's; the store is not asked."""

    status: int = 503
    headers: Headers = ()
    body: str = "<Error><Code>SlowDown</Code><Message>injected</Message></Error>"


class Rewrite(msgspec.Struct, frozen=True, tag=True):
    """These headers instead of the store's (an empty value takes the header away); `status` 0 keeps it."""

    headers: Headers
    status: int = 0


class Truncate(msgspec.Struct, frozen=True, tag=True):
    """Only `at` bytes of body, announced as if they were all of it."""

    at: int = 0


class Extend(msgspec.Struct, frozen=True, tag=True):
    """`extra` bytes behind the announced length; with `announce` the length is raised to cover them."""

    extra: int = 1
    announce: bool = False


class IgnoreRange(msgspec.Struct, frozen=True, tag=True):
    """The Range header does not reach the store, so it answers 200 with all bytes."""


class Meanwhile(msgspec.Struct, frozen=True):
    """`hook` runs, awaited, in front of byte `at` of the body: the object is overwritten, a process is killed, …"""

    hook: Callable[[], Awaitable[None]]
    at: int = 0


WrittenAction = Cut | Hang | HalfClose | Corrupt | Slow | Delay | Answer | Rewrite | Truncate | Extend | IgnoreRange
Action = WrittenAction | Meanwhile
StreamAction = Cut | Hang | HalfClose | Corrupt | Slow | Meanwhile


class When(msgspec.Struct, frozen=True):
    """Which requests (or, for `TcpFault`, which connections) a fault strikes."""

    method: str = ""
    path: str = ""
    """A regular expression, searched for in the raw request target."""
    ranged: bool | None = None
    """Only requests with (without) a Range header."""
    skip: int = 0
    """So many that match are let pass first."""
    times: int = 1
    """So many are struck then; 0: all."""
    chance: float = 1.0
    """Each is struck with this probability, by the proxy's seed."""
    after_s: float = 0.0
    until_s: float = 0.0
    """Only between these times, counted from the proxy's start; 0: for ever."""


class Fault(msgspec.Struct, frozen=True):
    """One thing that goes wrong. `name` is its entry in the proxy's `happened`."""

    name: str
    action: Action
    when: When = When()


class TcpFault(msgspec.Struct, frozen=True):
    """One thing that goes wrong with the bytes of a connection: `down` is towards the client, `up` to the server."""

    name: str
    action: StreamAction
    down: bool = True
    when: When = When()


class Written(msgspec.Struct, frozen=True):
    """A fault as it stands in a file, for the proxy as a program."""

    name: str
    action: WrittenAction
    when: When = When()


AnyFault = TypeVar("AnyFault", Fault, TcpFault)


class Plan(Generic[AnyFault]):
    """Which faults strike next. Same faults, same seed and same requests: same choice."""

    def __init__(self, faults: Sequence[AnyFault], *, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._faults: list[AnyFault] = list(faults)
        self._matched: dict[int, int] = {}

    def add(self, fault: AnyFault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._faults.clear()
        self._matched.clear()

    def choose(self, elapsed_s: float, *, method: str = "", target: str = "", ranged: bool = False) -> list[AnyFault]:
        """The faults that strike this request."""
        return [
            fault
            for fault in self._faults
            if _concerns(fault.when, method, target, ranged)
            and fault.when.after_s <= elapsed_s
            and (not fault.when.until_s or elapsed_s < fault.when.until_s)
            and self._turn(fault)
            and (fault.when.chance >= 1 or self._random.random() < fault.when.chance)
        ]

    def _turn(self, fault: AnyFault) -> bool:
        number = self._matched.get(id(fault), 0)
        self._matched[id(fault)] = number + 1
        return number >= fault.when.skip and (not fault.when.times or number < fault.when.skip + fault.when.times)


def _concerns(when: When, method: str, target: str, ranged: bool) -> bool:
    return (
        (not when.method or when.method == method)
        and (when.ranged is None or when.ranged == ranged)
        and (not when.path or re.search(when.path, target) is not None)
    )


class Strike(msgspec.Struct, frozen=True):
    """In the middle of a stream, `action` is to be carried out (and counted under `name`)."""

    name: str
    action: StreamAction


class Tampering:
    """What stream faults make of one stream: bytes to pass on, and in between what is to happen.

    `length` is the stream's length where it is known; only then may positions be negative.
    """

    def __init__(self, faults: Sequence[tuple[str, StreamAction]], *, length: int | None = None) -> None:
        placed = [(_position(action, length), name, action) for name, action in faults]
        self._waiting = sorted(placed, key=lambda entry: entry[0])
        self._position = 0

    def edge(self) -> Iterator[Strike]:
        """What happens where the stream stands now: call it in front of the first byte and behind the last."""
        for entry in list(self._waiting):
            if entry[0] <= self._position and not isinstance(entry[2], Corrupt):
                self._waiting.remove(entry)
                yield Strike(entry[1], entry[2])

    def feed(self, data: bytes) -> Iterator[bytes | Strike]:
        """What becomes of the next bytes of the stream."""
        while data:
            while self._waiting and self._waiting[0][0] <= self._position:
                _, name, action = self._waiting.pop(0)
                if isinstance(action, Corrupt):
                    data = bytes((data[0] ^ action.flip,)) + data[1:]
                yield Strike(name, action)
            take = min(len(data), self._waiting[0][0] - self._position) if self._waiting else len(data)
            yield data[:take]
            data = data[take:]
            self._position += take


def _position(action: StreamAction, length: int | None) -> int:
    at = 0 if isinstance(action, Slow) else action.at or 0
    return at + length if at < 0 and length is not None else max(at, 0)
