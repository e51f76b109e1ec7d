"""When a sync runs, and how fast it may be at which time of day. Pure: local time is handed in."""

from __future__ import annotations

import re
import time

import msgspec

from headrace.model.errors import SettingsError
from headrace.model.units import parse_duration, parse_size

LIVE = "live"
LIVE_EVERY_S = 10.0
"""How often the sides of a live sync are listed when nobody says that they changed, unless that itself takes long."""
MIN_INTERVAL_S = 1.0

_DAY_MIN = 24 * 60
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_WINDOW = re.compile(r"([\d:]+)-([\d:]+)=(.+)")


class Schedule(msgspec.Struct, frozen=True):
    """`every_s` is 0 and `minutes` empty for one that only runs when asked for."""

    every_s: float = 0.0
    minutes: tuple[int, ...] = ()
    """Of the day, local time."""
    is_live: bool = False


def parse_schedule(text: str) -> Schedule:
    """From an interval, times of day, `live` or nothing. Raises `SettingsError`."""
    plain = text.strip()
    if not plain:
        return Schedule()
    if plain == LIVE:
        return Schedule(LIVE_EVERY_S, is_live=True)
    try:
        if ":" in plain:
            return Schedule(minutes=tuple(sorted({_minute(part.strip()) for part in plain.split(",")})))
        every_s = parse_duration(plain)
    except SettingsError as error:
        message = f"schedule {text!r}: write an interval such as 10m, times of day such as 02:00,14:30, or live"
        raise SettingsError(message) from error
    if every_s < MIN_INTERVAL_S:
        raise SettingsError(f"schedule {text!r}: an interval is at least {MIN_INTERVAL_S:.0f}s; `live` follows changes")
    return Schedule(every_s)


def is_due(schedule: Schedule, *, now_s: float, started_s: float, ended_s: float) -> bool:
    """Whether a run should begin. `started_s` is when the last one did, or when the sync was made. Seconds since 1970 UTC."""
    if schedule.every_s:
        # What takes long is not done all the time.
        took_s = max(0.0, ended_s - started_s) if schedule.is_live else 0.0
        return now_s - started_s >= schedule.every_s + took_s
    return any(_last_time(minute, now_s) > started_s for minute in schedule.minutes)


def may_follow(*, now_s: float, started_s: float, ended_s: float) -> bool:
    """Whether a live sync of which something changed may run again: it rests as long as it took, and at most `LIVE_EVERY_S`."""
    return now_s >= ended_s + min(LIVE_EVERY_S, max(0.0, ended_s - started_s))


def _last_time(minute: int, now_s: float) -> float:
    """When it was last `minute` of a local day."""
    local = time.localtime(now_s)
    at = time.mktime((local.tm_year, local.tm_mon, local.tm_mday, minute // 60, minute % 60, 0, 0, 0, -1))
    if at > now_s:
        at = time.mktime((local.tm_year, local.tm_mon, local.tm_mday - 1, minute // 60, minute % 60, 0, 0, 0, -1))
    return at


class Window(msgspec.Struct, frozen=True):
    """From minute `start` of the day up to `end`; over midnight where that is the smaller one."""

    start: int
    end: int
    bytes_per_s: int

    def covers(self, minute: int) -> bool:
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def parse_bandwidth(text: str) -> tuple[Window, ...]:
    """From `50MiB/s` or windows such as `09:00-18:00=50MiB/s`, separated by commas. Raises `SettingsError`."""
    windows: list[Window] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = _WINDOW.fullmatch(part)
        try:
            if match is None:
                windows.append(Window(0, _DAY_MIN, _rate(part)))
            else:
                windows.append(Window(_minute(match[1]), _minute(match[2]), _rate(match[3])))
        except SettingsError as error:
            message = f"bandwidth {part!r}: write 50MiB/s, or 09:00-18:00=50MiB/s for a part of the day"
            raise SettingsError(message) from error
    return tuple(windows)


def bytes_per_s(windows: tuple[Window, ...], minute: int) -> int | None:
    """The bound at a minute of the day: the first window that covers it; None: there is no bound."""
    return next((window.bytes_per_s for window in windows if window.covers(minute)), None)


def _rate(text: str) -> int:
    rate = parse_size(text.strip().removesuffix("/s"))
    if rate < 1:
        raise SettingsError("a rate is at least one byte a second")
    return rate


def _minute(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise SettingsError(f"{text!r} is no time of day: write it such as 09:00")
    return int(match[1]) * 60 + int(match[2])
