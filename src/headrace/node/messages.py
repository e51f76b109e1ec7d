"""What supervisor and workers say to each other over the channel."""

from __future__ import annotations

import msgspec

from headrace.cache.settings import CacheSettings
from headrace.control.node_view import Counters, Found, MountStats, SlowRead, StagedConflict, StagedWrites, TierStats
from headrace.control.notifications import ChangedObject
from headrace.control.state import NodeState
from headrace.control.sync.steps import Outcome, SidePage, StepBatch
from headrace.gateways.settings import GatewaySettings
from headrace.model.mounts import MountSpec
from headrace.model.objects import Listing
from headrace.scratch.settings import ScratchSettings
from headrace.staging.settings import StagingSettings


class Boot(msgspec.Struct, frozen=True, tag=True):
    """The first message to a worker: all that it is made of."""

    home: str
    cache: CacheSettings
    gateway: GatewaySettings
    state: NodeState
    """In force when the process begins. The keeper needs no mounts and no secrets, and gets none."""
    staging: StagingSettings = StagingSettings()
    scratch: ScratchSettings = ScratchSettings()
    memory_fd: int = -1
    """The memory tier's descriptor, inherited; -1: there is none."""


class Apply(msgspec.Struct, frozen=True, tag=True):
    """Bring a state into force; answered when it is."""

    state: NodeState


class AskStats(msgspec.Struct, frozen=True, tag=True):
    """Answered with `WorkerReport`."""


class Load(msgspec.Struct, frozen=True, tag=True):
    """Bring an object's pages into the cache; answered with `Amount`."""

    path: str


class Free(msgspec.Struct, frozen=True, tag=True):
    """Drop pages; answered with `Amount`."""

    path: str
    prefix: bool


class Pin(msgspec.Struct, frozen=True, tag=True):
    """Keep pages from eviction, or allow it again; answered with `Done`."""

    path: str
    on: bool


class HoldPin(msgspec.Struct, frozen=True, tag=True):
    """Pin what is not pinned there yet; answered with `Done`."""

    path: str


class ListPage(msgspec.Struct, frozen=True, tag=True):
    """Answered with `Listed`: whole namespace paths."""

    path: str
    after: str
    limit: int


class TryMount(msgspec.Struct, frozen=True, tag=True):
    """List and read a little through a mount that is not in force; answered with `Done`."""

    spec: MountSpec


class AskStaged(msgspec.Struct, frozen=True, tag=True):
    """What is written at or below `path` and not at its store yet; answered with `Staged`."""

    path: str


class Settle(msgspec.Struct, frozen=True, tag=True):
    """End a conflict; answered with `Done`."""

    conflict: StagedConflict
    ours: bool


class Changed(msgspec.Struct, frozen=True, tag=True):
    """Objects of S3 stores changed; answered with `Done` when no process uses what it knew of them."""

    objects: tuple[ChangedObject, ...]


class ChangesMissed(msgspec.Struct, frozen=True, tag=True):
    """Objects may have changed without a word; answered with `Done` when no process uses anything that it knew."""


class ListSide(msgspec.Struct, frozen=True, tag=True):
    """A page of one side of a sync; answered with `Sided`."""

    path: str
    after: str
    limit: int


class CarryOut(msgspec.Struct, frozen=True, tag=True):
    """Do the steps of a sync; answered with `CarriedOut`."""

    batch: StepBatch


class Survey(msgspec.Struct, frozen=True, tag=True):
    """List all at or below `path` and find what differs; answered with `Surveyed` within a second or two, over or not.

    Asked again with the same `id`, the same survey is told of. One that nobody asks for any more ends by itself.
    """

    id: str
    path: str


class EndSurvey(msgspec.Struct, frozen=True, tag=True):
    """Stop a survey; answered with `Done`."""

    id: str


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Refuse new requests, finish the running ones, then exit; answered with `Done` before the exit."""

    deadline_s: float


Request = (
    Boot
    | Apply
    | AskStats
    | Load
    | Free
    | Pin
    | HoldPin
    | ListPage
    | TryMount
    | AskStaged
    | Settle
    | Changed
    | ChangesMissed
    | ListSide
    | CarryOut
    | Survey
    | EndSurvey
    | Drain
)


class Done(msgspec.Struct, frozen=True, tag=True):
    """It is so."""


class Amount(msgspec.Struct, frozen=True, tag=True):
    """Bytes that the operation was about."""

    bytes: int


class Listed(msgspec.Struct, frozen=True, tag=True):
    """A page of a listing."""

    listing: Listing


class Staged(msgspec.Struct, frozen=True, tag=True):
    """As this process knows it."""

    staged: StagedWrites


class Sided(msgspec.Struct, frozen=True, tag=True):
    """A page of a side."""

    page: SidePage


class CarriedOut(msgspec.Struct, frozen=True, tag=True):
    """What became of the steps, in their order."""

    outcomes: tuple[Outcome, ...]


class Surveyed(msgspec.Struct, frozen=True, tag=True):
    """What a survey has found so far; all of it when it is `over`."""

    found: Found
    over: bool


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The operation raised `kind`, a class of the error tree."""

    kind: str
    message: str
    path: str = ""


class WorkerReport(msgspec.Struct, frozen=True, tag=True):
    """One worker's counters since it started."""

    counters: Counters
    mounts: tuple[MountStats, ...] = ()
    tiers: tuple[TierStats, ...] = ()
    slowest: tuple[SlowRead, ...] = ()
    rss_bytes: int = 0


Reply = Done | Amount | Listed | Staged | Sided | CarriedOut | Surveyed | Failed | WorkerReport


class Audit(msgspec.Struct, frozen=True, tag=True):
    """A refused request, for the audit log. Bounded in length; carries no secret."""

    reason: str
    caller: str
    method: str
    path: str
    peer: str


class Notice(msgspec.Struct, frozen=True, tag=True):
    """Something that an operator should know: a tier failed, a loop survived an error."""

    what: str
    error: str
    remedy: str = ""


class Wrote(msgspec.Struct, frozen=True, tag=True):
    """Callers have changed objects at or below these paths of the namespace since this was last told."""

    paths: tuple[str, ...]


Event = Audit | Notice | Wrote


class Envelope(msgspec.Struct, frozen=True):
    """One line on the channel. A request and its reply carry the same `id`; events carry 0."""

    id: int
    request: Request | None = None
    reply: Reply | None = None
    event: Event | None = None
