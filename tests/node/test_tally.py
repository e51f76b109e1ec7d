"""What one worker counts, and what it tells people."""

from __future__ import annotations

import pytest

from headrace.model.events import (
    AccessRefused,
    BackgroundError,
    FillEnded,
    PagesDropped,
    ReadServed,
    ReadsServed,
    StoreCall,
    TierFault,
)
from headrace.node.messages import Audit, Event, Notice
from headrace.node.tally import Tally


def tally_of(*events: object) -> tuple[Tally, list[Event]]:
    told: list[Event] = []
    tally = Tally(told.append)
    for event in events:
        tally.emit(event)
    return tally, told


@pytest.mark.parametrize("error", ["NotFound", "InvalidRange", "VersionChanged", "InvalidKey", "Unsupported"])
def test_an_answer_that_the_caller_does_not_like_is_no_fault_of_the_store(error: str) -> None:
    (row,) = tally_of(StoreCall("/a", "info", 0.1, 0, error))[0].mounts()
    assert row.healthy
    assert (row.store_requests, row.store_errors) == (1, 0)
    assert row.checked_s > 0


def test_a_failure_is_shown_until_the_store_answers_again() -> None:
    tally, _ = tally_of(StoreCall("/a", "info", 0.1, 0, "Unavailable"))
    (row,) = tally.mounts()
    assert (row.healthy, row.error, row.store_errors) == (False, "info: Unavailable", 1)
    tally.emit(StoreCall("/a", "read", 0.1, 10))
    (row,) = tally.mounts()
    assert (row.healthy, row.error, row.store_errors) == (True, "", 1)


def test_the_words_of_a_failure_are_kept() -> None:
    (row,) = tally_of(StoreCall("/a", "info", 0.1, 0, "Unavailable", "http://h:1: connection refused"))[0].mounts()
    assert row.error == "http://h:1: connection refused"


def test_a_store_that_goes_and_comes_back_is_told_once_each() -> None:
    away, there = StoreCall("/a", "info", 0.1, 0, "Unavailable", "connection refused"), StoreCall("/a", "read", 0.1, 10)
    told = tally_of(there, away, away, there, there, away, there)[1]
    assert told == [
        Notice("mount /a", "its store cannot be reached: connection refused", "see `headrace status`"),
        Notice("mount /a", "its store answers again"),
    ]


def test_a_store_that_refuses_is_not_told_as_away() -> None:
    tally, told = tally_of(StoreCall("/a", "info", 0.1, 0, "AccessDenied", "not with this key"))
    assert not told
    assert not tally.mounts()[0].healthy


def test_a_caller_who_leaves_says_nothing_of_the_store() -> None:
    tally, _ = tally_of(StoreCall("/a", "read", 0.2, 0, "CancelledError"))
    (row,) = tally.mounts()
    assert (row.healthy, row.store_errors, row.checked_s) == (True, 0, 0.0)
    tally.emit(StoreCall("/a", "info", 0.1, 0, "Unavailable"))
    tally.emit(StoreCall("/a", "read", 0.2, 0, "CancelledError"))
    assert not tally.mounts()[0].healthy


def test_a_store_that_hangs_until_it_is_given_up_is_not_healthy() -> None:
    (row,) = tally_of(StoreCall("/a", "info", 30.0, 0, "CancelledError"))[0].mounts()
    assert (row.healthy, row.error, row.store_errors) == (False, "info: no answer within 30 s", 1)


def test_sums_stay_when_a_mount_goes() -> None:
    tally, _ = tally_of(StoreCall("/a", "read", 1.0, 100), StoreCall("/b", "read", 1.0, 10, "Unavailable"))
    tally.forget(frozenset({"/b"}))
    assert [row.path for row in tally.mounts()] == ["/b"]
    counters = tally.counters()
    assert (counters.store_requests, counters.store_bytes, counters.store_errors) == (2, 110, 1)


def test_reads_count_as_saved_only_when_no_store_was_asked() -> None:
    tally, _ = tally_of(
        ReadServed(mount="/a", path="/a/x", bytes=10, served="hit", seconds=0.1, status=200),
        ReadServed(mount="/a", path="/a/x", bytes=20, served="miss", seconds=0.1, status=200),
        ReadServed(mount="/a", path="/a/x", bytes=40, served="stale", seconds=0.1, status=200),
        ReadsServed("/a", 3, 100, "hit"),
    )
    (row,) = tally.mounts()
    assert (row.requests, row.bytes_served) == (6, 170)
    assert tally.bytes_from_cache == 150
    assert tally.served == {"hit": 4, "miss": 1, "stale": 1}


def test_what_people_must_see_is_told_and_cut_to_length() -> None:
    tally, told = tally_of(
        AccessRefused("bad signature", "anna", "GET", "/a/" + "x" * 5000, "127.0.0.1"),
        TierFault("disk", "write", "no space", "free some"),
        BackgroundError("keeper", "ValueError"),
        PagesDropped("disk", "corrupt", 3, 10),
        object(),
    )
    audit, tier, loop = told
    assert isinstance(audit, Audit)
    assert len(audit.path) == 513
    assert tier == Notice("tier disk, write", "no space", "free some")
    assert loop == Notice("background loop keeper", "ValueError")
    counters = tally.counters()
    assert (counters.refused, counters.tier_faults, counters.background_errors, counters.corrupt_pages) == (1, 1, 1, 3)


def test_fills_and_their_errors_are_counted() -> None:
    ended, failed = FillEnded("/a", 10, 0.1), FillEnded("/a", 0, 0.1, "Unavailable")
    counters = tally_of(ended, ended, failed)[0].counters()
    assert (counters.fills, counters.fill_errors) == (3, 1)
