from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.control.mount_rules import check_mount, check_path
from headrace.model.errors import SettingsError
from headrace.model.mounts import MountSpec, Residency, WriteMode


@pytest.mark.parametrize("path", ["/", "/sales", "/sales/2026", "/a b", "/größe", "/a.b", "/...", "/a%2Fb"])
def test_plain_paths_are_taken(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    "path", ["", "sales", "/sales/", "//", "/a//b", "/.", "/a/../b", "/a\x1b[31m", "/a\\b", "/a\nb", "/" + "x" * 1024]
)
def test_other_paths_are_refused_with_a_remedy(path: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_path(path)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_whatever_path_is_taken_is_plain(path: str) -> None:
    try:
        check_path(path)
    except SettingsError:
        return
    assert path == "/" or (path.startswith("/") and all(part not in ("", ".", "..") for part in path[1:].split("/")))
    assert path.isprintable()


def test_scratch_is_taken_where_a_disk_may_hold_it_and_no_bucket_is_to_be_made() -> None:
    scratch = MountSpec("/a", "s3://bucket", write=WriteMode.SCRATCH)
    check_mount(scratch)
    for residency in (Residency.MEMORY, Residency.NONE):
        with pytest.raises(SettingsError, match=f'residency = "{residency}" forbids'):
            check_mount(msgspec.structs.replace(scratch, residency=residency))
    with pytest.raises(SettingsError, match="create_buckets"):
        check_mount(msgspec.structs.replace(scratch, create_buckets=True))


def test_lists_are_kept_where_a_directory_can_keep_them_and_nothing_speaks_against_them() -> None:
    kept = MountSpec("/", "file:///srv", write=WriteMode.THROUGH, create_buckets=True, acls=True)
    check_mount(kept)
    for wrong in ({"path": "/a"}, {"store": "s3://"}, {"create_buckets": False}, {"write": WriteMode.BACK}, {"anonymous": True}):
        with pytest.raises(SettingsError, match="acls"):
            check_mount(msgspec.structs.replace(kept, **wrong))


@pytest.mark.parametrize(
    "spec",
    [
        MountSpec("/a", "s3://bucket/deep/prefix", endpoint="http://127.0.0.1:8333", credentials="env:CORP"),
        MountSpec("/", "s3://"),
        MountSpec("/a", "gs://bucket"),
        MountSpec("/a", "az://container/x"),
        MountSpec("/a", "file:///srv/data", freshness="verify"),
        MountSpec("/a", "s3://b", quota="5GiB", ttl="7d", bandwidth="100MB", freshness="immutable", credentials="profile:x"),
        MountSpec("/a", union=(MountSpec("/a", "s3://b"), MountSpec("/a", "file:///c"))),
    ],
)
def test_sound_mounts_are_taken(spec: MountSpec) -> None:
    check_mount(spec, ["/other", "/b/a"])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (MountSpec("/a"), "no store"),
        (MountSpec("/a", "ftp://x"), "no store this release knows"),
        (MountSpec("/a", "bucket"), "no store this release knows"),
        (MountSpec("/a", "sftp:cat /etc/passwd|"), "no store this release knows"),
        (MountSpec("/a", "gs://"), "names no bucket"),
        (MountSpec("/a", "s3:///key"), "names no bucket"),
        (MountSpec("/a", "file://relative"), "absolute path"),
        (MountSpec("/a", "s3://user:pw@bucket"), "credentials do not belong"),
        (MountSpec("/a", "s3://b", endpoint="http://user:pw@host"), "credentials do not belong"),
        (MountSpec("/a", "s3://b", endpoint="ftp://host"), "not a plain address"),
        (MountSpec("/a", "s3://b", endpoint="host:80"), "not a plain address"),
        (MountSpec("/a", "s3://b", endpoint="http://host?x=1"), "not a plain address"),
        (MountSpec("/a", "s3://b", endpoint="http://host:99999"), "endpoint"),
        (MountSpec("/a", "s3://b", credentials="AKIA:secret"), "by reference"),
        (MountSpec("/a", "s3://b", credentials="env:A B"), "by reference"),
        (MountSpec("/a", "s3://b", freshness="often"), "freshness"),
        (MountSpec("/a", "s3://b", quota="lots"), "quota"),
        (MountSpec("/a", "s3://b", ttl="x"), "ttl"),
        (MountSpec("/a", "s3://b", timeout=""), "timeout"),
        (MountSpec("/a", "s3://b", max_connections=0), "max_connections"),
        (MountSpec("/a", "s3://b", union=(MountSpec("/a", "s3://b"),)), "both"),
        (MountSpec("/a", union=(MountSpec("/a", "s3://b"),), write_target=1), "write_target"),
        (MountSpec("/a", union=(MountSpec("/a", union=(MountSpec("/a", "s3://b"),)),)), "itself a union"),
        (MountSpec("/a", union=(MountSpec("/a", "ftp://b"),)), "union member 0"),
        (MountSpec("/taken", "s3://b"), "is mounted already"),
    ],
)
def test_what_is_wrong_with_a_mount_is_named(spec: MountSpec, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        check_mount(spec, ["/taken"])
    assert "pw" not in str(caught.value)
    assert "secret" not in str(caught.value).replace("(two lines: access key id, its secret)", "")


def test_bandwidth_in_bits_is_answered_with_bytes() -> None:
    with pytest.raises(SettingsError, match=r"bytes per second, such as 12MB"):
        check_mount(MountSpec("/a", "s3://b", bandwidth="100Mbit"))
