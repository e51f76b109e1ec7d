from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.control.sync.schedule import LIVE_EVERY_S, bytes_per_s, is_due, may_follow, parse_bandwidth, parse_schedule
from headrace.model.errors import SettingsError


def at(hour: int, minute: int = 0, day: int = 10) -> float:
    return time.mktime((2026, 3, day, hour, minute, 0, 0, 0, -1))


@pytest.mark.parametrize("text", ["x", "10", "0.5s", "25:00", "02:60", "2:00,", "daily", "-5m"])
def test_what_is_no_schedule_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SettingsError, match=r"10m|at least"):
        parse_schedule(text)


def test_an_interval_is_due_when_it_has_passed_since_the_last_beginning() -> None:
    every = parse_schedule("10m")
    assert not is_due(every, now_s=1599, started_s=1000, ended_s=1590)
    assert is_due(every, now_s=1600, started_s=1000, ended_s=1590)


def test_a_live_sync_rests_as_long_as_its_run_took() -> None:
    live = parse_schedule("live")
    assert not is_due(live, now_s=1019, started_s=1000, ended_s=1010)
    assert is_due(live, now_s=1020, started_s=1000, ended_s=1010)


def test_times_of_day_are_met_once_each() -> None:
    times = parse_schedule("14:30, 02:00")
    assert not is_due(times, now_s=at(14, 29), started_s=at(2, 0), ended_s=0)
    assert is_due(times, now_s=at(14, 30), started_s=at(2, 0), ended_s=0)
    assert not is_due(times, now_s=at(23), started_s=at(14, 30), ended_s=0)
    assert is_due(times, now_s=at(2, 0, day=11), started_s=at(14, 30), ended_s=0)


def test_a_time_that_was_missed_is_made_up_for() -> None:
    assert is_due(parse_schedule("02:00"), now_s=at(9), started_s=at(2, 0, day=9), ended_s=0)


def test_without_a_schedule_nothing_is_ever_due() -> None:
    assert not is_due(parse_schedule(""), now_s=1e10, started_s=0, ended_s=0)


def test_the_first_window_that_covers_the_minute_decides() -> None:
    windows = parse_bandwidth("09:00-18:00=50MiB/s, 22:00-06:00=200MiB/s")
    assert bytes_per_s(windows, 9 * 60) == 50 << 20
    assert bytes_per_s(windows, 18 * 60) is None
    assert bytes_per_s(windows, 23 * 60) == bytes_per_s(windows, 0) == bytes_per_s(windows, 5 * 60 + 59) == 200 << 20
    assert bytes_per_s(windows, 6 * 60) is None


@given(st.integers(0, 24 * 60 - 1))
def test_a_bare_rate_holds_all_day(minute: int) -> None:
    assert bytes_per_s(parse_bandwidth("5MB/s"), minute) == 5_000_000


@pytest.mark.parametrize("text", ["fast", "09:00-18:00", "09:00=1MiB/s", "0/s", "9-18=1MiB/s"])
def test_what_is_no_bandwidth_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SettingsError, match="50MiB/s"):
        parse_bandwidth(text)


@pytest.mark.parametrize(
    ("took_s", "rests_s"), [(0.0, 0.0), (3.0, 3.0), (LIVE_EVERY_S, LIVE_EVERY_S), (3600.0, LIVE_EVERY_S), (-5.0, 0.0)]
)
def test_a_live_sync_rests_between_changes_as_long_as_it_took_and_at_most_as_long_as_it_would_unasked(
    took_s: float, rests_s: float
) -> None:
    ended_s = 1000.0
    times = {"started_s": ended_s - took_s, "ended_s": ended_s}
    assert may_follow(now_s=ended_s + rests_s, **times)
    if rests_s:
        assert not may_follow(now_s=ended_s + rests_s - 0.1, **times)
