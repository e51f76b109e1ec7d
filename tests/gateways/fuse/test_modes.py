"""Modes in metadata: what is written is read back, and what others wrote is understood."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateways.fuse.modes import Defaults, Modes, metadata_with, modes_of
from headrace.model.objects import ObjectInfo, Version

DEFAULTS = Defaults(uid=7, gid=8, file_mode=0o640, dir_mode=0o750)


def info_with(size: int = 1, **metadata: str) -> ObjectInfo:
    return ObjectInfo("k", size, Version("etag:x"), modified_s=1_700_000_000.5, metadata=tuple(sorted(metadata.items())))


@given(
    permissions=st.integers(0, 0o7777),
    kind=st.sampled_from([stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK]),
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    mtime_ns=st.integers(1, 2**61),
    atime_ns=st.integers(0, 2**61),
    rdev=st.integers(0, 2**32 - 1),
)
def test_what_is_kept_is_read_back(
    permissions: int, kind: int, uid: int, gid: int, mtime_ns: int, atime_ns: int, rdev: int
) -> None:
    modes = Modes(kind | permissions, uid, gid, mtime_ns, rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0, atime_ns)
    kept = metadata_with((("mine", "stays"), ("mode", "old")), modes)
    assert dict(kept)["mine"] == "stays"
    assert modes_of(info_with(0, **dict(kept)), DEFAULTS) == modes


def test_an_object_that_says_nothing_shows_the_defaults_and_the_store_s_time() -> None:
    assert modes_of(info_with(), DEFAULTS) == Modes(stat.S_IFREG | 0o640, 7, 8, 1_700_000_000_500_000_000)
    assert modes_of(info_with(), DEFAULTS, kind=stat.S_IFDIR).mode == stat.S_IFDIR | 0o750


@pytest.mark.parametrize("text", ["33188", "100644", "0100644"])
def test_decimal_and_octal_modes_are_told_apart(text: str) -> None:
    assert modes_of(info_with(mode=text), DEFAULTS).mode == 0o100644


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_nonsense_in_metadata_is_no_error(mode: str, uid: str, mtime: str) -> None:
    modes = modes_of(info_with(mode=mode, uid=uid, mtime=mtime), DEFAULTS)
    assert stat.S_IFMT(modes.mode) in (stat.S_IFREG, stat.S_IFLNK)
    assert modes.mtime_ns > 0


def test_an_object_with_bytes_is_no_pipe_and_no_device() -> None:
    for kind in (stat.S_IFIFO, stat.S_IFBLK):
        assert stat.S_ISREG(modes_of(info_with(1, mode=str(kind | 0o644)), DEFAULTS).mode)


def test_a_file_never_shows_as_a_directory() -> None:
    assert stat.S_ISREG(modes_of(info_with(mode=str(stat.S_IFDIR | 0o755)), DEFAULTS).mode)
