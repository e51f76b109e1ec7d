"""The fast path: a signed GET whose bytes are at hand, answered at once, without a task or an await.

It does what the other path does, in the same order, and gives up (None) on everything unusual:
then the other path decides, refuses and reports. Only pure facts are remembered between requests.
"""

from __future__ import annotations

import re

from headrace.gateways.http.messages import Request, Response
from headrace.gateways.s3.auth import Authenticator
from headrace.gateways.s3.describe import Descriptions, content_range, served_fields
from headrace.gateways.s3.routes import UNSUPPORTED_HEADERS
from headrace.gateways.s3.target import read_target
from headrace.model.errors import HeadraceError
from headrace.model.objects import ByteRange
from headrace.model.reading import Reading
from headrace.model.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD
from headrace.namespace.namespace import Namespace
from headrace.policy.rules import Action, Caller, Policy

_MAX_KEPT = 8192
_SPECIAL = UNSUPPORTED_HEADERS | {
    b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"x-amz-checksum-mode",
}  # fmt: skip
_RANGE = re.compile(rb"bytes=(\d{1,18})-(\d{0,18})")
_NO_BODY = (EMPTY_SHA256, UNSIGNED_PAYLOAD)
_FAR = 2**63 - 1


class HotRead:
    """What was answered, for counting."""

    __slots__ = ("path", "reading")

    def __init__(self, path: str, reading: Reading) -> None:
        self.path = path
        self.reading = reading


class HotPath:
    """Answers whole objects and plain ranges from what the namespace can give without waiting."""

    __slots__ = ("_authenticator", "_decided", "_decided_for", "_descriptions", "_domain", "_namespace", "_paths")

    def __init__(self, namespace: Namespace, authenticator: Authenticator, domain: str) -> None:
        self._namespace = namespace
        self._authenticator = authenticator
        self._domain = domain
        self._descriptions = Descriptions()
        self._paths: dict[tuple[bytes, bytes], str] = {}
        self._decided: dict[tuple[Caller, str], bool] = {}
        self._decided_for: Policy | None = None

    def answer(self, request: Request, policy: Policy, now_s: float) -> tuple[Response, HotRead] | None:
        """The answer, without request ids; None when the other path must see the request."""
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
            identity = self._authenticator.identify(request, now_s)
            if identity.content_sha256 not in _NO_BODY:
                return None
            path = self._path(request)
            if not path or not self._allowed(policy, identity.caller, path):
                return None
            reading = self._namespace.peek(path, byte_range)
        except HeadraceError:
            return None
        if reading is None or reading.ready is None:
            return None
        info = reading.info
        fields = self._descriptions.of(path, info) + served_fields(reading)
        if byte_range is None:
            return Response(200, fields, reading), HotRead(path, reading)
        return Response(206, fields + content_range(reading.range, info.size), reading), HotRead(path, reading)

    def _path(self, request: Request) -> str:
        """The namespace's path of an object; empty when the request names none."""
        host = request.headers[b"host"] if self._domain else b""
        known = self._paths.get((host, request.path))
        if known is not None:
            return known
        target = read_target(request, self._domain)
        path = target.path if target.key else ""
        if len(self._paths) >= _MAX_KEPT:
            self._paths.clear()
        self._paths[host, request.path] = path
        return path

    def _allowed(self, policy: Policy, caller: Caller, path: str) -> bool:
        if caller.anonymous:
            mount = self._namespace.mount_of(path)
            anonymous = mount is not None and mount.spec.anonymous
            return policy.decide(caller, Action.READ, path, anonymous_mount=anonymous).allowed
        if not policy.rules:
            return True
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
