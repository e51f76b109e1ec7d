"""From a mount to an SFTP store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from headrace.model.clock import Clock
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec
from headrace.stores.guard import AddressRefused
from headrace.stores.sftp import SftpStore
from headrace.stores.sftp_client import SftpClient, SftpPlace
from headrace.stores.store import Store
from headrace.stores.urls import guard_of, http_settings, shown_url

_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?(/.*)?")
_PORT = 22


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of an `sftp://host:port/path` URL. Raises `SettingsError`."""
    rest = spec.store.partition("://")[2]
    if "@" in rest.partition("/")[0]:
        raise SettingsError("store sftp://…: no user or password belongs in a URL, name them with credentials = env:PREFIX")
    match = _PLACE.fullmatch(rest)
    segments = [] if match is None else (match[3] or "").strip("/").split("/")
    if match is None or re.search(r"[?#\x00-\x1f\x7f]", rest) or any(part in (".", "..") for part in segments) or "//" in rest:
        raise SettingsError(f"store {shown_url(spec.store)!r}: write sftp://host:22/absolute/path, without a query")
    host, guard = match[1].strip("[]"), guard_of(spec)
    try:
        guard.check_host(host)
    except AddressRefused as error:
        raise SettingsError(f"store {shown_url(spec.store)!r}: {error}") from error
    try:
        import asyncssh  # noqa: F401, PLC0415  an extra
    except ImportError as error:
        raise SettingsError("sftp:// needs a package that is not installed: pip install 'headrace[sftp]'") from error
    place = _place(host, int(match[2] or _PORT), spec, environ)
    return SftpStore(SftpClient(place, guard), (match[3] or "").rstrip("/"), clock)


def _place(host: str, port: int, spec: MountSpec, environ: Mapping[str, str]) -> SftpPlace:
    kind, _, prefix = spec.credentials.partition(":")
    if kind != "env" or not prefix:
        raise SettingsError(
            "credentials: write env:PREFIX for PREFIX_USERNAME with PREFIX_KEY_FILE or PREFIX_PASSWORD, never a secret itself"
        )
    user = environ.get(f"{prefix}_USERNAME", "")
    password, key_file = environ.get(f"{prefix}_PASSWORD", ""), environ.get(f"{prefix}_KEY_FILE", "")
    if not user or not (password or key_file):
        raise SettingsError(f"credentials env:{prefix}: set {prefix}_USERNAME, and {prefix}_KEY_FILE or {prefix}_PASSWORD")
    known = environ.get(f"{prefix}_KNOWN_HOSTS") or str(Path(environ.get("HOME", "/")) / ".ssh" / "known_hosts")
    for path in filter(None, (known, key_file)):
        if not Path(path).is_file():
            raise SettingsError(
                f"credentials env:{prefix}: {path} is no file; host keys are never taken unseen, name them in one"
            )
    return SftpPlace(host, port, user, password, key_file, known, http_settings(spec).connect_timeout_s)
