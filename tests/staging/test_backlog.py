"""What readers see of staged writes, and the order in which the store gets them, against a list of all that happened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.staging.backlog import Backlog
from headrace.staging.records import UNKNOWN, Delete, Done, Entry, Put, Record

KEYS = ["a", "a/", "a/b", "b", "é"]


def record(entry: Entry, offset: int) -> Record:
    return Record(entry, offset, offset + 8, offset, 0, 0)


def put(key: str, size: int = 1, replaces: str = UNKNOWN) -> Put:
    return Put(key, size, f"etag-{size}", float(size), replaces=replaces)


def test_the_last_write_is_seen_and_the_first_goes_to_the_store() -> None:
    backlog = Backlog()
    for offset, entry in enumerate((put("k", 1), put("k", 2), put("x", 3))):
        backlog.add(1, record(entry, offset))
    seen = backlog.visible("k")
    assert seen is not None
    assert seen.entry == put("k", 2)
    assert [staged.entry for staged in backlog.heads()] == [put("k", 1), put("x", 3)]
    assert (len(backlog), backlog.bytes, backlog.oldest_s()) == (3, 6, 1.0)


def test_what_a_write_left_is_what_the_next_one_of_its_key_replaces() -> None:
    backlog = Backlog()
    backlog.add(1, record(put("k", 1, "before"), 0))
    backlog.add(1, record(put("k", 2), 8))
    (first,) = backlog.heads()
    assert backlog.replaces(first) == "before"
    backlog.add(1, record(Done(1, 0, "k", "left"), 16))
    (second,) = backlog.heads()
    assert second.entry == put("k", 2)
    assert backlog.replaces(second) == "left"
    backlog.add(1, record(Done(1, 8, "k", "left again"), 24))
    backlog.add(1, record(put("k", 3, "seen"), 32))
    (third,) = backlog.heads()
    assert backlog.replaces(third) == "seen"


def test_what_a_write_left_is_known_when_its_own_record_is_gone() -> None:
    backlog = Backlog()
    backlog.add(5, record(put("k", 2), 0))
    backlog.add(6, record(Done(1, 0, "k", "left"), 0))
    (only,) = backlog.heads()
    assert backlog.replaces(only) == "left"


def test_writes_of_logs_that_are_gone_had_reached_the_store() -> None:
    backlog = Backlog()
    for log in (1, 2, 3):
        backlog.add(log, record(put("k", log), 0))
    backlog.forget_before(3)
    assert [staged.place for staged in backlog.heads()] == [(3, 0)]
    assert backlog.oldest_log() == 3


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(["put", "delete", "done"])), max_size=40), st.booleans())
def test_a_backlog_is_the_list_of_what_is_not_done(steps: list[tuple[str, str]], fed_twice: bool) -> None:
    backlog = Backlog()
    waiting: list[tuple[tuple[int, int], Put | Delete]] = []
    for number, (key, what) in enumerate(steps):
        offset = number * 8
        if what == "done":
            mine = [place for place, entry in waiting if entry.key == key]
            if not mine:
                continue
            entry: Entry = Done(mine[0][0], mine[0][1], key, "left")
            waiting = [item for item in waiting if item[0] != mine[0]]
        else:
            entry = put(key, number + 1) if what == "put" else Delete(key, float(number + 1))
            waiting.append(((1, offset), entry))
        for _ in range(1 + (fed_twice and what != "done")):
            backlog.add(1, record(entry, offset))
    assert len(backlog) == len(waiting)
    assert backlog.bytes == sum(entry.size for _, entry in waiting if isinstance(entry, Put))
    assert backlog.oldest_s() == (waiting[0][1].staged_s if waiting else None)
    assert backlog.oldest_log() == (1 if waiting else None)
    keys = sorted({entry.key for _, entry in waiting}, key=str.encode)
    assert list(backlog.keys("", "")) == keys
    assert list(backlog.keys("a", "a")) == [key for key in keys if key.startswith("a") and key != "a"]
    firsts = {key: next(place for place, entry in waiting if entry.key == key) for key in keys}
    assert [staged.place for staged in backlog.heads()] == sorted(firsts.values())
    for key in KEYS:
        mine = [place for place, entry in waiting if entry.key == key]
        seen = backlog.visible(key)
        assert (None if seen is None else seen.place) == (mine[-1] if mine else None)
        assert (key in backlog) is bool(mine)
