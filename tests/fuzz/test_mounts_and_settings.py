"""Mount URLs, mount options and settings files: any text is taken or refused in words, and no message repeats a secret."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.control.mount_rules import check_mount
from headrace.model.clock import SystemClock
from headrace.model.errors import SettingsError
from headrace.model.mounts import Freshness, MountSpec, Residency
from headrace.model.units import parse_duration, parse_size
from headrace.settings import Settings, load_settings, parse_settings
from headrace.stores.guard import AddressGuard
from headrace.stores.registry import open_store
from headrace.stores.urls import check_endpoint, is_bucket_name, parse_store_url

PLANTED = "PLANTED-7d1e"
PIECES = st.sampled_from(
    [
        "s3://",
        "gs://",
        "az://",
        "file://",
        "memory://",
        "http://",
        "https://",
        "://",
        ":",
        "/",
        "//",
        "..",
        "@",
        "?",
        "#",
        "[",
        "]",
        "%",
        "%2f",
        "\\",
        "127.0.0.1",
        "169.254.169.254",
        "[::1]",
        "b",
        "bucket",
        "a.b",
        ":80",
        ":99999",
        " ",
        "\n",
        "\r",
        "\0",
        "\u202e",
        "\ud800",
        "é",
        ",",
    ]
)
URLS = st.one_of(st.lists(PIECES, max_size=7).map("".join), st.text(max_size=20))
OPTIONS = st.one_of(
    st.sampled_from(["", "30s", "1ms", "verify", "immutable", "-1s", "1e9d", "1GiB", "∞", "nan", "inf", "0", "９s"]),
    st.text(max_size=8),
)
CREDENTIALS = st.one_of(
    st.sampled_from(["", "env:A", "env:", "file:/nowhere", "profile:x", "instance", "anonymous", "env:A\n"]), st.text(max_size=8)
)
SPECS = st.builds(
    MountSpec,
    path=st.one_of(st.just("/a"), URLS.map(lambda text: "/" + text)),
    store=URLS,
    endpoint=URLS,
    credentials=CREDENTIALS,
    region=st.one_of(st.just("us-east-1"), OPTIONS),
    freshness=OPTIONS,
    ttl=OPTIONS,
    quota=OPTIONS,
    bandwidth=OPTIONS,
    timeout=st.one_of(st.just("30s"), OPTIONS),
    max_connections=st.integers(-(2**70), 2**70),
    residency=st.sampled_from(list(Residency)),
    write_target=st.integers(-3, 3),
)


@settings(max_examples=300, deadline=None)
@given(spec=SPECS)
def test_any_mount_is_sound_or_refused_in_words(spec: MountSpec) -> None:
    try:
        check_mount(spec)
    except SettingsError as error:
        assert str(error)
        assert str(error).isprintable(), "a message goes to terminals and logs"
        return
    assert spec.path.isprintable()
    assert Freshness.parse(spec.freshness).seconds >= 0
    assert parse_duration(spec.timeout) > 0
    assert "@" not in spec.endpoint


@settings(max_examples=200, deadline=None)
@given(url=URLS)
def test_a_store_url_that_is_taken_says_its_bucket_and_nothing_that_could_move_it(url: str) -> None:
    try:
        found = parse_store_url(url)
    except SettingsError:
        return
    assert found.bucket == "" or is_bucket_name(found.bucket)
    assert not set(found.bucket) & set("/@?#%\\: \r\n[]")
    assert not found.prefix.startswith("/")
    assert not set(found.prefix) & set("?#\r\n\0")


@settings(max_examples=200, deadline=None)
@given(endpoint=URLS)
def test_an_endpoint_that_is_taken_is_a_scheme_a_host_and_a_port_that_the_guard_passes(endpoint: str) -> None:
    try:
        taken = check_endpoint(MountSpec("/a", "s3://b", endpoint=endpoint))
    except SettingsError:
        return
    if taken:
        scheme, _, authority = taken.partition("://")
        assert scheme in ("http", "https")
        assert not set(authority) & set("/@?#%\\ \r\n")
        AddressGuard().check_host(authority.rpartition(":")[0] if authority.rpartition(":")[2].isdigit() else authority)


@settings(max_examples=150, deadline=None)
@given(spec=SPECS)
def test_opening_any_mount_gives_a_store_or_a_settings_error(spec: MountSpec) -> None:
    if spec.store.startswith("file://"):
        return  # test_file has these, below a directory of its own
    try:
        open_store(spec, environ={"A_ACCESS_KEY_ID": "k", "A_SECRET_ACCESS_KEY": "s"}, clock=SystemClock())
    except SettingsError as error:
        assert str(error)


@pytest.mark.parametrize(
    "options",
    [
        {"store": f"s3://bucket?token={PLANTED}"},
        {"store": f"s3://bucket/x#{PLANTED}"},
        {"store": f"s3://KEY:{PLANTED}@bucket/x"},
        {"store": f"s3://KEY:a/{PLANTED}@bucket/x"},
        {"store": f"sftp://u:{PLANTED}@host/x"},
        {"store": f"sftp://host/x?password={PLANTED}"},
        {"store": f"file://u:{PLANTED}@host/x"},
        {"store": f"file://host/x?sig={PLANTED}"},
        {"store": f"gs:///x?sig={PLANTED}"},
        {"store": f"s3:///x?X-Amz-Signature={PLANTED}"},
        {"store": f"\x00s3://u:{PLANTED}@b"},
        {"store": "s3://b", "endpoint": f"http://u:{PLANTED}@host"},
        {"store": "s3://b", "endpoint": f"http://host/?X-Amz-Signature={PLANTED}"},
        {"store": "s3://b", "endpoint": f"http://host/#{PLANTED}"},
        {"store": "s3://b", "endpoint": f"ftp://u:{PLANTED}@host"},
        {"store": "s3://b", "endpoint": f"http://u:{PLANTED}@host:99999"},
        {"store": "s3://b", "endpoint": f"http://[u:{PLANTED}@host"},
        {"store": "s3://b", "endpoint": f"u:{PLANTED}@host"},
        {"store": "s3://b", "credentials": f"KEY:{PLANTED}"},
    ],
)
def test_a_secret_in_a_wrong_place_is_refused_and_not_repeated(options: dict[str, str]) -> None:
    spec = MountSpec("/a", **{"credentials": "anonymous", **options})  # type: ignore[arg-type] - options are all text here
    for attempt in (lambda: check_mount(spec), lambda: open_store(spec, environ={}, clock=SystemClock())):
        try:
            attempt()
        except SettingsError as error:
            assert PLANTED not in str(error)
            continue
        assert attempt is not None
    with pytest.raises(SettingsError):
        check_mount(spec)
        open_store(spec, environ={}, clock=SystemClock())


@pytest.mark.parametrize("region", ["evil.example/#", "a@b", "x\r\ny: z", "a/b", "a?b", "..", "a b", "é", "x" * 100])
def test_a_region_cannot_change_which_host_is_asked(region: str) -> None:
    with pytest.raises(SettingsError, match="region"):
        check_mount(MountSpec("/a", "s3://b", region=region))


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
TABLES = st.sampled_from(["server", "cache", "gateway", "key", "mount", "rule", "source", "path", "disk", "union", "id"])
DOCUMENTS = st.dictionaries(
    TABLES, st.one_of(JSONS, st.lists(st.dictionaries(TABLES, JSONS, max_size=3), max_size=2)), max_size=4
)


@settings(max_examples=200, deadline=None)
@given(raw=DOCUMENTS)
def test_any_document_is_settings_or_explained(raw: dict[str, Any]) -> None:
    try:
        found = parse_settings(raw, "headrace.toml")
    except SettingsError as error:
        assert str(error).startswith("headrace.toml: ")
        return
    assert isinstance(found, Settings)
    assert parse_settings(msgspec.to_builtins(found), "again") == found


@settings(max_examples=100, deadline=None)
@given(data=st.one_of(st.binary(max_size=80), st.text("[]=\"'\n\\.#ab1u{},", max_size=60).map(str.encode)))
def test_any_file_is_settings_or_explained(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "headrace.toml"
        path.write_bytes(data)
        try:
            assert isinstance(load_settings(str(path), {"HOME": folder}), Settings)
        except SettingsError as error:
            assert str(path) in str(error)


def test_a_file_nested_deeply_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text("a = " + "[" * 20_000)
    with pytest.raises(SettingsError, match="nested too deeply"):
        load_settings(str(path), {})


@settings(max_examples=300, deadline=None)
@given(text=OPTIONS)
def test_any_duration_or_size_is_a_finite_number_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            value = parse(text)
        except SettingsError:
            continue
        assert 0 <= value < float("inf")
