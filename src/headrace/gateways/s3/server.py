"""S3Gateway: admits requests, runs their operations, and answers every error in S3's form."""

from __future__ import annotations

import asyncio
import hashlib
import os

from headrace.gateways.http.messages import BadFraming, Glanced, Request, Response, render_fields
from headrace.gateways.http.server import HttpServer
from headrace.gateways.s3.accepted import check_expected_owner, check_headers
from headrace.gateways.s3.auth import Authenticator, Identity
from headrace.gateways.s3.context import Call, Noted, decide, missing_code
from headrace.gateways.s3.errors import S3Error, conflict, error_body, precondition_failed, refused, translate
from headrace.gateways.s3.forms import SignedForm
from headrace.gateways.s3.grants import granted
from headrace.gateways.s3.hot import HotPath, HotRead
from headrace.gateways.s3.keys import KeyRing
from headrace.gateways.s3.operations import OPERATIONS
from headrace.gateways.s3.post import FORM_TYPE
from headrace.gateways.s3.routes import Operation, Route, find_route
from headrace.gateways.s3.stats import GatewayStats, Tally
from headrace.gateways.s3.target import Target, read_target
from headrace.gateways.settings import GatewaySettings
from headrace.model.clock import Clock
from headrace.model.errors import ConditionFailed, Conflict, HeadraceError, NotFound
from headrace.model.events import AccessRefused, BackgroundError, ReadServed, WriteServed
from headrace.model.objects import Emit
from headrace.model.reading import Reading
from headrace.model.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD
from headrace.namespace.namespace import Namespace
from headrace.policy.rules import Policy

_LISTINGS = (
    Operation.LIST_OBJECTS, Operation.LIST_OBJECTS_V2, Operation.LIST_OBJECT_VERSIONS, Operation.LIST_MULTIPART_UPLOADS,
)  # fmt: skip
_TELL_S = 0.5
_REFUSAL_CODES = {408: "RequestTimeout", 413: "EntityTooLarge", 503: "SlowDown"}


class S3Gateway:
    """The S3 API over a namespace; a `Handler` of the HTTP engine.

    `policy` may be replaced at any time, the keys in `keys` too; both hold from the next request.
    """

    def __init__(
        self,
        namespace: Namespace,
        keys: KeyRing,
        policy: Policy,
        *,
        clock: Clock,
        emit: Emit,
        settings: GatewaySettings,
    ) -> None:
        self.policy = policy
        self.settings = settings
        self.clock = clock
        self.tally = Tally(settings.slowest_reads)
        self._namespace = namespace
        self._emit = emit
        self._authenticator = Authenticator(keys, settings.region)
        self._hot = HotPath(namespace, self._authenticator, settings.domain, tally=self.tally, clock=clock)
        self._telling: asyncio.TimerHandle | None = None
        self._id_prefix = os.urandom(4).hex().upper().encode()
        self._host_id = os.urandom(12).hex()
        self._id_fields = f"x-amz-id-2: {self._host_id}\r\nserver: Headrace\r\n".encode()
        self._id_start = b"x-amz-request-id: " + self._id_prefix
        self._id_end = b"\r\n" + self._id_fields
        self._served = 0

    def quick(self, request: Request) -> Response | None:
        """`Handler.quick`."""
        self._served += 1
        ids = b"x-amz-request-id: %b%08X\r\n%b" % (self._id_prefix, self._served & 0xFFFFFFFF, self._id_fields)
        response = self._hot.answer(request, self.policy, self.clock.time(), ids)
        if response is not None:
            self.tally.started += 1
        return response

    def form(self, request: Request, head: bytes) -> SignedForm | None:
        """`Handler.form`."""
        return self._hot.form(request, head, self.clock.monotonic())

    def glance(self, form: object, head: bytes, date_line: bytes) -> Glanced:
        """`Handler.glance`."""
        if type(form) is not SignedForm:
            return None
        self._served = number = (self._served + 1) & 0xFFFFFFFF
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_TELL_S, self.tell)
        return self._hot.glance(form, head, self.policy, date_line, (self._id_start, number, self._id_end))

    def tell(self) -> None:
        """Report the reads that were answered at a glance; done now and then while there are any."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._hot.tell(self._emit)

    async def handle(self, request: Request) -> Response:
        """`Handler.handle`."""
        self.tally.started += 1
        request_id = self._next_id()
        noted = request.note = Noted()
        try:
            response = await self._serve(request, noted)
        except HeadraceError as error:
            response = self._error(await self._said(error, request, noted), noted.path, request_id)
        except BadFraming as error:
            response = self._error(_as_refusal(error.status, error.reason), noted.path, request_id)
        except Exception as error:  # noqa: BLE001  a fault of ours must answer 500, and say so to the operator
            self._emit(BackgroundError("s3 gateway", f"{noted.operation}: {type(error).__name__}: {error}"))
            response = self._error(S3Error("InternalError", "We encountered an internal error."), noted.path, request_id)
        fields = self._ids(request_id) + response.fields
        return Response(response.status, fields, response.body, length=response.length, close=response.close)

    def refuse(self, status: int, reason: str, peer: str) -> Response:
        """`Handler.refuse`."""
        self.tally.started += 1
        self.tally.refused += 1
        self.tally.request("Unknown", status)
        self._emit(AccessRefused(reason=reason, caller="", method="", path="", peer=peer))
        request_id = self._next_id()
        response = self._error(_as_refusal(status, reason), "", request_id)
        return Response(status, self._ids(request_id) + response.fields, response.body)

    def finished(self, request: Request, response: Response, sent: int, *, complete: bool) -> None:
        """`Handler.finished`."""
        note = request.note
        tally = self.tally
        if not complete:
            tally.cut_short += 1
        body = response.body
        if type(note) is HotRead and isinstance(body, Reading):
            tally.ended += 1
            tally.hot += 1
            self._count_read(request, note, body, sent, response.status)
        elif isinstance(note, Noted):
            tally.request(note.operation, response.status)
            if isinstance(body, Reading):
                mount = self._namespace.mount_of(note.path)
                place = HotRead(note.path, mount.name if mount is not None else "")
                self._count_read(request, place, body, sent, response.status)
            else:
                tally.bytes_sent += sent
            if note.writes:
                self._count_write(request, note, response.status)

    def failed(self, request: Request, error: Exception) -> None:
        """`Handler.failed`. Errors of the tree are counted where they arose; others are faults of ours."""
        if not isinstance(error, HeadraceError | ConnectionError):
            path = request.path.decode("latin-1")
            self._emit(BackgroundError("s3 gateway", f"sending {path}: {type(error).__name__}: {error}"))

    def _count_read(self, request: Request, place: HotRead, reading: Reading, sent: int, status: int) -> None:
        seconds = self.clock.monotonic() - request.started_s
        self.tally.read(place.path, reading, sent, seconds)
        self._emit(ReadServed(place.mount, place.path, sent, seconds, reading.served, status))

    def _count_write(self, request: Request, noted: Noted, status: int) -> None:
        received = request.body.received if request.body is not None else 0
        self.tally.write(received, status)
        mount = self._namespace.mount_of(noted.path)
        name, seconds = mount.name if mount is not None else "", self.clock.monotonic() - request.started_s
        self._emit(WriteServed(name, noted.path, received, seconds, noted.operation, status))

    async def _serve(self, request: Request, noted: Noted) -> Response:
        try:
            call = self._admit(request, noted)
        except S3Error as error:
            self._refused(error, request, noted)
            raise
        if call.route.operation is Operation.NOT_IMPLEMENTED:
            raise S3Error("NotImplemented", "A header or query you provided implies functionality that is not implemented.")
        check_headers(call.route, request.headers)
        call = await granted(call)
        check_expected_owner(request.headers, call.owner_id)
        if not call.route.writes:
            await self._check_body(call)
        return await OPERATIONS[call.route.operation](call)

    async def _said(self, error: HeadraceError, request: Request, noted: Noted) -> S3Error:
        """The error as S3 says it; a refusal by what came behind the admission is audited here."""
        if isinstance(error, Conflict):
            return conflict(conditional=b"if-match" in request.headers or b"if-none-match" in request.headers)
        if isinstance(error, ConditionFailed):
            return precondition_failed(request.headers)
        missing = "NoSuchKey"
        if isinstance(error, NotFound):
            missing = await missing_code(self._namespace, noted.path)
        said = translate(error, missing=missing)
        if said.audited and noted.admitted:
            self._refused(said, request, noted)
        return said

    def _refused(self, error: S3Error, request: Request, noted: Noted) -> None:
        self.tally.refused += 1
        self._emit(
            AccessRefused(
                reason=error.code, caller=error.caller or noted.caller, method=request.method.decode("latin-1"),
                path=noted.path or request.path.decode("latin-1"), peer=request.peer,
            )
        )  # fmt: skip

    def _admit(self, request: Request, noted: Noted) -> Call:
        """Who asks, what for, and whether they may. Raises `S3Error` before any store or cache is looked at."""
        if request.method == b"OPTIONS":
            raise _no_cross_origin(request)
        now_s = self.clock.time()
        target = read_target(request, self.settings.domain)
        noted.path = target.path
        identity = self._authenticator.identify(request, now_s)
        route = find_route(request.method.decode("latin-1"), target, request.headers)
        noted.operation = route.operation.value
        if route.operation is Operation.LIST_BUCKETS:
            if identity.caller.anonymous:
                raise refused("AccessDenied", "Access Denied")
        elif not (route.operation is Operation.POST_OBJECT and _is_form(request)):
            self._decide(identity, route, target)
        noted.caller, noted.writes, noted.admitted = identity.caller.key_id, route.writes, True
        return Call(
            request, identity, target, route, self._namespace, self.policy, self.settings.region, now_s, self._authenticator,
            noted, self._emit,
        )  # fmt: skip

    def _decide(self, identity: Identity, route: Route, target: Target) -> None:
        path = target.path
        if route.operation in _LISTINGS:
            path = f"/{target.bucket}/{target.get('prefix')}" if target.get("prefix") else path
        if not decide(self.policy, self._namespace, identity.caller, route.action, path):
            raise refused("AccessDenied", "Access Denied", caller=identity.caller.key_id)

    async def _check_body(self, call: Call) -> None:
        """A read has no use for a body, but one that was signed must be the one that came."""
        signed = call.identity.content_sha256
        digest = hashlib.sha256()
        if call.request.body is not None:
            async for piece in call.request.body:
                digest.update(piece)
        if signed == UNSIGNED_PAYLOAD:
            return
        if signed.startswith(b"STREAMING-"):
            raise S3Error("InvalidRequest", "A read carries no streamed body")
        actual = digest.hexdigest().encode() if call.request.body is not None else EMPTY_SHA256
        if signed != actual:
            raise S3Error(
                "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."
            )

    def _error(self, error: S3Error, resource: str, request_id: bytes) -> Response:
        fields = render_fields((("content-type", "application/xml"), *error.fields))
        return Response(error.status, fields, error_body(error, resource, request_id.decode(), self._host_id))

    def _next_id(self) -> bytes:
        self._served += 1
        return b"%b%08X" % (self._id_prefix, self._served & 0xFFFFFFFF)

    def _ids(self, request_id: bytes) -> bytes:
        return b"x-amz-request-id: %b\r\n%b" % (request_id, self._id_fields)


def _no_cross_origin(request: Request) -> S3Error:
    """The answer to a browser that asks whether another site's page may do something: none may."""
    if b"origin" not in request.headers:
        return S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    return refused("AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.")


def _is_form(request: Request) -> bool:
    """Whether the caller's signature is looked for in the body's fields."""
    return request.headers.get(b"content-type", b"").lower().startswith(FORM_TYPE)


def _as_refusal(status: int, reason: str) -> S3Error:
    return S3Error(_REFUSAL_CODES.get(status, "BadRequest"), reason, fields=(("retry-after", "1"),) if status == 503 else ())


class Server:
    """A gateway that listens."""

    def __init__(self, gateway: S3Gateway, http: HttpServer) -> None:
        self._gateway = gateway
        self._http = http

    async def drain(self, deadline_s: float) -> bool:
        """Stop accepting, finish what runs, close. False when something had to be cut at the deadline."""
        finished = await self._http.drain(deadline_s)
        self._gateway.tell()
        return finished

    def stats(self) -> GatewayStats:
        """The counters as they are now."""
        self._gateway.tell()
        return self._gateway.tally.frozen(self._http.stats())
