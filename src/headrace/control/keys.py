"""Access keys: where their secrets come from, and which secrets are refused."""

from __future__ import annotations

import logging
import re
import secrets
import string
from collections.abc import Mapping
from pathlib import Path

from headrace.control.settings import KeySpec
from headrace.control.state import KeyRecord
from headrace.ledger.secrets import private_text
from headrace.model.errors import SettingsError

_log = logging.getLogger(__name__)

MIN_SECRET_CHARS = 8
_KEY_ID = re.compile(r"[A-Za-z0-9._+=,@-]{1,128}")
_WELL_KNOWN = frozenset(
    {
        "accesskey", "adminadmin", "administrator", "awssecretkey", "changeit", "changeme", "changethis", "default",
        "headrace", "minioadmin", "miniosecret", "mysecret", "mysecretkey", "password", "passw0rd", "placeholder",
        "replaceme", "rustfsadmin", "secret", "secretkey", "secretaccesskey", "seaweedfs", "yoursecret", "yoursecretkey",
        "yoursecretaccesskey",
    }
)  # fmt: skip


def resolve_keys(specs: tuple[KeySpec, ...], environ: Mapping[str, str]) -> tuple[KeyRecord, ...]:
    """The keys of the settings with their secrets. Raises `SettingsError` for one that is missing or weak."""
    records: dict[str, KeyRecord] = {}
    for spec in specs:
        if not _KEY_ID.fullmatch(spec.id):
            raise SettingsError(f"key id {spec.id!r}: use 1 to 128 letters, digits and . _ + = , @ -")
        if spec.id in records:
            raise SettingsError(f"key {spec.id} is written twice in the settings: take one away")
        secret = _resolve_secret(spec, environ)
        check_secret(f"key {spec.id}", secret)
        records[spec.id] = KeyRecord(spec.id, secret)
    return tuple(records.values())


def check_secret(what: str, secret: str) -> None:
    """Raises `SettingsError` for an empty, short, well-known or example secret; never shows it."""
    remedy = "make one with `openssl rand -hex 24`"
    if not secret:
        raise SettingsError(f"{what}: the secret is empty; {remedy}")
    plain = re.sub(r"[^a-z0-9]", "", secret.lower()).rstrip("0123456789")
    if plain in _WELL_KNOWN or "example" in secret.lower() or len(set(secret)) < 4:
        raise SettingsError(f"{what}: the secret is a default or an example that everybody knows; {remedy}")
    if len(secret) < MIN_SECRET_CHARS:
        raise SettingsError(f"{what}: the secret has fewer than {MIN_SECRET_CHARS} characters; {remedy}")


def _resolve_secret(spec: KeySpec, environ: Mapping[str, str]) -> str:
    kind, mark, rest = spec.secret.partition(":")
    if mark and kind == "env":
        if rest not in environ:
            raise SettingsError(f"key {spec.id}: ${rest} is not set; export it, then start again")
        return environ[rest]
    if mark and kind == "file":
        try:
            return Path(rest).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError(f"key {spec.id}: cannot read the secret from {rest}: {reason}") from error
    if spec.secret:
        _log.warning("key %s: its secret stands in the settings file; better write env:NAME or file:PATH", spec.id)
    return spec.secret


def owner_file(home: Path) -> Path:
    """Where the owner's key lies."""
    return home / "credentials"


def owner_key(home: Path) -> KeyRecord:
    """The key of whoever owns `home`, made at first use; the CLI and Python on this host use it.

    Raises `SettingsError` when the file is not what it should be, or others may read it.
    """
    path = owner_file(home)
    lines = [line.partition("=") for line in private_text(path, _new_owner_text).splitlines()]
    values = {name.strip(): value.strip() for name, _, value in lines}
    record = KeyRecord(values.get("access_key_id", ""), values.get("secret_access_key", ""))
    if not record.id:
        raise SettingsError(f"{path} holds no access_key_id and secret_access_key: remove it, a new one is made", path=str(path))
    check_secret(str(path), record.secret)
    return record


def _new_owner_text() -> str:
    letters = string.ascii_uppercase + string.digits
    key_id = "HR" + "".join(secrets.choice(letters) for _ in range(18))
    return f"access_key_id = {key_id}\nsecret_access_key = {secrets.token_urlsafe(30)}\n"
