"""Store URLs as they stand in settings: a scheme, a bucket and a prefix, and nothing else."""

from __future__ import annotations

import re

import msgspec

from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec
from headrace.model.units import parse_duration
from headrace.stores.guard import AddressGuard, AddressRefused
from headrace.stores.http import HttpSettings

_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._$-]{0,254}")
_NEW_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+")
_ENDPOINT = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?/?")
_MAX_CONNECT_S = 5.0


class StoreUrl(msgspec.Struct, frozen=True):
    """`scheme://bucket/prefix`; the prefix is a key's beginning, exactly as written, without slashes around it."""

    scheme: str
    bucket: str
    prefix: str


def parse_store_url(url: str) -> StoreUrl:
    """Raises `SettingsError` for anything but a scheme, a bucket and a prefix. Percent signs mean themselves."""
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme:
        raise SettingsError(f"store {shown_url(url)!r} is no URL: write one such as s3://bucket/prefix")
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        raise SettingsError(f"store {scheme}://…: credentials do not belong in a URL, name them with credentials = env:PREFIX")
    if "?" in url or "#" in url or any(ord(char) < 32 or ord(char) == 127 for char in url):
        raise SettingsError(
            f"store {shown_url(url)!r}: a store's URL has no query, fragment or control character; options are keys"
        )
    if bucket and not is_bucket_name(bucket):
        raise SettingsError(f"store {shown_url(url)!r}: what stands for the bucket cannot be the name of one")
    if prefix and not bucket:
        raise SettingsError(f"store {shown_url(url)!r}: the bucket's name is missing before the prefix")
    return StoreUrl(scheme, bucket, prefix.strip("/"))


def is_bucket_name(text: str) -> bool:
    """Whether a bucket or container may be called so at all; never true for what could change a URL's path or host."""
    return _BUCKET.fullmatch(text) is not None and ".." not in text


def can_be_created(name: str) -> bool:
    """Whether S3 lets a new bucket be called so: its rules are stricter than what buckets are called that are there."""
    return _NEW_BUCKET.fullmatch(name) is not None and ".." not in name and _IPV4.fullmatch(name) is None


def check_endpoint(spec: MountSpec) -> str:
    """The mount's endpoint without a slash at its end, checked as far as can be without DNS. Raises `SettingsError`."""
    if not spec.endpoint:
        return ""
    match = _ENDPOINT.fullmatch(spec.endpoint)
    if match is None:
        raise SettingsError(
            f"endpoint {shown_url(spec.endpoint)!r}: write http:// or https://, a host and perhaps a port, nothing else"
        )
    try:
        guard_of(spec).check_host(match[2])
    except AddressRefused as error:
        raise SettingsError(f"endpoint {spec.endpoint}: {error}") from error
    return spec.endpoint.rstrip("/")


def guard_of(spec: MountSpec) -> AddressGuard:
    """The address rule that the mount asks for."""
    return AddressGuard(allow_private=spec.allow_private)


def http_settings(spec: MountSpec) -> HttpSettings:
    """Bounds on connections from the mount's options. Raises `SettingsError`."""
    timeout_s = parse_duration(spec.timeout)
    return HttpSettings(
        max_connections=spec.max_connections, connect_timeout_s=min(_MAX_CONNECT_S, timeout_s), read_timeout_s=timeout_s
    )


def shown_url(url: str) -> str:
    """The URL for a message, without what may be a secret: user information, query and fragment."""
    scheme, separator, rest = url.rpartition("://")
    return scheme.rpartition("@")[2] + separator + re.split("[?#]", rest.rpartition("@")[2])[0]
