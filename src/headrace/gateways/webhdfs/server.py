"""WebHdfsGateway: admits requests, runs their operations, and answers every error in Hadoop's form."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from headrace.gateways.http.messages import BadFraming, Request, Response, render_fields
from headrace.gateways.s3.auth import Authenticator
from headrace.gateways.s3.keys import KeyRing
from headrace.gateways.s3.stats import Tally
from headrace.gateways.webhdfs.asked import read_asked
from headrace.gateways.webhdfs.context import JSON_FIELDS, Call, Desk
from headrace.gateways.webhdfs.errors import HdfsError, error_body, translate
from headrace.gateways.webhdfs.grants import Grants
from headrace.gateways.webhdfs.identity import Doorkeeper
from headrace.gateways.webhdfs.listing import listed_path
from headrace.gateways.webhdfs.operations import Need, Operation, find_operation
from headrace.gateways.webhdfs.reading import bytes_of, open_file, wished_range
from headrace.gateways.webhdfs.settings import WebHdfsSettings
from headrace.gateways.webhdfs.tokenbook import TokenBook
from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError
from headrace.model.events import AccessRefused, BackgroundError, ReadServed, WriteServed
from headrace.model.objects import Emit
from headrace.model.reading import Reading
from headrace.model.sigv4 import UNSIGNED_PAYLOAD
from headrace.namespace.namespace import Namespace
from headrace.policy.rules import Action, Policy

_ACTIONS = {Need.READ: Action.READ, Need.LIST: Action.LIST, Need.WRITE: Action.WRITE}
_MAYBE_OPEN = b"data=true"


class Noted:
    """What the gateway remembers of a request until its answer has left."""

    __slots__ = ("caller", "operation", "path", "writes")

    def __init__(self) -> None:
        self.operation = "Unknown"
        self.path = ""
        self.caller = ""
        self.writes = False
        """Whether it was admitted, and is there to change something."""


class WebHdfsGateway:
    """WebHDFS over a namespace. `policy` gives the rules that hold now; `folder` is where tokens in force are known."""

    def __init__(
        self,
        namespace: Namespace,
        keys: KeyRing,
        policy: Callable[[], Policy],
        *,
        clock: Clock,
        emit: Emit,
        settings: WebHdfsSettings,
        region: str,
        folder: Path,
    ) -> None:
        self._namespace = namespace
        self._policy = policy
        self._clock = clock
        self._emit = emit
        tokens, grants = TokenBook(folder, keys.token_key, settings), Grants(keys.token_key)
        self._desk = Desk(settings, tokens, grants)
        self._doorkeeper = Doorkeeper(Authenticator(keys, region), tokens, grants, settings)

    def quick(self, request: Request, tally: Tally) -> Response | None:
        """The bytes of a file that are at hand, to a caller who is in the second step; None: `handle` will answer."""
        if request.method != b"GET" or _MAYBE_OPEN not in request.query:
            return None
        noted = Noted()
        try:
            call, operation = self._admit(request, noted)
            if operation.run is not open_file or not self._namespace.resolve(call.path).key or not call.is_data_step:
                return None
            wish = wished_range(call.asked)
            if wish is not None and not wish.length:
                return None
            reading = self._namespace.peek(call.path, wish)
        except HeadraceError:
            return None
        if reading is None or reading.ready is None:
            return None
        request.note = noted
        tally.started += 1
        return bytes_of(reading)

    async def handle(self, request: Request, tally: Tally) -> Response:
        """The answer to a request, whatever becomes of it."""
        tally.started += 1
        noted = request.note = Noted()
        try:
            call, operation = self._admit(request, noted)
            if not operation.takes_body:
                await _check_body(call)
            return await operation.run(call)
        except HeadraceError as error:
            said = translate(error, noted.path or request.path[:200].decode("latin-1"))
        except BadFraming as error:
            said = HdfsError("IOException", error.reason, status=error.status)
        except Exception as error:  # noqa: BLE001  a fault of ours must answer 500, and say so to the operator
            self._emit(BackgroundError("webhdfs gateway", f"{noted.operation}: {type(error).__name__}: {error}"))
            said = HdfsError("RuntimeException", "an internal error: the node's log says more")
        if said.audited:
            self._refused(said, request, noted, tally)
        return Response(said.status, JSON_FIELDS + render_fields(said.fields), error_body(said))

    def finished(self, request: Request, response: Response, tally: Tally, *, sent: int) -> None:
        """The answer has left, or was cut after `sent` body bytes."""
        noted = request.note
        if not isinstance(noted, Noted):
            return
        tally.request(noted.operation, response.status)
        seconds = self._clock.monotonic() - request.started_s
        mount = self._namespace.mount_of(noted.path) if noted.path else None
        name, body = mount.name if mount is not None else "", response.body
        if isinstance(body, Reading):
            tally.read(noted.path, body, sent, seconds)
            self._emit(ReadServed(name, noted.path, sent, seconds, body.served, response.status))
        else:
            tally.bytes_sent += sent
        if noted.writes:
            received = request.body.received if request.body is not None else 0
            tally.write(received, response.status)
            self._emit(WriteServed(name, noted.path, received, seconds, noted.operation, response.status))

    def failed(self, request: Request, error: Exception) -> None:
        """The body broke while it was sent."""
        if not isinstance(error, HeadraceError | ConnectionError):
            path = request.path.decode("latin-1")
            self._emit(BackgroundError("webhdfs gateway", f"sending {path}: {type(error).__name__}: {error}"))

    def _admit(self, request: Request, noted: Noted) -> tuple[Call, Operation]:
        """Who asks, what for, and whether they may. Raises `HdfsError` before any store or cache is looked at."""
        now_s = self._clock.time()
        asked = read_asked(request.path, request.query)
        noted.path = asked.path
        operation = find_operation(request.method.decode("latin-1"), asked)
        noted.operation = f"WebHDFS {operation.name}"
        who = self._doorkeeper.identify(request, asked, now_s)
        noted.caller = who.caller.key_id
        call = Call(request, asked, who, self._namespace, self._policy(), self._desk, now_s)
        _decide(call, operation)
        noted.writes = operation.need is Need.WRITE
        return call, operation

    def _refused(self, error: HdfsError, request: Request, noted: Noted, tally: Tally) -> None:
        tally.refused += 1
        self._emit(
            AccessRefused(
                reason=error.exception, caller=error.caller or noted.caller, method=request.method.decode("latin-1"),
                path=noted.path or request.path.decode("latin-1"), peer=request.peer,
            )
        )  # fmt: skip


def _decide(call: Call, operation: Operation) -> None:
    need, path = operation.need, call.path
    if need is Need.NOTHING:
        return
    if path == "/" and need in (Need.LOOK, Need.LIST):
        # What is told of it is what lies in it, each decided on by itself.
        if call.who.caller.anonymous:
            raise call.refusal(Action.LIST, path)
        return
    if need is Need.LOOK:
        if not call.may(Action.READ, path) and not call.may(Action.LIST, listed_path(path)):
            raise call.refusal(Action.READ, path)
        return
    action = _ACTIONS[need]
    if not call.may(action, listed_path(path) if need is Need.LIST else path):
        raise call.refusal(action, path)


async def _check_body(call: Call) -> None:
    """The operation has no use for a body, but one that was signed must be the one that came."""
    if call.request.body is None:
        return
    digest = hashlib.sha256()
    async for piece in call.request.body:
        digest.update(piece)
    content = call.who.content_sha256
    if content not in (UNSIGNED_PAYLOAD, digest.hexdigest().encode()):
        raise HdfsError("AuthenticationException", "the body is not the one that was signed", audited=True)
