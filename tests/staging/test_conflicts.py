from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from headrace.model.disk import SystemDisk
from headrace.staging import conflicts as module
from headrace.staging.conflicts import Conflict, Conflicts


def opened(root: Path) -> Conflicts:
    return Conflicts(str(root), SystemDisk())


def conflict(number: int, *, settled: bool = False) -> Conflict:
    return Conflict(f"key {number}", f"key {number}.conflict", float(number), "etag", settled)


def test_what_one_process_notes_another_sees_and_settles(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.add(conflict(1))
    one.add(conflict(2))
    assert other.open() == [conflict(1), conflict(2)]
    other.add(conflict(1, settled=True))
    assert one.open() == [conflict(2)]


def test_settled_conflicts_leave_a_file_that_has_grown_long(tmp_path: Path) -> None:
    conflicts = opened(tmp_path)
    file = tmp_path / "conflicts"
    longest = 0
    for number in range(3000):
        conflicts.add(conflict(number))
        conflicts.add(conflict(number, settled=number != 7))
        longest = max(longest, file.stat().st_size)
    assert longest < module.COMPACT_BYTES + 1000
    assert conflicts.open() == opened(tmp_path).open() == [conflict(7)]


def test_conflicts_beyond_what_is_read_at_once_are_all_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_READ_BYTES", 100)
    conflicts = opened(tmp_path)
    for number in range(200):
        conflicts.add(conflict(number))
    assert opened(tmp_path).open() == [conflict(number) for number in range(200)]


def test_processes_that_add_at_once_lose_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_BYTES", 2000)

    def add(first: int) -> None:
        mine = opened(tmp_path)
        for number in range(first, first + 50):
            mine.add(conflict(number))
            mine.add(conflict(number, settled=number % 2 == 0))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, (0, 50, 100, 150)))
    assert sorted(opened(tmp_path).open(), key=lambda one: one.noticed_s) == [conflict(n) for n in range(200) if n % 2]


def test_a_line_that_a_crash_cut_hides_no_other(tmp_path: Path) -> None:
    conflicts = opened(tmp_path)
    conflicts.add(conflict(1))
    with open(tmp_path / "conflicts", "ab") as file:
        file.write(msgspec.json.encode(conflict(2))[:20])
    conflicts.add(conflict(3))
    assert opened(tmp_path).open() == [conflict(1), conflict(3)]
