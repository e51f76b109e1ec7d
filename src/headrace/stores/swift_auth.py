"""Tokens of OpenStack: tempauth and version 1 by headers, Keystone version 3 by a document; fetched anew before they expire."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import AccessDenied, HeadraceError, SettingsError, Unavailable
from headrace.stores.http import Http, status_error
from headrace.stores.login import Login, login_of

_EARLY_S = 60.0
_MAX_ANSWER_BYTES = 4 << 20


class Grant(msgspec.Struct, frozen=True):
    """A token, where it is good, and until when. repr shows no token."""

    token: str
    storage_url: str
    expires_s: float

    def __repr__(self) -> str:
        return f"Grant({self.storage_url!r})"


class SwiftAuth(ABC):
    """Who asks. One fetch at a time."""

    def __init__(self, endpoint: str, login: Login, http: Http, clock: Clock) -> None:
        self._endpoint = endpoint
        self._login = login
        self._http = http
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._current: Grant | None = None

    async def grant(self, *, refused: str = "") -> Grant:
        """A token that is good now, another than the `refused` one. Raises `AccessDenied`, `Unavailable`."""
        async with self._fetching:
            current = self._current
            if current is None or current.token == refused or self._clock.time() > current.expires_s - _EARLY_S:
                self._current = current = await self._fetch()
            return current

    def forget(self) -> None:
        """Fetch another token when one is needed again."""
        self._current = None

    @abstractmethod
    async def _fetch(self) -> Grant:
        """A new token."""

    def _refusal(self, status: int, headers: Mapping[str, str]) -> HeadraceError:
        message = f"{self._endpoint}: no token: answered {status} to user {self._login.user!r}"
        if status in (401, 403, 404):
            return AccessDenied(f"{message}: check the credentials and that this is the address of its login", path="")
        return status_error(status, message, path="", headers=headers, now_s=self._clock.time())


class HeaderAuth(SwiftAuth):
    """Version 1, as tempauth speaks it: `/auth/v1.0`, user and key in headers."""

    async def _fetch(self) -> Grant:
        headers = [("x-auth-user", self._login.user), ("x-auth-key", self._login.password)]
        response = await self._http.request("GET", f"{self._endpoint}/auth/v1.0", headers=headers)
        await response.read(_MAX_ANSWER_BYTES)
        token, url = response.headers.get("x-auth-token", ""), response.headers.get("x-storage-url", "")
        if response.status not in (200, 204) or not token or not url:
            raise self._refusal(response.status if response.status >= 300 else 404, response.headers)
        lasts = response.headers.get("x-auth-token-expires", "")
        return Grant(token, url.rstrip("/"), self._clock.time() + (float(lasts) if lasts.isdigit() else 3600.0))


class _Endpoint(msgspec.Struct):
    interface: str
    url: str
    region: str | None = None


class _Service(msgspec.Struct):
    type: str
    endpoints: list[_Endpoint]


class _Token(msgspec.Struct):
    expires_at: str
    catalog: list[_Service] = []


class _Answer(msgspec.Struct):
    token: _Token


class KeystoneAuth(SwiftAuth):
    """Version 3: a password within a project; where the objects are stands in the catalog that comes with the token."""

    def __init__(self, endpoint: str, login: Login, http: Http, clock: Clock, project: tuple[str, str, str]) -> None:
        super().__init__(endpoint, login, http, clock)
        self._project, self._domain, self._region = project

    async def _fetch(self) -> Grant:
        domain = {"name": self._domain}
        user = {"name": self._login.user, "domain": domain, "password": self._login.password}
        asked = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": self._project, "domain": domain}},
            }
        }
        headers = [("content-type", "application/json")]
        body = msgspec.json.encode(asked)
        response = await self._http.request("POST", f"{self._endpoint}/v3/auth/tokens", headers=headers, body=body)
        told = await response.read(_MAX_ANSWER_BYTES)
        token = response.headers.get("x-subject-token", "")
        if response.status != 201 or not token:
            raise self._refusal(response.status, response.headers)
        try:
            found = msgspec.json.decode(told, type=_Answer).token
            expires_s = datetime.fromisoformat(found.expires_at).timestamp()
        except (msgspec.DecodeError, ValueError) as error:
            raise Unavailable(f"{self._endpoint}: what answers is no Keystone version 3") from error
        return Grant(token, self._place(found), expires_s)

    def _place(self, found: _Token) -> str:
        for service in found.catalog:
            for endpoint in service.endpoints:
                is_ours = not self._region or endpoint.region == self._region
                if service.type == "object-store" and endpoint.interface == "public" and is_ours:
                    return endpoint.url.rstrip("/")
        where = f" in region {self._region!r}" if self._region else ""
        raise SettingsError(f"{self._endpoint}: the project's catalog names no public object-store{where}")


def swift_auth(reference: str, endpoint: str, environ: Mapping[str, str], http: Http, clock: Clock) -> SwiftAuth:
    """Keystone where `PREFIX_PROJECT_NAME` is set, else version 1. Raises `SettingsError`."""
    login = login_of(reference, environ)
    if not login.user or not login.password:
        raise SettingsError("credentials: Swift takes env:PREFIX with PREFIX_USERNAME and PREFIX_PASSWORD, or file:PATH")
    prefix = reference.partition(":")[2] if reference.startswith("env:") else ""
    if project := environ.get(f"{prefix}_PROJECT_NAME", ""):
        domain, region = environ.get(f"{prefix}_DOMAIN_NAME", "Default"), environ.get(f"{prefix}_REGION_NAME", "")
        return KeystoneAuth(endpoint.removesuffix("/v3"), login, http, clock, (project, domain, region))
    return HeaderAuth(endpoint, login, http, clock)
