"""What a mount must look like before its store is tried. Asks nobody."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from headrace.model.errors import HeadraceError, SettingsError
from headrace.model.mounts import Freshness, MountSpec, Residency, WriteMode
from headrace.model.units import parse_duration, parse_size
from headrace.stores.registry import known_schemes

_CREDENTIALS = re.compile(r"|env:[A-Za-z_][A-Za-z0-9_]*|file:.+|profile:[^\s:/]+|instance|anonymous")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_MAX_UNION = 32


def check_mount(spec: MountSpec, taken: Iterable[str] = ()) -> None:
    """Raises `SettingsError` that names the option, what is wrong with it, and what to write instead.

    `taken` are the paths of the mounts there are.
    """
    check_path(spec.path)
    if spec.path in set(taken):
        raise SettingsError(
            f"{spec.path} is mounted already: change it with `headrace mount set {spec.path}`, or take it away with `mount rm`",
            path=spec.path,
        )
    where = f"mount {spec.path}"
    if spec.union:
        _check_union(spec, where)
    else:
        _check_store(spec, where)
    _check_options(spec, where)


def check_path(path: str) -> None:
    """Raises `SettingsError` unless `path` is `/` or `/name[/name…]`, compared exactly later on."""
    if path == "/":
        return
    shown = ascii(path)
    if not path.startswith("/"):
        raise SettingsError(f"mount path {shown} must begin with a slash: write {'/' + path!a}", path=path)
    if path.endswith("/"):
        raise SettingsError(f"mount path {shown} must not end with a slash: write {path.rstrip('/') or '/'!a}", path=path)
    if any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise SettingsError(f"mount path {shown} has an empty, . or .. segment: write plain names between slashes", path=path)
    if not path.isprintable() or "\\" in path:
        raise SettingsError(f"mount path {shown} has a control character or back-slash in it: use printable names", path=path)
    if len(path.encode()) > 1024:
        raise SettingsError(f"mount path {shown[:40]}… is longer than 1,024 bytes: choose a shorter one", path=path)


def _check_union(spec: MountSpec, where: str) -> None:
    if spec.store:
        raise SettingsError(f"{where}: has both `store` and `union`: write one of them", path=spec.path)
    if len(spec.union) > _MAX_UNION:
        raise SettingsError(f"{where}: has {len(spec.union)} union members; at most {_MAX_UNION} are allowed", path=spec.path)
    if not 0 <= spec.write_target < len(spec.union):
        raise SettingsError(
            f"{where}: write_target {spec.write_target} names no member: write 0 to {len(spec.union) - 1}", path=spec.path
        )
    for number, member in enumerate(spec.union):
        label = f"{where}, union member {number}"
        if member.union:
            raise SettingsError(f"{label}: is itself a union: list its members here instead", path=spec.path)
        _check_store(member, label)
        _check_options(member, label)


def _check_store(spec: MountSpec, where: str) -> None:
    if not spec.store:
        raise SettingsError(f"{where}: no store: write a URL such as s3://bucket/prefix", path=spec.path)
    if not spec.store.isprintable():
        raise SettingsError(f"{where}: the store URL has a control character in it", path=spec.path)
    scheme, mark, rest = spec.store.partition("://")
    if not mark or scheme not in known_schemes():
        known = ", ".join(f"{name}://" for name in known_schemes())
        raise SettingsError(f"{where}: {_shown(spec.store)!r} is no store this release knows: write {known}", path=spec.path)
    authority = rest.partition("/")[0]
    if "@" in authority:
        raise SettingsError(
            f'{where}: credentials do not belong into the store URL: use `credentials = "env:NAME"`', path=spec.path
        )
    if not authority and scheme in ("gs", "az"):
        raise SettingsError(f"{where}: {_shown(spec.store)!r} names no bucket: write {scheme}://bucket/prefix", path=spec.path)
    if scheme == "s3" and not authority and rest:
        raise SettingsError(
            f"{where}: {_shown(spec.store)!r} names no bucket: write s3://bucket, or s3:// for all", path=spec.path
        )
    if scheme == "file" and (authority or not rest.startswith("/")):
        raise SettingsError(f"{where}: {_shown(spec.store)!r} is not an absolute path: write file:///path/to/dir", path=spec.path)
    _check_endpoint(spec, where)


def _check_endpoint(spec: MountSpec, where: str) -> None:
    if not spec.endpoint:
        return
    wanted = "write http:// or https://, a host and maybe a port"
    try:
        parts = urlsplit(spec.endpoint)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError as error:
        raise SettingsError(f"{where}: endpoint {_shown(spec.endpoint)!r}: {error}; {wanted}", path=spec.path) from error
    if "@" in parts.netloc:
        raise SettingsError(f"{where}: credentials do not belong into the endpoint: use `credentials`", path=spec.path)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(f"{where}: endpoint {_shown(spec.endpoint)!r} is not a plain address: {wanted}", path=spec.path)
    if not spec.endpoint.isprintable() or " " in spec.endpoint:
        raise SettingsError(
            f"{where}: endpoint {_shown(spec.endpoint)!r} has a blank or control character: {wanted}", path=spec.path
        )


def _check_scratch(spec: MountSpec, where: str) -> None:
    if spec.residency is not Residency.DISK:
        raise SettingsError(
            f'{where}: write = "scratch" keeps writes on this node\'s disk, which residency = "{spec.residency}" forbids: write '
            '"through", or residency = "disk"',
            path=spec.path,
        )
    if spec.create_buckets:
        raise SettingsError(
            f'{where}: write = "scratch" makes no buckets, which would be the store\'s: take create_buckets away', path=spec.path
        )


def _check_acls(spec: MountSpec, where: str) -> None:
    if spec.path != "/" or not spec.store.startswith("file://") or not spec.create_buckets or spec.write is not WriteMode.THROUGH:
        raise SettingsError(
            f'{where}: acls are kept in an account of a directory: path = "/", store = "file:///…", create_buckets = true and '
            'write = "through"',
            path=spec.path,
        )
    if spec.anonymous:
        raise SettingsError(
            f"{where}: acls say what callers without a key may read, anonymous that they may read all: take one of them away",
            path=spec.path,
        )


def _shown(url: str) -> str:
    """A URL for a message: whatever might be credentials in it (user information, query, fragment) is left out."""
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    head, at, tail = rest.rpartition("@")
    return f"{scheme if scheme.isalnum() else ''}{mark}{'…@' if at else ''}{re.split('[?#]', tail if at else head + tail)[0]}"


def _check_options(spec: MountSpec, where: str) -> None:
    if not _CREDENTIALS.fullmatch(spec.credentials):
        raise SettingsError(
            f"{where}: credentials go by reference: env:PREFIX, file:PATH (two lines: access key id, its secret), "
            "profile:NAME, instance or anonymous",
            path=spec.path,
        )
    if not _REGION.fullmatch(spec.region):
        raise SettingsError(
            f"{where}: region {spec.region[:63]!a}: write letters, digits and dashes, as in us-east-1", path=spec.path
        )
    if spec.write is WriteMode.SCRATCH:
        _check_scratch(spec, where)
    if spec.acls:
        _check_acls(spec, where)
    if spec.write is WriteMode.BACK and spec.residency is not Residency.DISK:
        raise SettingsError(
            f'{where}: write = "back" keeps writes on a disk until the store has them, which residency = "{spec.residency}" '
            'forbids: write "through"',
            path=spec.path,
        )
    if not 1 <= spec.max_connections <= 4096:
        raise SettingsError(f"{where}: max_connections {spec.max_connections}: write 1 to 4096", path=spec.path)
    checks: tuple[tuple[str, str, Callable[[str], object]], ...] = (
        ("freshness", spec.freshness, Freshness.parse),
        ("timeout", spec.timeout, parse_duration),
        ("ttl", spec.ttl, parse_duration),
        ("quota", spec.quota, parse_size),
        ("bandwidth", spec.bandwidth, parse_size),
        ("spool", spec.spool, parse_size),
    )
    for name, value, parse in checks:
        if not value and name not in ("freshness", "timeout", "spool"):
            continue
        try:
            parse(value)
        except HeadraceError as error:
            hint = "; bandwidth is in bytes per second, such as 12MB (100 Mbit/s)" if name == "bandwidth" else ""
            raise SettingsError(f"{where}: {name}: {error}{hint}", path=spec.path) from error
