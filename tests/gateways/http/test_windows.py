"""Mappings are made on the second use, stay bounded, go when idle, and a cut file fails the call, not the process."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from headrace.gateways.http import windows as module
from headrace.gateways.http.windows import WINDOW_BYTES, Windows
from headrace.model.reading import FileSlice

PAGE = 4096


class File:
    """An open file that slices are cut from."""

    def __init__(self, path: Path, size: int) -> None:
        path.write_bytes(bytes(number % 251 for number in range(PAGE)) * (size // PAGE))
        self.file: BinaryIO = path.open("r+b")
        self.size = size

    def slice(self) -> FileSlice:
        return FileSlice(self.file.fileno(), 0, self.size, self)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[File]]:
    opened = [File(tmp_path / str(number), 16 * PAGE) for number in range(3)]
    yield opened
    for one in opened:
        one.file.close()


def shown(windows: Windows, file: File, now_s: float = 0.0) -> memoryview | None:
    return windows.view(file.slice(), 0, file.size, now_s)


def twice(windows: Windows, file: File, now_s: float = 0.0) -> memoryview | None:
    shown(windows, file, now_s)
    return shown(windows, file, now_s)


def test_a_run_is_mapped_for_the_second_slice_that_needs_it(files: list[File]) -> None:
    windows = Windows()
    first = files[0].slice()
    assert windows.view(first, 0, PAGE, 0.0) is None
    assert windows.view(first, PAGE, PAGE, 0.0) is None, "the same slice, further on, is no second use"
    again = files[0].slice()
    assert windows.view(again, 0, PAGE, 0.0) is not None
    view = windows.view(again, PAGE + 5, 100, 0.0)
    assert view is not None
    assert view == bytes(number % 251 for number in range(PAGE))[5:105]


def test_a_view_ends_where_its_window_does(tmp_path: Path) -> None:
    file = File(tmp_path / "long", WINDOW_BYTES + PAGE)
    windows = Windows()
    with file.file:
        twice(windows, file)
        view = shown(windows, file)
        assert view is not None
        assert len(view) == WINDOW_BYTES
        for _ in range(2):
            view = windows.view(file.slice(), WINDOW_BYTES, WINDOW_BYTES, 0.0)
        assert view is not None
        assert len(view) == PAGE


def test_what_is_in_use_makes_no_room_and_what_is_idle_does(files: list[File]) -> None:
    windows = Windows(capacity=2 * 16 * PAGE)
    assert twice(windows, files[0]) is not None
    assert twice(windows, files[1]) is not None
    assert twice(windows, files[2]) is None
    assert len(windows) == 2
    shown(windows, files[1], now_s=10.0)
    assert any(shown(windows, files[2], now_s=10.0) is not None for _ in range(2)), "each try looks at one"
    assert len(windows) == 2
    assert shown(windows, files[1], now_s=10.0) is not None, "the one in use stayed"


def test_what_was_not_sent_lately_is_let_go(files: list[File]) -> None:
    windows = Windows()
    twice(windows, files[0])
    twice(windows, files[1], now_s=5.0)
    windows.sweep(5.0)
    assert len(windows) == 1
    windows.sweep(8.0)
    assert len(windows) == 0


def test_a_process_that_locks_its_memory_maps_nothing(files: list[File], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_locks_memory", lambda: True)
    windows = Windows()
    assert twice(windows, files[0]) is None
    assert len(windows) == 0


def test_sending_from_a_mapping_of_a_file_that_was_cut_fails_and_ends_nothing(files: list[File]) -> None:
    windows = Windows()
    view = twice(windows, files[0])
    assert view is not None
    files[0].file.truncate(0)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(OSError) as caught:
        ours.send(view)
    assert caught.value.errno == errno.EFAULT
