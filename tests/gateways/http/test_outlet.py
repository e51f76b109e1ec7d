"""What the kernel takes is bounded, more for clients that take all at once; slices go out in few calls, whole or not at all."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from headrace.gateways.http import outlet as module
from headrace.gateways.http.outlet import UNSENT_BYTES, Outlet, Outlets, bound_unsent, slices_ahead
from headrace.model.reading import FileSlice

KIB = 1024


class Loop:
    """A clock and one writer callback, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.writer: Callable[[], None] | None = None

    def time(self) -> float:
        return self.now_s

    def add_writer(self, _fd: int, callback: Callable[[], None]) -> None:
        self.writer = callback

    def remove_writer(self, _fd: int) -> None:
        self.writer = None


class Wire:
    """A TCP connection with an outlet at one end."""

    def __init__(self, shared: Outlets) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            bound_unsent(listener)
            self.client = socket.create_connection(listener.getsockname())
            self.server, _ = listener.accept()
        self.client.settimeout(10)
        self.loop = Loop()
        self.resumed = 0
        self.outlet = Outlet(self.server, cast("asyncio.AbstractEventLoop", self.loop), shared, self.resume)

    def resume(self) -> None:
        self.resumed += 1

    def taken(self, after_s: float) -> None:
        """The client takes bytes so long after the outlet began to wait for it."""
        self.outlet.watch()
        self.loop.now_s += after_s
        assert self.loop.writer is not None
        self.loop.writer()

    def bound(self) -> int:
        return self.server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)

    def close(self) -> None:
        self.outlet.close()
        self.client.close()
        self.server.close()


@pytest.fixture
def shared() -> Outlets:
    return Outlets()


@pytest.fixture
def wire(shared: Outlets) -> Iterator[Wire]:
    wire = Wire(shared)
    yield wire
    wire.close()


def test_a_client_that_takes_all_at_once_is_offered_more_until_it_is_slow(wire: Wire, shared: Outlets) -> None:
    assert wire.bound() == UNSENT_BYTES
    wire.taken(after_s=1.0)
    assert (wire.bound(), shared.wide) == (UNSENT_BYTES, 0)
    wire.taken(after_s=0.001)
    assert (wire.bound(), shared.wide) == (4 * UNSENT_BYTES, 1)
    wire.taken(after_s=0.5)
    assert (wire.bound(), shared.wide) == (UNSENT_BYTES, 0)
    assert wire.resumed == 3


def test_only_so_many_clients_are_offered_more_and_who_leaves_makes_room(
    wire: Wire, shared: Outlets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WIDE_MAX", 1)
    other = Wire(shared)
    other.taken(after_s=0.0)
    wire.taken(after_s=0.0)
    assert (other.bound(), wire.bound(), shared.wide) == (4 * UNSENT_BYTES, UNSENT_BYTES, 1)
    other.close()
    wire.taken(after_s=0.0)
    assert (wire.bound(), shared.wide) == (4 * UNSENT_BYTES, 1)


def received(wire: Wire, length: int) -> bytes:
    got = b""
    while len(got) < length:
        got += wire.client.recv(length - len(got))
    return got


def test_short_slices_in_a_row_go_out_by_one_call(wire: Wire, tmp_path: Path) -> None:
    data = bytes(range(256)) * 512
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        edges = (7, 3_000, 70_000, 70_001, 100_000)
        slices = tuple(FileSlice(file.fileno(), low, high - low, file) for low, high in itertools.pairwise(edges))
        assert wire.outlet.send_slices(slices, 10, 1 << 20) == (100_000 - 17, True)
        assert received(wire, 100_000 - 17) == data[17:100_000]
        assert wire.outlet.send_slices(slices, 0, 5_000) == (5_000, True)
        assert received(wire, 5_000) == data[7:5_007]


def test_a_short_slice_of_a_file_that_was_cut_is_not_passed_over(wire: Wire, tmp_path: Path) -> None:
    for name, size in (("whole", 1_000), ("cut", 999), ("next", 1_000)):
        (tmp_path / name).write_bytes(name[:1].encode() * size)
    with (tmp_path / "whole").open("rb") as whole, (tmp_path / "cut").open("rb") as cut, (tmp_path / "next").open("rb") as rest:
        slices = [FileSlice(file.fileno(), 0, 1_000, file) for file in (whole, cut, rest)]
        assert wire.outlet.send_slices(slices, 0, 1 << 20) == (1_999, True)
        with pytest.raises(OSError, match="cut"):
            wire.outlet.send_slices(slices[1:], 999, 1 << 20)
        assert received(wire, 1_999) == b"w" * 1_000 + b"c" * 999


def test_a_mapped_slice_whose_file_was_cut_is_an_error(wire: Wire, tmp_path: Path) -> None:
    size = 512 * KIB
    (tmp_path / "file").write_bytes(b"x" * size)
    with (tmp_path / "file").open("r+b") as file:
        for _ in range(2):  # the second one is sent from a mapping
            assert wire.outlet.send_slices((FileSlice(file.fileno(), 0, size, file),), 0, 64 * KIB)[0] == 64 * KIB
            assert received(wire, 64 * KIB) == b"x" * (64 * KIB)
        file.truncate(10 * KIB + 1)  # what follows in that page of memory reads as zeros
        with pytest.raises(OSError):
            wire.outlet.send_slices((FileSlice(file.fileno(), 0, size, file),), 8 * KIB, 3 * KIB)


def test_slices_ahead_end_at_the_first_piece_that_is_none() -> None:
    first, second, third = (FileSlice(0, 0, 1, None) for _ in range(3))
    assert slices_ahead((first, second, b"bytes", third)) == (first, second)
    assert slices_ahead((b"bytes", first)) == ()
