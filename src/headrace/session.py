"""One connection to a namespace, remote or embedded, opened when first needed and once per process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from headrace import bridge, embedded
from headrace.gateways import fsspec as calls
from headrace.model.clock import SystemClock
from headrace.model.errors import SettingsError
from headrace.model.objects import ByteRange, Version
from headrace.model.sigv4 import SigningIdentity, UnsignedRequest, presign_query, quote_path
from headrace.namespace.namespace import Namespace
from headrace.node.home import Home, reachable, read_addresses
from headrace.settings import CONFIG_NAME, Settings, load_settings

Mode = Literal["auto", "remote", "embedded"]

CREDENTIALS_NAME = "credentials"
_PROBE_S = 0.5


class SessionOptions(msgspec.Struct, frozen=True):
    """How to reach a namespace; what is None comes from the environment and the settings."""

    config: str | None = None
    endpoint: str | None = None
    key_id: str | None = None
    secret: str | None = None
    mode: Mode = "auto"

    def __repr__(self) -> str:
        shown = f"config={self.config!r}, endpoint={self.endpoint!r}, key_id={self.key_id!r}, mode={self.mode!r}"
        return f"SessionOptions({shown})"


T = TypeVar("T")
Opener = Callable[[SessionOptions], Coroutine[Any, Any, Namespace]]


class KeyPair(msgspec.Struct, frozen=True):
    """An access key for the data port."""

    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair(key_id={self.key_id!r})"


def read_credentials(path: Path) -> KeyPair | None:
    """The key that the control plane wrote at its first start, or None where there is no such file. Raises `SettingsError`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}", path=str(path)) from error
    values = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    key_id, secret = values.get("access_key_id", ""), values.get("secret_access_key", "")
    if not key_id or not secret:
        raise SettingsError(f"{path}: write two lines, access_key_id = … and secret_access_key = …", path=str(path))
    return KeyPair(key_id, secret)


def find_key(options: SessionOptions, home: Path, environ: Mapping[str, str]) -> KeyPair | None:
    """The caller's key: as given, else from the environment, else from the node's home on this machine."""
    if options.key_id is not None or options.secret is not None:
        if not options.key_id or not options.secret:
            raise SettingsError("give both key_id and secret, or neither")
        return KeyPair(options.key_id, options.secret)
    key_id, secret = environ.get("HEADRACE_ACCESS_KEY_ID", ""), environ.get("HEADRACE_SECRET_ACCESS_KEY", "")
    if key_id and secret:
        return KeyPair(key_id, secret)
    if key_id or secret:
        raise SettingsError("set both HEADRACE_ACCESS_KEY_ID and HEADRACE_SECRET_ACCESS_KEY, or neither")
    return read_credentials(home / CREDENTIALS_NAME)


def _address(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint)
    return parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)


def _answers(endpoint: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(_address(endpoint), _PROBE_S):
        return True
    return False


class Session:
    """Where the client API and the fsspec filesystem find their namespace. Can be pickled and survives a fork.

    `opener` makes the namespace; it must be a module's own function for the session to be pickled.
    """

    def __init__(self, options: SessionOptions, opener: Opener | None = None) -> None:
        self.options = options
        self._opener = opener or open_by_settings
        self._opened: _Opened | None = None
        self._opening: asyncio.Task[_Opened] | None = None
        self._pid = os.getpid()
        self._left: list[object] = []
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Session, (self.options, self._opener)

    def run(self, work: Callable[[Namespace], Coroutine[Any, Any, T]]) -> T:
        """Do `work` with the namespace and wait for it. Raises `SettingsError` when the namespace cannot be opened."""
        return bridge.run(self._call(work))

    async def call(self, work: Callable[[Namespace], Coroutine[Any, Any, T]]) -> T:
        """The same awaited, from any event loop."""
        return await bridge.on_loop(self._call(work))

    async def _call(self, work: Callable[[Namespace], Coroutine[Any, Any, T]]) -> T:
        return await work(await self._open())

    async def _open(self) -> Namespace:
        if self._pid != os.getpid():
            # the parent's connections are not ours to close, nor to let be finalised here
            self._left += [self._opened, self._opening]
            self._opened = self._opening = None
            self._pid = os.getpid()
        if self._closed:
            raise ValueError("this Headrace client is closed")
        if self._opened is None:
            # One that is done and well is about to be taken by who waits for it: another would be left open.
            if self._opening is None or (self._opening.done() and _failed(self._opening)):
                self._opening = asyncio.ensure_future(self._make())
            self._opened = await asyncio.shield(self._opening)
        return self._opened.namespace

    async def fetch(self, path: str, want: ByteRange, *, version: Version, window: ByteRange | None) -> tuple[calls.Placed, ...]:
        return await calls.fetch(await self._open(), path, want, version=version, window=window)

    def close(self) -> None:
        """Close what this process opened; the session cannot be used again."""
        self._closed = True
        opened, self._opened = self._opened, None
        if opened is not None and self._pid == os.getpid():
            bridge.run(opened.aclose())

    async def _make(self) -> _Opened:
        opened = _Opened(await self._opener(self.options))
        bridge.keep(opened)
        return opened


def _failed(task: asyncio.Task[_Opened]) -> bool:
    return task.cancelled() or task.exception() is not None


class _Opened:
    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    async def aclose(self) -> None:
        if isinstance(self.namespace, embedded.OwnNamespace):
            await self.namespace.close()


def _no_events(_: object) -> None:
    """The client keeps no metrics: the node does."""


class NodeAccess(msgspec.Struct, frozen=True):
    """A node's data port, and the key to it."""

    endpoint: str
    key: KeyPair
    region: str
    is_own: bool
    """Whether it is the node of the settings' home."""

    def presigned(self, method: str, path: str, now_s: float, *, expires_s: int) -> str:
        """A URL by which anybody may make one request for `path`, `/bucket/key`, for `expires_s` seconds."""
        quoted = quote_path(path.encode())
        host = urlsplit(self.endpoint).netloc.encode()
        request = UnsignedRequest(method.encode(), quoted, (), ((b"host", host),))
        identity = SigningIdentity(self.key.key_id, self.key.secret, self.region)
        query = presign_query(request, identity, now_s, expires_s=expires_s)
        return f"{self.endpoint.rstrip('/')}{quoted.decode()}?{query.decode()}"


def find_node(options: SessionOptions, settings: Settings) -> NodeAccess | None:
    """The node that `options`, the environment and `settings` together mean; None: none, all is done in this process.

    Raises `SettingsError`.
    """
    environ = os.environ
    endpoint = options.endpoint or environ.get("HEADRACE_ENDPOINT") or ""
    mode: str = options.mode
    if mode == "auto":
        mode = _choose(endpoint, settings)
    if mode == "embedded":
        if options.mode == "auto" and not settings.source and not (settings.home / embedded.LEDGER_NAME).exists():
            raise SettingsError(f"no server runs here and no {CONFIG_NAME} was found: start one with `headrace up`")
        if endpoint and options.endpoint:
            raise SettingsError("an embedded client has no endpoint: leave it out, or use mode='remote'")
        return None
    key = find_key(options, settings.home, environ)
    if key is None:
        raise SettingsError(
            "no access key: set HEADRACE_ACCESS_KEY_ID and HEADRACE_SECRET_ACCESS_KEY, or run where "
            f"{settings.home / CREDENTIALS_NAME} can be read"
        )
    own = _own_endpoint(settings)
    is_own = not endpoint or _address(endpoint) == _address(own)
    return NodeAccess(endpoint or own, key, settings.gateway.region, is_own)


async def open_by_settings(options: SessionOptions) -> Namespace:
    """The namespace that `options`, the environment and `headrace.toml` together mean. Raises `SettingsError`."""
    settings = load_settings(options.config, os.environ)
    node = find_node(options, settings)
    if node is None:
        return await embedded.open_namespace(settings, clock=SystemClock(), emit=_no_events)
    local = Home(settings.home).handoff_socket
    return await embedded.open_remote(
        node.endpoint,
        node.key.key_id,
        node.key.secret,
        region=node.region,
        clock=SystemClock(),
        handoff_socket=str(local) if node.is_own and local.exists() else None,
    )


def _own_endpoint(settings: Settings) -> str:
    """Where the node of this home says it answers, else where it would."""
    running = read_addresses(settings.home)
    return running.data if running is not None else reachable(settings.server.data_listen)


def _choose(endpoint: str, settings: Settings) -> str:
    if endpoint or _answers(_own_endpoint(settings)):
        return "remote"
    return "embedded"
