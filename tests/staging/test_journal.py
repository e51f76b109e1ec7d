"""The journal keeps what it acknowledged: over restarts, among processes, and in every state that a power cut can leave."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.model.disk import SystemDisk
from headrace.staging import damaged
from headrace.staging.backlog import Staged
from headrace.staging.journal import Journal, JournalFailed
from headrace.staging.records import Delete, Done, Put, encode
from headrace.testing.disk import FaultyDisk
from headrace.testing.power import Kept, RecordingDisk, after_power_cut


def put(key: str, body: bytes) -> bytes:
    return encode(Put(key, len(body), f"etag of {body[:8]!r}", 1.0), body)


def open_journal(root: Path, *, log_bytes: int = 1 << 20) -> Journal:
    return Journal(str(root), SystemDisk(), log_bytes=log_bytes)


def body_of(journal: Journal, staged: Staged) -> bytes:
    assert isinstance(staged.entry, Put)
    descriptor, offset = journal.open_body(staged)
    try:
        return os.pread(descriptor, staged.entry.size, offset)
    finally:
        journal.disk.close(descriptor)


def seen(journal: Journal) -> dict[str, bytes | None]:
    """What readers see of each key with staged writes."""
    journal.sync()
    found: dict[str, bytes | None] = {}
    for key in journal.backlog.keys("", ""):
        staged = journal.backlog.visible(key)
        assert staged is not None
        found[key] = body_of(journal, staged) if isinstance(staged.entry, Put) else None
    return found


def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append([put("a", b"one"), put("b", b"two")])
    journal.append([put("a", b"three"), encode(Delete("b", 2.0))])
    assert seen(journal) == {"a": b"three", "b": None}
    journal.close()
    again = open_journal(tmp_path)
    assert seen(again) == {"a": b"three", "b": None}
    assert [staged.record.offset for staged in again.backlog.heads()] == sorted(s.record.offset for s in again.backlog.heads())
    assert again.found == []
    again.close()


def test_two_processes_see_each_others_writes_at_once(tmp_path: Path) -> None:
    one, two = open_journal(tmp_path), open_journal(tmp_path)
    one.append([put("a", b"by one")])
    assert seen(two) == {"a": b"by one"}
    two.append([put("a", b"by two")])
    ((log, offset),) = one.append([put("b", b"more")])
    assert seen(one) == seen(two) == {"a": b"by two", "b": b"more"}
    two.append([encode(Done(log, offset, "b"))])
    assert seen(one) == {"a": b"by two"}
    one.close()
    two.close()


def test_settled_logs_are_removed_and_others_processes_follow(tmp_path: Path) -> None:
    one, two = open_journal(tmp_path, log_bytes=200), open_journal(tmp_path, log_bytes=200)
    places = [one.append([put(f"k{number}", b"x" * 50)])[0] for number in range(8)]
    assert len(set(seen(two))) == 8
    for number, (log, offset) in enumerate(places[:-1]):
        one.append([encode(Done(log, offset, f"k{number}"))])
    one.sync()
    one.remove_before(one.needed_from())
    assert min(int(path.stem) for path in tmp_path.glob("*.log")) == places[-1][0]
    assert seen(one) == seen(two) == {"k7": b"x" * 50}
    late = open_journal(tmp_path)
    assert seen(late) == {"k7": b"x" * 50}
    for journal in (one, two, late):
        journal.close()


def test_a_log_that_another_process_removed_before_it_was_read_held_nothing_staged(tmp_path: Path) -> None:
    one, slow = open_journal(tmp_path, log_bytes=200), open_journal(tmp_path, log_bytes=200)
    ((log, offset),) = one.append([put("early", b"x" * 150)])
    assert seen(slow) == {"early": b"x" * 150}
    one.append([encode(Done(log, offset, "early"))])
    for number in range(4):
        ((log, offset),) = one.append([put(f"k{number}", b"y" * 150)])
        one.append([encode(Done(log, offset, f"k{number}"))])
    one.append([put("last", b"z")])
    one.sync()
    one.remove_before(one.needed_from())
    assert seen(slow) == {"last": b"z"}
    one.close()
    slow.close()


def test_what_a_killed_process_left_half_written_is_cut_by_the_next(tmp_path: Path) -> None:
    one, two = open_journal(tmp_path), open_journal(tmp_path)
    one.append([put("a", b"whole")])
    log = next(tmp_path.glob("*.log"))
    with log.open("ab") as file:
        file.write(put("b", b"never acknowledged")[:-9])
    two.append([put("c", b"next")])
    assert seen(one) == seen(two) == {"a": b"whole", "c": b"next"}
    one.close()
    two.close()
    again = open_journal(tmp_path)
    assert seen(again) == {"a": b"whole", "c": b"next"}
    assert again.found == []
    again.close()


@pytest.mark.parametrize(("at", "is_tail", "left"), [(0, False, {"b", "c"}), (1, False, {"a", "c"}), (2, True, {"a", "b"})])
def test_a_damaged_record_is_told_and_set_aside_and_the_others_live(
    tmp_path: Path, at: int, is_tail: bool, left: set[str]
) -> None:
    journal = open_journal(tmp_path)
    journal.append([put(key, key.encode() * 100) for key in "abc"])
    journal.close()
    record = put("a", b"a" * 100)
    path = next(tmp_path.glob("*.log"))
    data = bytearray(path.read_bytes())
    data[at * len(record) + len(record) - 50] ^= 1
    path.write_bytes(data)
    again = open_journal(tmp_path)
    assert set(seen(again)) == left
    (told,) = again.found
    assert (told.damage.key, told.is_tail) == ("abc"[at], is_tail)
    (aside,) = tmp_path.glob("damaged-*")
    assert aside.read_bytes() == data[at * len(record) : (at + 1) * len(record)]
    again.append([put("d", b"goes on")])
    assert set(seen(again)) == left | {"d"}
    again.close()


def test_long_bodies_that_no_record_names_are_removed_when_they_are_old(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for name in ("named", "stray", "arriving"):
        Path(journal.bodies.path(name)).write_bytes(b"x")
    journal.append([encode(Put("k", 1, "e", 1.0, body_file="named"))])
    journal.sync()
    for name in ("named", "stray"):
        os.utime(journal.bodies.path(name), (1000, 1000))
    assert journal.remove_strays(2000.0) == 1
    assert sorted(path.name for path in (tmp_path / "bodies").iterdir()) == ["arriving", "named"]
    journal.close()


@pytest.mark.parametrize(("call", "code"), [("pwrite", errno.ENOSPC), ("pwrite", errno.EIO), ("fsync", errno.EIO)])
def test_a_failing_disk_fails_the_write_and_nothing_else(tmp_path: Path, call: str, code: int) -> None:
    disk = FaultyDisk()
    journal = Journal(str(tmp_path), disk)
    journal.append([put("a", b"before")])
    disk.fail[call] = code
    with pytest.raises(JournalFailed):
        journal.append([put("b", b"lost")])
    assert disk.injected[call] == 1
    disk.heal()
    assert seen(journal) == {"a": b"before"}
    journal.append([put("c", b"after")])
    assert seen(journal)["c"] == b"after"
    journal.close()
    assert disk.open_fds == 0


_KILLED = """
import sys
from headrace.model.disk import SystemDisk
from headrace.staging.journal import Journal
from headrace.staging.records import Put, encode
journal = Journal(sys.argv[1], SystemDisk(), log_bytes=20_000)
for number in range(100_000):
    body = bytes([number % 251]) * (number % 700)
    journal.append([encode(Put(f"{sys.argv[2]}{number}", len(body), "e", 1.0), body)])
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 17, 60])
def test_processes_killed_while_they_append_lose_nothing_they_acknowledged(tmp_path: Path, after: int) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path), name], stdout=subprocess.PIPE, text=True) for name in "xy"
    ]
    acknowledged: dict[str, int] = {}
    for name, child in zip("xy", children, strict=True):
        assert child.stdout is not None
        for _ in range(after):
            acknowledged[name] = int(child.stdout.readline())
    for name, child in zip("xy", children, strict=True):
        child.kill()
        rest, _ = child.communicate()
        acknowledged[name] = max([acknowledged[name], *(int(line) for line in rest.split("\n")[:-1])])
    journal = open_journal(tmp_path)
    found = seen(journal)
    for name, last in acknowledged.items():
        mine = {key: body for key, body in found.items() if key[0] == name}
        assert len(mine) in (last + 1, last + 2)
        for key, body in mine.items():
            number = int(key[1:])
            assert body == bytes([number % 251]) * (number % 700)
    journal.close()


# Every sequence of at most three of these, cut at every step, in every way.
ACTIONS = ("small", "large", "other", "delete", "done", "tidy")


def perform(journal: Journal, action: str, number: int) -> None:
    if action == "large":
        body = bytes([number]) * 900
        name = f"body{number}"
        descriptor = journal.disk.open(journal.bodies.path(name), os.O_RDWR | os.O_CREAT)
        journal.disk.pwrite(descriptor, body, 0)
        journal.disk.fsync(descriptor)
        journal.disk.close(descriptor)
        journal.bodies.sync()
        journal.append([encode(Put("k", len(body), "e", 1.0, body_file=name))])
    elif action in ("small", "other"):
        journal.append([put("k" if action == "small" else "o", bytes([number]) * 60)])
    elif action == "delete":
        journal.append([encode(Delete("k", 1.0))])
    else:
        journal.sync()
        if action == "done":
            for staged in list(journal.backlog.heads())[:1]:
                journal.append([encode(Done(*staged.place, staged.entry.key))])
                if isinstance(staged.entry, Put) and staged.entry.body_file:
                    journal.bodies.remove(staged.entry.body_file)
        else:
            journal.remove_before(journal.needed_from())
    journal.sync()


@pytest.mark.parametrize("length", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_every_power_cut_leaves_all_that_was_acknowledged(tmp_path: Path, length: int) -> None:
    checked = 0
    for case, actions in enumerate(itertools.product(ACTIONS, repeat=length)):
        root = tmp_path / f"{case}"
        root.mkdir()
        disk = RecordingDisk(str(root))
        journal = Journal(str(root), disk, log_bytes=150)
        marks = [(len(disk.steps), seen(journal))]
        for number, action in enumerate(actions):
            perform(journal, action, number + 1)
            marks.append((len(disk.steps), seen(journal)))
        journal.close()
        for cut in range(marks[0][0], len(disk.steps) + 1):
            # What was acknowledged by then, and what was being done.
            before = max(number for number, (steps, _) in enumerate(marks) if steps <= cut)
            allowed = [state for _, state in marks[before : before + 2]]
            for kept in Kept:
                image = tmp_path / f"{case}-{cut}-{kept}"
                image.mkdir()
                after_power_cut(disk.steps[:cut], image, kept)
                found = seen(opened := open_journal(image))
                opened.close()
                assert found in allowed, (actions, cut, kept)
                checked += 1
    assert checked > 6**length


def test_copies_of_damage_are_bounded_and_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damaged, "MAX_FILES", 3)
    journal = open_journal(tmp_path)
    places = journal.append([put(f"k{number}", b"x" * 50) for number in range(12)])
    journal.close()
    with open(tmp_path / "000001.log", "r+b") as log:
        for _, offset in places[:-1:2]:
            log.seek(offset + 60)
            log.write(b"\xff\xff")
    again = open_journal(tmp_path)
    assert len(again.found) == 6
    assert {path.name for path in tmp_path.glob("damaged-*")} == {f"damaged-000001-{offset}" for _, offset in places[6:-1:2]}
    monkeypatch.setattr(damaged, "MAX_BYTES", 1)
    again.close()
    open_journal(tmp_path).close()
    assert len(list(tmp_path.glob("damaged-*"))) == 1
