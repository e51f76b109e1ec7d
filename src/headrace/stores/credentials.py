"""Credentials by reference: settings name where a secret lies, never the secret itself.

`env:PREFIX`, `file:PATH`, `profile:NAME`, `instance`, `anonymous`; empty: the usual AWS_* environment.
"""

from __future__ import annotations

import asyncio
import configparser
import logging
import math
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError, SettingsError, Unavailable
from headrace.stores.guard import AddressGuard
from headrace.stores.http import Http, HttpSettings

INSTANCE_ENDPOINT = "http://169.254.169.254"
_INSTANCE_ADDRESSES = frozenset({"169.254.169.254"})
_REFRESH_BEFORE_S = 300.0
_REREAD_S = 60.0
_TOKEN_TTL_S = 21600
_log = logging.getLogger("headrace.stores")


class Credentials(msgspec.Struct, frozen=True):
    """A key and its secret. `expires_s` is in seconds since 1970 UTC. Neither repr nor str shows a secret."""

    key_id: str
    secret: str
    session_token: str = ""
    expires_s: float = math.inf

    def __repr__(self) -> str:
        return f"Credentials(key_id={self.key_id!r})"


class CredentialsProvider(ABC):
    """Where credentials come from, asked before each request."""

    @abstractmethod
    async def get(self) -> Credentials | None:
        """Credentials that are good now; None: requests go out unsigned. Raises `SettingsError`, `Unavailable`."""

    async def close(self) -> None:
        """Free connections."""
        return


class FixedCredentials(CredentialsProvider):
    """The same credentials for ever, or none."""

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials

    async def get(self) -> Credentials | None:
        return self._credentials


class ReloadedCredentials(CredentialsProvider):
    """Credentials in a file, read again after a minute so that a rotated secret is taken up.

    A file that cannot be read later on (it is being replaced) leaves the last good ones in use.
    """

    def __init__(self, load: Callable[[], Credentials], clock: Clock) -> None:
        self._load = load
        self._clock = clock
        self._current = load()
        self._read_at = clock.monotonic()

    async def get(self) -> Credentials | None:
        now = self._clock.monotonic()
        if now - self._read_at >= _REREAD_S:
            self._read_at = now
            try:
                self._current = self._load()
            except SettingsError as error:
                _log.warning("credentials could not be read again, the last good ones stay in use: %s", error)
        return self._current


class InstanceCredentials(CredentialsProvider):
    """The role credentials of a cloud machine (IMDSv2), refreshed five minutes before they expire."""

    def __init__(self, clock: Clock, endpoint: str = INSTANCE_ENDPOINT) -> None:
        self._clock = clock
        self._endpoint = endpoint
        guard = AddressGuard(permitted=_INSTANCE_ADDRESSES)
        settings = HttpSettings(max_connections=2, connect_timeout_s=2.0, read_timeout_s=5.0)
        self._http = Http(settings, guard=guard)
        self._refreshing = asyncio.Lock()
        self._current: Credentials | None = None

    async def get(self) -> Credentials | None:
        if not self._is_due():
            return self._current
        async with self._refreshing:
            if self._is_due():
                await self._refresh()
        return self._current

    async def close(self) -> None:
        await self._http.close()

    def _is_due(self) -> bool:
        return self._current is None or self._clock.time() >= self._current.expires_s - _REFRESH_BEFORE_S

    async def _refresh(self) -> None:
        try:
            self._current = await self._fetch()
        except HeadraceError as error:
            if self._current is None or self._clock.time() >= self._current.expires_s:
                raise Unavailable(f"no instance credentials from {self._endpoint}: {error}") from error
            _log.warning("instance credentials could not be refreshed, the current ones stay in use: %s", error)

    async def _fetch(self) -> Credentials:
        ttl = ("x-aws-ec2-metadata-token-ttl-seconds", str(_TOKEN_TTL_S))
        token = ("x-aws-ec2-metadata-token", await self._text("PUT", "/latest/api/token", ttl))
        folder = "/latest/meta-data/iam/security-credentials/"
        role = (await self._text("GET", folder, token)).strip().partition("\n")[0]
        if not role:
            raise SettingsError("this machine has no role: attach one, or choose other credentials")
        return parse_instance_document(await self._text("GET", folder + role, token))

    async def _text(self, method: str, path: str, header: tuple[str, str]) -> str:
        response = await self._http.request(method, self._endpoint + path, headers=[header], path=path)
        body = await response.read(64 * 1024)
        if response.status != 200:
            raise Unavailable(f"{path} answered {response.status}")
        return body.decode("utf-8", "replace")


class _InstanceDocument(msgspec.Struct, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    token: str
    expiration: str

    def __repr__(self) -> str:
        return f"_InstanceDocument({self.access_key_id!r})"


def parse_instance_document(text: str) -> Credentials:
    """Credentials from what the metadata service answers. Raises `Unavailable`; shows nothing of the text."""
    try:
        document = msgspec.json.decode(text, type=_InstanceDocument)
        expires_s = datetime.fromisoformat(document.expiration).timestamp()
    except (msgspec.DecodeError, ValueError):
        raise Unavailable("the metadata service answered something that is no role credentials") from None
    return Credentials(document.access_key_id, document.secret_access_key, document.token, expires_s)


def credentials_provider(
    reference: str, *, environ: Mapping[str, str], clock: Clock, instance_endpoint: str = INSTANCE_ENDPOINT
) -> CredentialsProvider:
    """The provider that `reference` names. Raises `SettingsError` naming the variable, file or profile that is missing."""
    kind, _, argument = reference.partition(":")
    if kind == "env" and argument:
        return FixedCredentials(_from_environ(argument, environ))
    if kind == "file" and argument:
        return ReloadedCredentials(lambda: read_credentials_file(Path(argument)), clock)
    if kind == "profile" and argument:
        return ReloadedCredentials(lambda: _from_profile(argument, environ), clock)
    if reference == "instance":
        return InstanceCredentials(clock, instance_endpoint)
    if reference == "anonymous":
        return FixedCredentials(None)
    if not reference:
        return _usual(environ, clock)
    raise SettingsError("credentials: write env:PREFIX, file:PATH, profile:NAME, instance or anonymous, never a secret itself")


def read_credentials_file(path: Path) -> Credentials:
    """Two lines (key id, secret), or an ini file with one section or `[default]`. Raises `SettingsError`."""
    text = _read_secret_file(path)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", ";"))]
    if len(lines) in (2, 3) and not any("=" in line or line.startswith("[") for line in lines[:1]):
        return Credentials(lines[0], lines[1], lines[2] if len(lines) == 3 else "")
    if lines and not lines[0].startswith("["):
        text = "[default]\n" + text
    sections = _parse_ini(text, path)
    names = sections.sections()
    section = "default" if "default" in names else names[0] if len(names) == 1 else ""
    if not section:
        raise SettingsError(f"{path}: write two lines (key id, secret), or a [default] section")
    return _from_section(sections[section], f"{path} [{section}]")


def _usual(environ: Mapping[str, str], clock: Clock) -> CredentialsProvider:
    if environ.get("AWS_ACCESS_KEY_ID"):
        return FixedCredentials(_from_environ("AWS", environ))
    if profile := environ.get("AWS_PROFILE"):
        return ReloadedCredentials(lambda: _from_profile(profile, environ), clock)
    raise SettingsError(
        "no credentials: AWS_ACCESS_KEY_ID is not set; set it with AWS_SECRET_ACCESS_KEY, "
        "or write credentials = env:PREFIX, file:PATH, profile:NAME, instance or anonymous on the mount"
    )


def _from_environ(prefix: str, environ: Mapping[str, str]) -> Credentials:
    names = (f"{prefix}_ACCESS_KEY_ID", f"{prefix}_SECRET_ACCESS_KEY")
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise SettingsError(f"credentials env:{prefix}: {' and '.join(missing)} not set in the environment")
    return Credentials(environ[names[0]], environ[names[1]], environ.get(f"{prefix}_SESSION_TOKEN", ""))


def _from_profile(name: str, environ: Mapping[str, str]) -> Credentials:
    home = environ.get("HOME", "")
    path = Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path(home) / ".aws" / "credentials")
    sections = _parse_ini(_read_secret_file(path), path)
    if not sections.has_section(name):
        raise SettingsError(f"credentials profile:{name}: {path} has no section [{name}]")
    return _from_section(sections[name], f"{path} [{name}]")


def _from_section(section: Mapping[str, str], where: str) -> Credentials:
    names = ("aws_access_key_id", "aws_secret_access_key")
    values = [section.get(name) or section.get(name.removeprefix("aws_")) or "" for name in names]
    missing = [name for name, value in zip(names, values, strict=True) if not value]
    if missing:
        raise SettingsError(f"{where}: {' and '.join(missing)} missing")
    token = section.get("aws_session_token") or section.get("session_token") or ""
    return Credentials(values[0], values[1], token)


def _parse_ini(text: str, path: Path) -> configparser.ConfigParser:
    # No interpolation: a secret may hold a percent sign. No default section: profiles share nothing.
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        # The cause is left out: it quotes the line, which may be the secret.
        raise SettingsError(f"{path}: not an ini file with sections and name = value lines") from None
    return parser


def _read_secret_file(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            text = file.read(64 * 1024)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SettingsError(f"credentials file {path}: {reason}") from error
    if mode & 0o077:
        _log.warning("credentials file %s can be read by others (mode %o): chmod 600 it", path, mode)
    return text
