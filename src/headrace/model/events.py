"""What happened on the data path, for metrics, audit and logs. Plain values; listeners are wired in."""

from __future__ import annotations

import msgspec


class StoreCall(msgspec.Struct, frozen=True):
    """One request to a store is over. `error` is the error's class name, empty on success.

    `message` says in words what went wrong; never a secret, and bounded in length.
    """

    mount: str
    verb: str
    seconds: float
    bytes: int
    error: str = ""
    message: str = ""


class ReadServed(msgspec.Struct, frozen=True):
    """A gateway has finished a body (or failed to)."""

    mount: str
    path: str
    bytes: int
    seconds: float
    served: str
    status: int


class WriteServed(msgspec.Struct, frozen=True):
    """A gateway has answered a request that was there to change something. `bytes` is what came in, framing included."""

    mount: str
    path: str
    bytes: int
    seconds: float
    operation: str
    status: int


class ReadsServed(msgspec.Struct, frozen=True):
    """A gateway has answered `reads` reads of one mount since it last said so, all with the same word."""

    mount: str
    reads: int
    bytes: int
    served: str


class AccessRefused(msgspec.Struct, frozen=True):
    """A request was refused before it reached the namespace. Never carries a secret or a signature."""

    reason: str
    caller: str
    method: str
    path: str
    peer: str


class FillEnded(msgspec.Struct, frozen=True):
    """A fill of pages from the store is over."""

    mount: str
    bytes: int
    seconds: float
    error: str = ""


class PagesDropped(msgspec.Struct, frozen=True):
    """Pages left a tier. `reason`: evicted, expired, freed, corrupt, quota, version."""

    tier: str
    reason: str
    pages: int
    bytes: int


class TierFault(msgspec.Struct, frozen=True):
    """A tier failed and was passed by; `remedy` says what an operator can do."""

    tier: str
    operation: str
    error: str
    remedy: str
    count: int = 1
    """How many such faults there were since the last event of this kind."""


class Refreshed(msgspec.Struct, frozen=True):
    """An entry that is read often was asked for again before its time was over. `error` is the error's class name."""

    mount: str
    error: str = ""


class BackgroundError(msgspec.Struct, frozen=True):
    """A background loop survived an error of its own."""

    loop: str
    error: str


class StagingFault(msgspec.Struct, frozen=True):
    """The journal of a mount with `write = "back"` failed, is full, or held damage when it was opened."""

    mount: str
    operation: str
    error: str


class ScratchLost(msgspec.Struct, frozen=True):
    """The bytes of an object that lived on this node alone are gone: damaged, or past the mount's `ttl`."""

    mount: str
    key: str


class StagedConflict(msgspec.Struct, frozen=True):
    """An object changed at its store while a write to it was staged; ours is kept as `kept_as`, theirs stays."""

    mount: str
    key: str
    kept_as: str
