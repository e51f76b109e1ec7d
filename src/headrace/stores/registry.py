"""From a mount to its bare store, by the URL's scheme. Kinds of store are imported when first used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from headrace.model.clock import Clock
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec
from headrace.stores.store import Store

ENTRY_POINTS = "headrace.stores"
"""Other packages add kinds of store here: the entry point's name is the scheme, its object an `OpenStore`."""

_MODULES = {
    "s3": "headrace.stores.s3",
    "gs": "headrace.stores.gs",
    "az": "headrace.stores.az",
    "hdfs": "headrace.stores.hdfs_open",
    "webhdfs": "headrace.stores.hdfs_open",
    "swebhdfs": "headrace.stores.hdfs_open",
    "http": "headrace.stores.web_open",
    "https": "headrace.stores.web_open",
    "swift": "headrace.stores.swift",
    "sftp": "headrace.stores.sftp_open",
    "sql": "headrace.stores.sql_open",
    "file": "headrace.stores.file_open",
    "memory": "headrace.stores.memory",
}


class OpenStore(Protocol):
    """Makes a store from a mount without asking the store anything. Raises `SettingsError`."""

    def __call__(self, spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store: ...


def open_store(spec: MountSpec, *, environ: Mapping[str, str], clock: Clock) -> Store:
    """The bare store of `spec.store`, without retries, limits or traces. Raises `SettingsError`."""
    scheme, separator, _ = spec.store.partition("://")
    if not separator:
        raise SettingsError(f"store {spec.store.partition('?')[0]!r} is no URL: write one such as s3://bucket/prefix")
    return _opener(scheme)(spec, environ=environ, clock=clock)


def known_schemes() -> tuple[str, ...]:
    """Schemes that a store's URL may begin with."""
    return tuple(sorted({*_MODULES, *(point.name for point in _added())}))


def _opener(scheme: str) -> OpenStore:
    if scheme in _MODULES:
        return cast("OpenStore", import_module(_MODULES[scheme]).from_spec)
    for point in _added():
        if point.name == scheme:
            return _load(point)
    raise SettingsError(f"store {scheme}://…: unknown kind of store; known are {', '.join(known_schemes())}")


def _load(point: EntryPoint) -> OpenStore:
    try:
        return cast("OpenStore", point.load())
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"store {point.name}://…: {point.value} could not be loaded: {error}") from error


def _added() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINTS))
