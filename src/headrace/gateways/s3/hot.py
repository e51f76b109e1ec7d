"""The fast path: a signed GET whose bytes are at hand, answered at once, without a task or an await.

It does what the other path does, in the same order, and gives up (None) on everything unusual:
then the other path decides, refuses and reports. Only pure facts are remembered between requests.
"""

from __future__ import annotations

import re
from typing import cast

import msgspec

from headrace.gateways.http.forms import PATH
from headrace.gateways.http.messages import Begun, Glanced, Request, Response
from headrace.gateways.http.pump import WRITE_BYTES
from headrace.gateways.http.wire import STATUS_LINES
from headrace.gateways.s3.accepted import EXPECTED_OWNER, UNSUPPORTED_HEADERS
from headrace.gateways.s3.auth import Authenticator
from headrace.gateways.s3.describe import Descriptions, served_fields
from headrace.gateways.s3.forms import Forms, SignedForm
from headrace.gateways.s3.stats import HotReads, SlowRead, Tally
from headrace.gateways.s3.target import read_target
from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError
from headrace.model.events import ReadsServed
from headrace.model.objects import ByteRange, Emit
from headrace.model.reading import Buffer, FileSlice, Served
from headrace.model.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Target
from headrace.policy.rules import Action, Caller, Policy

_MAX_KEPT = 8192
_SPECIAL = UNSUPPORTED_HEADERS | {
    EXPECTED_OWNER, b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range",
    b"x-amz-checksum-mode",
}  # fmt: skip
_RANGE = re.compile(rb"bytes=(\d{1,18})-(\d{0,18})")
_RANGE_UNIT_BYTES = len(b"bytes=")
_NO_BODY = (EMPTY_SHA256, UNSIGNED_PAYLOAD)
_FAR = 2**63 - 1


Ids = tuple[bytes, int, bytes]
"""The header line with the request's id, up to its number; the number; and what follows it."""


class HotRead(msgspec.Struct, frozen=True, gc=False):
    """What was asked for, for counting."""

    path: str
    mount: str


class _Place(msgspec.Struct, frozen=True):
    """Where a raw path leads under one mount table."""

    path: str
    target: Target
    note: HotRead
    reads: HotReads


class HotPath:
    """Answers whole objects and plain ranges from what the namespace can give without waiting."""

    __slots__ = (
        "_authenticator", "_clock", "_decided", "_decided_for", "_descriptions", "_domain", "_forms", "_namespace", "_places",
        "_reads", "_table", "_tally",
    )  # fmt: skip

    def __init__(self, namespace: Namespace, authenticator: Authenticator, domain: str, *, tally: Tally, clock: Clock) -> None:
        self._namespace = namespace
        self._authenticator = authenticator
        self._domain = domain
        self._tally = tally
        self._clock = clock
        self._forms = Forms(authenticator)
        self._descriptions = Descriptions()
        self._reads: dict[str, HotReads] = {}
        self._places: dict[tuple[bytes, bytes] | bytes, _Place] = {}
        self._table = namespace.table
        self._decided: dict[tuple[Caller, str], bool] = {}
        self._decided_for: Policy | None = None

    def answer(self, request: Request, policy: Policy, now_s: float, ids: bytes) -> Response | None:
        """The answer, with `ids` in front of its fields; None when the other path must see the request."""
        headers = request.headers
        if request.method != b"GET" or request.query or not _SPECIAL.isdisjoint(headers):
            return None
        byte_range = None
        wish = headers.get(b"range")
        if wish is not None:
            byte_range = _plain_range(wish)
            if byte_range is None:
                return None
        try:
            identity = self._authenticator.recognise(request, now_s) or self._authenticator.identify(request, now_s)
            if identity.content_sha256 not in _NO_BODY:
                return None
            place = self._place(headers[b"host"], request.path) or self._find_place(request)
            if place is None:
                return None
            path = place.path
            if (policy.rules or not identity.caller.key_id) and not self._allowed(policy, identity.caller, place):
                return None
            reading = place.target.mount.store.peek(place.target.key, byte_range)
        except HeadraceError:
            return None
        if reading is None or reading.ready is None:
            return None
        info = reading.info
        request.note = place.note
        described = self._descriptions.of(path, info)
        if byte_range is None:
            return Response(200, b"%b%b%b" % (ids, described, served_fields(reading)), reading)
        cut = reading.range
        fields = b"%b%b%bcontent-range: bytes %d-%d/%d\r\n" % (
            ids, described, served_fields(reading), cut.start, cut.end - 1, info.size,
        )  # fmt: skip
        return Response(206, fields, reading)

    def form(self, request: Request, head: bytes, now_s: float) -> SignedForm | None:
        """What `glance` may read the connection's next heads by."""
        return self._forms.of(request, head, now_s)

    def glance(self, form: SignedForm, head: bytes, policy: Policy, date_line: bytes, ids: Ids) -> Glanced:
        """The answer to a head of this form, as `answer` would give it; None when the other path must see it."""
        match = form.read(head)
        if match is None or form.generation != self._authenticator.generation:
            return None
        started_s = self._clock.monotonic()
        groups = match.groups()
        byte_range = None
        if form.range:
            first, _, last = groups[form.range][_RANGE_UNIT_BYTES:].partition(b"-")
            byte_range = ByteRange(int(first), int(last) + 1 if last else _FAR)
            if byte_range.end <= byte_range.start:
                return None
        identity = form.identify(groups, self._clock.time())
        if identity is None:
            return None
        place = self._place(groups[form.host], groups[PATH])
        if place is None or (policy.rules and not self._allowed(policy, identity.caller, place)):
            return None
        try:
            reading = place.target.mount.store.peek(place.target.key, byte_range)
        except HeadraceError:
            return None
        if reading is None or reading.ready is None:
            return None
        info, cut, ready = reading.info, reading.range, reading.ready
        described = self._descriptions.of(place.path, info)
        if byte_range is None:
            status, placed = 200, b""
        else:
            status, placed = 206, b"content-range: bytes %d-%d/%d\r\n" % (cut.start, cut.end - 1, info.size)
        size = cut.end - cut.start
        if size > WRITE_BYTES or reading.served is not Served.HIT or FileSlice in map(type, ready):
            request = Request(b"GET", groups[PATH], b"", {}, True, "", started_s=started_s, note=place.note)
            self._tally.started += 1
            return Begun(
                request, Response(status, b"%b%08X%b%b%b%b" % (*ids, described, served_fields(reading), placed), reading)
            )
        whole = b"%b%b%b%08X%b%bx-headrace-cache: hit\r\nage: %d\r\n%bcontent-length: %d\r\n\r\n" % (
            STATUS_LINES[status], date_line, *ids, described, reading.age_s, placed, size,
        )  # fmt: skip
        place.reads.reads += 1
        place.reads.bytes += size
        seconds = self._clock.monotonic() - started_s
        if seconds > self._tally.floor_s:
            self._tally.note_slow(SlowRead(seconds, place.path, size, Served.HIT.value, self._clock.time()))
        return whole, cast("tuple[Buffer, ...]", ready), size

    def tell(self, emit: Emit) -> None:
        """Count and report what `glance` has answered since the last time."""
        for reads in self._reads.values():
            if reads.reads:
                emit(ReadsServed(reads.mount, reads.reads, reads.bytes, Served.HIT.value))
                self._tally.fold(reads)

    def _place(self, host: bytes, raw: bytes) -> _Place | None:
        if self._namespace.table is not self._table:
            self._table = self._namespace.table
            self._places.clear()
        return self._places.get((host, raw) if self._domain else raw)

    def _find_place(self, request: Request) -> _Place | None:
        """The namespace's path of an object, and what is mounted there; None when the request names no object."""
        named = read_target(request, self._domain)
        if not named.key:
            return None
        target = self._table.resolve(named.path)
        if not target.key or target.mount.spec.acls:
            return None
        mount = target.mount.name
        reads = self._reads.get(mount)
        if reads is None:
            reads = self._reads[mount] = HotReads(mount)
        place = _Place(named.path, target, HotRead(named.path, mount), reads)
        if len(self._places) >= _MAX_KEPT:
            self._places.clear()
        self._places[(request.headers[b"host"], request.path) if self._domain else request.path] = place
        return place

    def _allowed(self, policy: Policy, caller: Caller, place: _Place) -> bool:
        path = place.path
        if caller.anonymous:
            anonymous = place.target.mount.spec.anonymous
            return policy.decide(caller, Action.READ, path, anonymous_mount=anonymous).allowed
        if policy is not self._decided_for or len(self._decided) >= _MAX_KEPT:
            self._decided = {}
            self._decided_for = policy
        known = self._decided.get((caller, path))
        if known is None:
            known = self._decided[caller, path] = policy.decide(caller, Action.READ, path).allowed
        return known


def _plain_range(wish: bytes) -> ByteRange | None:
    match = _RANGE.fullmatch(wish)
    if match is None:
        return None
    start = int(match[1])
    end = int(match[2]) + 1 if match[2] else _FAR
    return ByteRange(start, end) if end > start else None
