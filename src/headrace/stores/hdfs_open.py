"""From a mount to an HDFS store."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.model.clock import Clock
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec
from headrace.stores.guard import AddressRefused
from headrace.stores.hdfs import HdfsStore
from headrace.stores.hdfs_client import HdfsClient
from headrace.stores.hdfs_rpc import HdfsRpc
from headrace.stores.http import Http
from headrace.stores.store import Store
from headrace.stores.urls import guard_of, http_settings, shown_url
from headrace.stores.webhdfs import WebHdfs

if TYPE_CHECKING:
    from hdfs_native import Client

_NAMENODE = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_WEB_PORTS = {"webhdfs": 9870, "swebhdfs": 9871}
_RPC_PORT = 8020
_SERVICE = "headrace-mount"
_MAX_THREADS = 32


def from_spec(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The store of a `webhdfs://namenode:port/path` or `hdfs://…` URL, several NameNodes with commas. Raises `SettingsError`."""
    scheme, _, rest = spec.store.partition("://")
    hosts, _, path = rest.partition("/")
    if scheme == "hdfs":
        bounds = http_settings(spec)
        native = _native(spec, hosts, environ, timeout_s=bounds.read_timeout_s)
        client: HdfsClient = HdfsRpc(native, timeout_s=bounds.read_timeout_s, threads=min(bounds.max_connections, _MAX_THREADS))
    else:
        namenodes = _namenodes(spec, hosts, _WEB_PORTS[scheme])
        protocol = "https" if scheme == "swebhdfs" else "http"
        client = WebHdfs(
            [f"{protocol}://{host}" for host in namenodes],
            _identity(spec.credentials, environ),
            Http(http_settings(spec), guard=guard_of(spec)),
        )
    return HdfsStore(client, _root(spec, path), clock)


def _native(spec: MountSpec, hosts: str, environ: Mapping[str, str], *, timeout_s: float) -> Client:
    """The library's client of a cluster. Raises `SettingsError`."""
    try:
        from hdfs_native import Client  # noqa: PLC0415  an extra
    except ImportError as error:
        raise SettingsError(
            "hdfs:// needs a package that is not installed: pip install 'headrace[hdfs]'; webhdfs:// needs none"
        ) from error
    principal, keytab = _kerberos(spec.credentials, environ)
    namenodes = _namenodes(spec, hosts, _RPC_PORT)
    # Waits of its own for a NameNode that is away would take minutes.
    config = {
        "dfs.client.failover.max.attempts": str(2 * len(namenodes)),
        "dfs.client.failover.sleep.base.millis": "100",
        "dfs.client.failover.sleep.max.millis": "1000",
        "dfs.client.socket-timeout": str(round(timeout_s * 1000)),
    }
    # Without a port it may be the name of a cluster, which the configuration explains.
    url = f"hdfs://{hosts}"
    if len(namenodes) > 1:
        url = f"hdfs://{_SERVICE}"
        names = [f"n{number}" for number in range(len(namenodes))]
        config |= {f"dfs.namenode.rpc-address.{_SERVICE}.{name}": at for name, at in zip(names, namenodes, strict=True)}
        config[f"dfs.ha.namenodes.{_SERVICE}"] = ",".join(names)
    try:
        return Client(url, config, kerberos_principal=principal, kerberos_keytab=keytab)
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(f"store {shown_url(spec.store)!r}: {error}") from error


def _kerberos(reference: str, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Principal and key table, or nothing: then the process's tickets or its user name count. Raises `SettingsError`."""
    if not reference:
        return None, None
    kind, _, prefix = reference.partition(":")
    principal = environ.get(f"{prefix}_PRINCIPAL") if kind == "env" and prefix else None
    if not principal:
        raise SettingsError(
            "credentials of hdfs://: write env:PREFIX with PREFIX_PRINCIPAL and PREFIX_KEYTAB for Kerberos; "
            "on clusters without it leave them out and set HADOOP_USER_NAME for headrace"
        )
    keytab = environ.get(f"{prefix}_KEYTAB")
    if keytab and not Path(keytab).is_file():
        raise SettingsError(f"credentials {reference}: {prefix}_KEYTAB: {keytab} is no file")
    return principal, keytab


def _namenodes(spec: MountSpec, hosts: str, port: int) -> list[str]:
    found: list[str] = []
    scheme = spec.store.partition("://")[0]
    for host in hosts.split(","):
        match = _NAMENODE.fullmatch(host)
        if match is None:
            raise SettingsError(f"store {shown_url(spec.store)!r}: write {scheme}://namenode:port/path, no user and no query")
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
