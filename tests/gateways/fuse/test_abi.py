"""The kernel's structures: sizes as the header of Linux has them, and answers that can be read back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateways.fuse import abi

WORDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("structure", "size"),
    [
        (abi.IN_HEADER, 40),
        (abi.OUT_HEADER, 16),
        (abi.ATTR, 88),
        (abi.ENTRY, 40),
        (abi.ATTR_OUT, 16),
        (abi.INIT_OUT, 64),
        (abi.SETATTR_IN, 88),
        (abi.READ_IN, 40),
        (abi.WRITE_IN, 40),
        (abi.OPEN_OUT, 16),
        (abi.STATFS_OUT, 80),
        (abi.DIRENT, 24),
        (abi.RELEASE_IN, 24),
        (abi.FALLOCATE_IN, 32),
    ],
)
def test_structures_are_as_long_as_the_kernel_s(structure: struct.Struct, size: int) -> None:
    assert structure.size == size


@given(
    op=WORDS, unique=st.integers(0, 2**64 - 1), node=st.integers(0, 2**64 - 1), uid=WORDS, gid=WORDS, body=st.binary(max_size=200)
)
def test_a_request_is_read_up_to_its_own_length(op: int, unique: int, node: int, uid: int, gid: int, body: bytes) -> None:
    raw = abi.IN_HEADER.pack(abi.IN_HEADER.size + len(body), op, unique, node, uid, gid, 1, 0, 0) + body
    request = abi.parse(memoryview(raw + b"rest of the buffer"))
    assert (request.op, request.unique, request.node, request.uid, request.gid) == (op, unique, node, uid, gid)
    assert bytes(request.body) == body


def test_a_request_that_is_too_short_is_refused() -> None:
    with pytest.raises(struct.error):
        abi.parse(memoryview(b"short"))


@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name), min_size=1, max_size=3))
def test_names_end_with_a_zero_byte(names: list[bytes]) -> None:
    body = memoryview(b"HEAD" + b"".join(name + b"\0" for name in names))
    assert abi.names(body, 4, len(names)) == names


@given(st.binary(min_size=1, max_size=255), st.integers(1, 2**63))
def test_directory_entries_are_padded_to_eight_bytes(name: bytes, ino: int) -> None:
    line = abi.dirent(ino, 7, name, 0o100000)
    assert len(line) % 8 == 0
    assert abi.DIRENT.unpack_from(line) == (ino, 7, len(name), 8)
    assert line[abi.DIRENT.size :][: len(name)] == name


@given(st.integers(0, 2**62), st.floats(0, 1e6))
def test_times_are_told_in_seconds_and_nanoseconds(mtime_ns: int, valid_s: float) -> None:
    attr = abi.Attr(5, 1000, 0o100644, 1, 2, mtime_ns)
    answer = abi.entry(9, attr, valid_s)
    node, _, seconds, _, nanos, _ = abi.ENTRY.unpack_from(answer)
    assert node == 9
    assert abs(seconds + nanos / 1e9 - valid_s) < 1e-6
    fields = abi.ATTR.unpack_from(answer, abi.ENTRY.size)
    assert fields[5] * 10**9 + fields[8] == mtime_ns
    assert fields[:3] == (5, 1000, 2)
