"""Access tokens for Google Cloud Storage: service account or user files, the metadata server, or none."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from headrace.model.clock import Clock
from headrace.model.errors import AccessDenied, SettingsError, Unavailable
from headrace.stores.guard import AddressGuard
from headrace.stores.http import Http, HttpSettings

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, no secret
_METADATA_HOST = "metadata.google.internal"
_METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_REFRESH_BEFORE_S = 120.0


class KeyFile(msgspec.Struct, frozen=True):
    """A credentials file as Google writes them: of a service account or of a user (`gcloud auth`)."""

    type: str = ""
    client_email: str = ""
    private_key: str = ""
    private_key_id: str = ""
    client_id: str = ""
    client_secret: str = ""
    refresh_token: str = ""
    token_uri: str = _TOKEN_URI
    project_id: str = ""
    quota_project_id: str = ""

    def __repr__(self) -> str:
        return f"KeyFile({self.client_email or self.client_id!r})"


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: float = 0.0

    def __repr__(self) -> str:
        return f"_Answer(expires_in={self.expires_in})"


class GoogleTokens:
    """Gives a token that is good now; fetched once for all callers and again before it ends.

    Without a file and without `metadata_host` requests go out without a token.
    """

    def __init__(self, clock: Clock, *, file: KeyFile | None = None, metadata_host: str = "") -> None:
        self._clock = clock
        self._file = file
        self._metadata_host = metadata_host
        guard = AddressGuard(permitted=frozenset((metadata_host.partition(":")[0], "169.254.169.254")))
        settings = HttpSettings(max_connections=2, connect_timeout_s=3.0, read_timeout_s=10.0)
        self._http = Http(settings, guard=guard if metadata_host else None)
        self._fetching = asyncio.Lock()
        self._token = ""
        self._until = 0.0

    @property
    def project(self) -> str:
        """The project that the file belongs to; empty when it is not known."""
        return "" if self._file is None else self._file.project_id or self._file.quota_project_id

    async def headers(self) -> list[tuple[str, str]]:
        """The header to send. Raises `Unavailable` and `AccessDenied`."""
        if self._file is None and not self._metadata_host:
            return []
        if self._clock.monotonic() >= self._until:
            async with self._fetching:
                if self._clock.monotonic() >= self._until:
                    await self._fetch()
        return [("authorization", f"Bearer {self._token}")]

    async def close(self) -> None:
        await self._http.close()

    async def _fetch(self) -> None:
        asked = self._clock.monotonic()
        if self._file is None:
            url = f"http://{self._metadata_host}{_METADATA_PATH}"
            response = await self._http.request("GET", url, headers=[("metadata-flavor", "Google")])
        else:
            form = urlencode(_grant(self._file, self._clock.time())).encode()
            kind = [("content-type", "application/x-www-form-urlencoded")]
            response = await self._http.request("POST", self._file.token_uri, headers=kind, body=form)
        body = await response.read()
        if response.status in (400, 401, 403):
            raise AccessDenied(
                f"{response.url} gave no token ({response.status}): check the credentials and this machine's clock"
            )
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except msgspec.DecodeError:
            raise Unavailable(f"{response.url} gave no token ({response.status}), try again") from None
        self._token = answer.access_token
        self._until = asked + max(0.0, answer.expires_in - _REFRESH_BEFORE_S)


def google_tokens(reference: str, *, environ: Mapping[str, str], clock: Clock, emulated: bool = False) -> GoogleTokens:
    """The tokens that `credentials = …` names: `file:PATH`, `env:PREFIX` (PREFIX_APPLICATION_CREDENTIALS is a path),

    `instance`, `anonymous`; empty: GOOGLE_APPLICATION_CREDENTIALS. Raises `SettingsError`.
    """
    kind, _, argument = reference.partition(":")
    if reference == "anonymous" or (not reference and emulated):
        return GoogleTokens(clock)
    if reference == "instance":
        return GoogleTokens(clock, metadata_host=environ.get("GCE_METADATA_HOST") or _METADATA_HOST)
    if kind == "file" and argument:
        return GoogleTokens(clock, file=read_key_file(Path(argument)))
    if not reference or (kind == "env" and argument):
        name = f"{argument or 'GOOGLE'}_APPLICATION_CREDENTIALS"
        if environ.get(name):
            return GoogleTokens(clock, file=read_key_file(Path(environ[name])))
        raise SettingsError(f"no credentials: {name} is not set; set it, or write credentials = file:PATH, instance or anonymous")
    raise SettingsError("credentials of a gs store: write env:PREFIX, file:PATH, instance or anonymous, never a secret itself")


def read_key_file(path: Path) -> KeyFile:
    """Raises `SettingsError`, which shows nothing of the file's text."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=KeyFile)
    except OSError as error:
        raise SettingsError(f"credentials file {path}: {error.strerror}") from error
    except msgspec.DecodeError:
        raise SettingsError(f"credentials file {path} is not the JSON file of a service account or user") from None
    if file.type == "service_account" and file.client_email:
        _signing_key(file, str(path))
    elif not (file.type == "authorized_user" and file.refresh_token):
        raise SettingsError(f"credentials file {path}: type {file.type!r} is not supported, use service_account")
    if not file.token_uri.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise SettingsError(f"credentials file {path}: its token_uri must be https")
    return file


def _signing_key(file: KeyFile, name: str) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(file.private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SettingsError(f"{name}: its private_key cannot be read") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SettingsError(f"{name}: its private_key is not an RSA key")
    return key


def _grant(file: KeyFile, now_s: float) -> dict[str, str]:
    if file.type == "authorized_user":
        return {
            "grant_type": "refresh_token",
            "client_id": file.client_id,
            "client_secret": file.client_secret,
            "refresh_token": file.refresh_token,
        }
    head = {"alg": "RS256", "typ": "JWT", "kid": file.private_key_id}
    claims = {
        "iss": file.client_email,
        "scope": _SCOPE,
        "aud": file.token_uri,
        "iat": int(now_s),
        "exp": int(now_s) + 3600,
    }
    text = b".".join(_base64url(msgspec.json.encode(part)) for part in (head, claims))
    signature = _signing_key(file, "service account").sign(text, padding.PKCS1v15(), hashes.SHA256())
    return {"grant_type": _GRANT, "assertion": (text + b"." + _base64url(signature)).decode()}


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
