"""Signing requests to Azure Blob Storage: SharedKey, a SAS token, or nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from time import gmtime, strftime
from urllib.parse import urlencode

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import SettingsError
from headrace.stores.credentials import Credentials, CredentialsProvider, FixedCredentials, credentials_provider

API_VERSION = "2021-12-02"
_SKEW_S = 900.0
_SAS_S = 86_400.0
_SIGNED = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


class AzureRequest(msgspec.Struct, frozen=True):
    """A request: path and query values as they are sent, but the query not yet encoded. `length` is its body's, in bytes."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    length: int = 0


def signed_headers(request: AzureRequest, account: str, key: str, now_s: float) -> tuple[tuple[str, str], ...]:
    """The headers to send: the request's own, date and version, and with a key the signature."""
    headers = (*request.headers, ("x-ms-date", formatdate(now_s, usegmt=True)), ("x-ms-version", API_VERSION))
    if not key:
        return headers
    signed = (*headers, ("content-length", str(request.length))) if request.length else headers
    text = string_to_sign(request.method, request.path, account, request.query, signed)
    digest = hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)
    return (*headers, ("authorization", f"SharedKey {account}:{base64.b64encode(digest).decode()}"))


def string_to_sign(
    method: str, path: str, account: str, query: Sequence[tuple[str, str]], headers: Sequence[tuple[str, str]]
) -> str:
    """What SharedKey signs. Header names must be lower case."""
    found = dict(headers)
    lines = [method, *(found.get(name, "") for name in _SIGNED)]
    lines += [f"{name}:{' '.join(found[name].split())}" for name in sorted(found) if name.startswith("x-ms-")]
    lines.append(f"/{account}{path}")
    lines += [f"{name.lower()}:{value}" for name, value in sorted(query)]
    return "\n".join(lines)


def blob_sas(account: str, key: str, container: str, blob: str, now_s: float) -> str:
    """A token, as the query of a URL, with which that one blob and its tags may be read for a day: what copies are made from."""
    start, expiry = (strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(at)) for at in (now_s - _SKEW_S, now_s + _SAS_S))
    resource = f"/blob/{account}/{container}/{blob}"
    text = "\n".join(["rt", start, expiry, resource, "", "", "", API_VERSION, "b", "", "", "", "", "", "", ""])
    digest = hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)
    fields = {"sv": API_VERSION, "st": start, "se": expiry, "sr": "b", "sp": "rt", "sig": base64.b64encode(digest).decode()}
    return urlencode(fields)


def azure_credentials(reference: str, *, environ: Mapping[str, str], clock: Clock) -> CredentialsProvider:
    """Account (as key id) and its key or SAS token (as secret), by the references that S3 mounts use.

    Empty: AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN. Raises `SettingsError`.
    """
    if reference == "instance":
        raise SettingsError("credentials = instance is not offered for az stores: use env:PREFIX or file:PATH with a key or SAS")
    if reference:
        return credentials_provider(reference, environ=environ, clock=clock)
    account = environ.get("AZURE_STORAGE_ACCOUNT", "")
    secret = environ.get("AZURE_STORAGE_KEY") or environ.get("AZURE_STORAGE_SAS_TOKEN") or ""
    if not account or not secret:
        raise SettingsError(
            "no credentials: set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY (or AZURE_STORAGE_SAS_TOKEN), "
            "or write credentials = env:PREFIX, file:PATH or anonymous on the mount"
        )
    return FixedCredentials(Credentials(account, secret))


def is_sas(secret: str) -> bool:
    """Whether the secret is a SAS token (a query) and not an account's key."""
    return "sig=" in secret


def check_key_text(secret: str) -> None:
    """Raises `SettingsError` unless an account's key is base64."""
    try:
        base64.b64decode(secret, validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError("the account's key is not base64: copy it again, or use a SAS token") from None
