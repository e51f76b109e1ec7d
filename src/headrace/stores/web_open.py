"""From a mount to the store of a web server."""

from __future__ import annotations

import re
from collections.abc import Mapping

from headrace.model.clock import Clock
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec
from headrace.stores.guard import AddressRefused
from headrace.stores.http import Http
from headrace.stores.login import login_of
from headrace.stores.store import Store
from headrace.stores.urls import guard_of, http_settings, shown_url
from headrace.stores.web import WebStore
from headrace.stores.web_requests import WebRequests

_ROOT = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?")
_BAD_SEGMENT = re.compile(r"/(\.|%2e){1,2}(/|$)|//|%(?![0-9A-F]{2})", re.IGNORECASE)


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of an `http://host/path` or `https://…` URL, which is percent-encoded. Raises `SettingsError`."""
    if "@" in spec.store.partition("://")[2].partition("/")[0]:
        raise SettingsError(
            f"store {shown_url(spec.store)!r}: credentials do not belong in a URL, name them with credentials = env:PREFIX"
        )
    match = _ROOT.fullmatch(spec.store)
    if match is None or _BAD_SEGMENT.search(match[3] or ""):
        raise SettingsError(
            f"store {shown_url(spec.store)!r}: write http:// or https://, a host and a percent-encoded path without a query"
        )
    if spec.endpoint:
        raise SettingsError(f"store {shown_url(spec.store)!r}: the URL says where it is: take endpoint away")
    guard = guard_of(spec)
    try:
        guard.check_host(match[1])
    except AddressRefused as error:
        raise SettingsError(f"store {shown_url(spec.store)!r}: {error}") from error
    http = Http(http_settings(spec), guard=guard)
    requests = WebRequests(spec.store.rstrip("/") + "/", login_of(spec.credentials, environ), http, clock)
    return WebStore(requests, clock, lists=spec.index_pages)
