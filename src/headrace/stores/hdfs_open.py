"""From a mount to an HDFS store."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping

from headrace.model.clock import Clock
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec
from headrace.stores.guard import AddressRefused
from headrace.stores.hdfs import HdfsStore
from headrace.stores.http import Http
from headrace.stores.store import Store
from headrace.stores.urls import guard_of, http_settings, shown_url
from headrace.stores.webhdfs import WebHdfs

_NAMENODE = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_WEB_PORTS = {"webhdfs": 9870, "swebhdfs": 9871}


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of a `webhdfs://namenode:port/path` URL, several NameNodes with commas between them. Raises `SettingsError`."""
    scheme, _, rest = spec.store.partition("://")
    hosts, _, path = rest.partition("/")
    namenodes = _namenodes(spec, hosts, _WEB_PORTS[scheme])
    protocol = "https" if scheme == "swebhdfs" else "http"
    client = WebHdfs(
        [f"{protocol}://{host}" for host in namenodes],
        _identity(spec.credentials, environ),
        Http(http_settings(spec), guard=guard_of(spec)),
    )
    return HdfsStore(client, _root(spec, path), clock)


def _namenodes(spec: MountSpec, hosts: str, port: int) -> list[str]:
    found: list[str] = []
    for host in hosts.split(","):
        match = _NAMENODE.fullmatch(host)
        if match is None:
            raise SettingsError(f"store {shown_url(spec.store)!r}: write webhdfs://namenode:port/path, without a user or a query")
        try:
            guard_of(spec).check_host(match[1])
        except AddressRefused as error:
            raise SettingsError(f"store {shown_url(spec.store)!r}: {error}") from error
        found.append(host if match[2] else f"{host}:{port}")
    return found


def _root(spec: MountSpec, path: str) -> str:
    segments = path.rstrip("/").split("/") if path.rstrip("/") else []
    # Some DataNodes decode paths twice. Keys never reach one (bytes are read by inode and written aside), the root does.
    if any(part in ("", ".", "..") for part in segments) or re.search(r"[:%?#\x00-\x1f\x7f]", path):
        raise SettingsError(f"store {shown_url(spec.store)!r}: its path is none that HDFS has")
    return "".join(f"/{part}" for part in segments)


def _identity(reference: str, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Who asks: a delegation token, or a user name for clusters with simple authentication. Raises `SettingsError`."""
    kind, _, prefix = reference.partition(":")
    if not reference:
        return (("user.name", environ.get("HADOOP_USER_NAME") or getpass.getuser()),)
    if kind != "env" or not prefix:
        raise SettingsError(
            "credentials: write env:PREFIX for PREFIX_USER_NAME or PREFIX_DELEGATION_TOKEN, never a secret itself"
        )
    if token := environ.get(f"{prefix}_DELEGATION_TOKEN"):
        return (("delegation", token),)
    if user := environ.get(f"{prefix}_USER_NAME"):
        return (("user.name", user),)
    raise SettingsError(f"credentials env:{prefix}: neither {prefix}_USER_NAME nor {prefix}_DELEGATION_TOKEN is set")
