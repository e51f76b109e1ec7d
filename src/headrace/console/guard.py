"""Who may speak to the control port. One pure decision, and the ASGI wrapper that carries it out."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

_log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
COOKIE = "headrace_session"
EVENTS_PATH = "/api/v1/events"
MAX_BODY_BYTES = 1 << 20
_SAFE_METHODS = frozenset({"GET", "HEAD"})

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class RequestHead(msgspec.Struct, frozen=True):
    """What of a request decides. Header values are as they came, empty when absent."""

    method: str
    path: str
    host: str = ""
    query: str = ""
    authorization: str = ""
    cookie: str = ""
    origin: str = ""
    content_type: str = ""
    content_length: str = ""
    chunked: bool = False


class Verdict(msgspec.Struct, frozen=True):
    """`status` 0 lets the request pass; 303 is a login, `cookie` its value."""

    status: int
    message: str = ""
    cookie: str = ""


_PASS = Verdict(0)


def session_value(token: str) -> str:
    """What a browser keeps instead of the token: it cannot be turned back."""
    return hmac.new(token.encode(), b"headrace console session", hashlib.sha256).hexdigest()


def host_allowed(host: str, names: frozenset[str]) -> bool:
    """Whether a `Host` header is an address, `localhost` or one of `names`.

    A foreign name that was made to resolve to this machine (DNS rebinding) is none of these.
    """
    name = host.strip().lower()
    if name.startswith("["):
        name, bracket, port = name[1:].partition("]")
        port = port.removeprefix(":")
        if not bracket:
            return False
    else:
        name, _, port = name.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return False
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def judge(head: RequestHead, token: str, names: frozenset[str], *, events_token: str = "") -> Verdict:
    """May this request pass? Compares secrets in constant time. `events_token` is good for telling of changes alone."""
    if not host_allowed(head.host, names):
        return Verdict(403, "this host name is not served here: open the console by address or as localhost")
    if head.path in OPEN_PATHS:
        return _PASS if head.method in _SAFE_METHODS else Verdict(405, "only GET is answered here")
    if events_token and head.path == EVENTS_PATH and head.method == "POST" and _is_bearer(head.authorization, events_token):
        return _judge_change(head, True)
    bearer = _is_bearer(head.authorization, token)
    if not bearer and not _has_session(head.cookie, token):
        return _login(head, token)
    if head.method in _SAFE_METHODS:
        # A login link that is opened again must not leave its token in the address bar.
        return _login(head, token) if _query_token(head) else _PASS
    return _judge_change(head, bearer)


def _judge_change(head: RequestHead, bearer: bool) -> Verdict:
    if head.origin:
        if head.origin not in (f"http://{head.host}", f"https://{head.host}"):
            return Verdict(403, "a page of another origin asked for a change")
    elif not bearer:
        return Verdict(403, "a browser must say from which origin it asks for a change")
    if head.content_type.partition(";")[0].strip().lower() != "application/json":
        return Verdict(415, "send application/json")
    if head.chunked or not (head.content_length.isascii() and head.content_length.isdigit()):
        return Verdict(411, "send a content-length")
    if len(head.content_length) > 9 or int(head.content_length) > MAX_BODY_BYTES:
        return Verdict(413, f"the body may have at most {MAX_BODY_BYTES} bytes")
    return _PASS


def _login(head: RequestHead, token: str) -> Verdict:
    offered = _query_token(head)
    if head.path == "/" and head.method == "GET" and offered and _same(offered, token):
        return Verdict(303, cookie=session_value(token))
    return Verdict(401, "not logged in: run `headrace status` for the login link, or send the admin token as a bearer")


def _query_token(head: RequestHead) -> str:
    if "token=" not in head.query or len(head.query) > 1000:
        return ""
    return dict(parse_qsl(head.query)).get("token", "")


def _is_bearer(authorization: str, token: str) -> bool:
    scheme, _, value = authorization.partition(" ")
    return scheme.lower() == "bearer" and _same(value.strip(), token)


def _has_session(cookie: str, token: str) -> bool:
    if not cookie or len(cookie) > 8192:
        return False
    try:
        morsel = SimpleCookie(cookie).get(COOKIE)
    except CookieError:
        return False
    return morsel is not None and _same(morsel.value, session_value(token))


def _same(offered: str, wanted: str) -> bool:
    return hmac.compare_digest(offered.encode("utf-8", "surrogateescape"), wanted.encode())


class Guard:
    """Wraps the console: nothing behind it is reached by a request that `judge` refuses."""

    def __init__(self, app: ASGIApp, *, token: str, names: frozenset[str], events_token: str = "") -> None:
        self._app = app
        self._token = token
        self._names = names
        self._events_token = events_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        head = _head(scope)
        verdict = judge(head, self._token, self._names, events_token=self._events_token)
        if verdict.status:
            if verdict.status != 303:
                peer = (scope.get("client") or ("unknown",))[0]
                _log.warning("control port: refused %a %a from %s: %s", head.method, head.path[:200], peer, verdict.message)
            await _refuse(verdict, send)
            return
        await self._app(scope, receive, _hardened(send))


def _head(scope: Scope) -> RequestHead:
    seen: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        # Two of one header are two readings: joined, they match nothing.
        seen[key] = f"{seen[key]},{value.decode('latin-1')}" if key in seen else value.decode("latin-1")
    return RequestHead(
        method=scope["method"],
        path=scope["path"],
        host=seen.get("host", ""),
        query=scope["query_string"].decode("latin-1"),
        authorization=seen.get("authorization", ""),
        cookie=seen.get("cookie", ""),
        origin=seen.get("origin", ""),
        content_type=seen.get("content-type", ""),
        content_length=seen.get("content-length", ""),
        chunked="transfer-encoding" in seen,
    )


async def _refuse(verdict: Verdict, send: Send) -> None:
    headers: list[tuple[bytes, bytes]] = list(SECURITY_HEADERS)
    if verdict.status == 303:
        cookie = f"{COOKIE}={verdict.cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200"
        headers += [(b"location", b"/"), (b"set-cookie", cookie.encode())]
        body = b""
    else:
        body = json.dumps({"kind": "AccessDenied", "message": verdict.message}).encode()
        headers.append((b"content-type", b"application/json"))
    if verdict.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": verdict.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _hardened(send: Send) -> Send:
    async def hardened(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            mine = {name for name, _ in SECURITY_HEADERS}
            kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in mine]
            message = {**message, "headers": [*kept, *SECURITY_HEADERS]}
        await send(message)

    return hardened
