"""Mounts become stores by their URL's scheme; what a URL may not hold is refused by name."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.clock import SystemClock
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec
from headrace.stores import registry
from headrace.stores.file import FileStore
from headrace.stores.memory import MemoryStore
from headrace.stores.prefixed import PrefixedStore
from headrace.stores.registry import known_schemes, open_store
from headrace.stores.s3 import S3Store
from headrace.stores.s3_account import S3AccountStore
from headrace.stores.store import Store
from headrace.stores.urls import StoreUrl, parse_store_url


def opened(store: str, **options: str) -> Store:
    spec = MountSpec("/m", store=store, credentials="anonymous", **options)  # type: ignore[arg-type] - options are all text here
    return open_store(spec, environ={}, clock=SystemClock())


def test_the_scheme_says_the_kind(tmp_path: Path) -> None:
    assert type(opened("s3://bucket", endpoint="http://127.0.0.1:1")) is S3Store
    assert type(opened("s3://bucket/2026")) is PrefixedStore
    assert type(opened("s3://", endpoint="http://127.0.0.1:1")) is S3AccountStore
    assert type(opened(f"file://{tmp_path}")) is FileStore


@pytest.mark.parametrize(
    ("store", "named"),
    [
        ("ftp://host/x", "az, file, gs"),
        ("bucket/x", "s3://bucket/prefix"),
        ("", "s3://bucket/prefix"),
        ("s3://KEY:PLANTED@bucket/x", "credentials do not belong"),
        ("s3://bucket/x?secret=PLANTED", "no query"),
        ("s3://bucket/x#PLANTED", "no query"),
        ("s3://bucket/a\nb", "control"),
        ("s3://../x", "cannot be the name"),
        ("s3://buc%6bet", "cannot be the name"),
        ("s3:///prefix", "name is missing"),
    ],
)
def test_a_wrong_url_is_refused_by_name_and_shows_no_secret(store: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named) as caught:
        opened(store)
    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://user:PLANTED@127.0.0.1",
        "http://127.0.0.1/path",
        "http://127.0.0.1?x=PLANTED",
        "ftp://127.0.0.1",
        "127.0.0.1:9000",
        "http://169.254.169.254",
        "http://2852039166",
        "http://0xa9fea9fe:80",
        "http://[::ffff:169.254.169.254]",
        "http://metadata.google.internal",
    ],
)
def test_a_wrong_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        opened("s3://bucket", endpoint=endpoint)
    assert "PLANTED" not in str(caught.value)


def test_other_packages_add_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("ours", f"{__name__}:make_ours", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [point] if group == "headrace.stores" else [])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[test_other_packages_add_kinds.__module__])
    assert type(opened("ours://x")) is MemoryStore
    assert "ours" in known_schemes()


def test_a_kind_that_cannot_be_loaded_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("ours", "no_such_module_anywhere:make", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [point])
    with pytest.raises(SettingsError, match="no_such_module_anywhere"):
        opened("ours://x")


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_store_url_or_a_settings_error(text: str) -> None:
    try:
        url = parse_store_url(text)
    except SettingsError:
        return
    assert "@" not in url.bucket
    assert "/" not in url.bucket


def test_a_prefix_is_kept_exactly() -> None:
    assert parse_store_url("s3://b/a//b%20c/é+/") == StoreUrl("s3", "b", "a//b%20c/é+")


def make_ours(spec: MountSpec, *, environ: object, clock: object) -> Store:
    return MemoryStore()
