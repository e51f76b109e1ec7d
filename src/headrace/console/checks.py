"""What `headrace doctor` looks at on this machine. Each check judges plain numbers, so that it can be tested."""

from __future__ import annotations

import email.utils
import os
import platform
import re
import resource
import shutil
import socket
from enum import StrEnum
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from headrace.ledger.database import journal_mode, sqlite_release
from headrace.model.units import format_size

MIN_KERNEL = (5, 6)
"""`openat2` and socket options that containment and restarts rely on."""
MIN_FILES = 4096
MAX_SKEW_S = 60.0
_CLOCK_TIMEOUT_S = 5.0


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Check(msgspec.Struct, frozen=True):
    """One finding. `remedy` is empty when all is well."""

    name: str
    level: Level
    detail: str
    remedy: str = ""


def judge_kernel(system: str, release: str) -> Check:
    match = re.match(r"(\d+)\.(\d+)", release)
    number = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    detail = f"{system} {release}"
    if system != "Linux":
        return Check("kernel", Level.FAILED, detail, "serve from a Linux machine; clients may run anywhere")
    if number < MIN_KERNEL:
        return Check("kernel", Level.FAILED, detail, f"use Linux {MIN_KERNEL[0]}.{MIN_KERNEL[1]} or newer")
    return Check("kernel", Level.OK, detail)


def judge_files(soft: int, hard: int) -> Check:
    detail = f"{soft} open files per process (at most {hard})"
    if soft < MIN_FILES:
        return Check("open files", Level.WARNING, detail, f"run `ulimit -n {max(MIN_FILES, 65536)}` before `headrace up`")
    return Check("open files", Level.OK, detail)


def judge_locked_memory(limit_bytes: int, needed_bytes: int) -> Check:
    """`needed_bytes` is 0 where no mount has `residency = "memory"`."""
    shown = "no limit" if limit_bytes < 0 else format_size(limit_bytes)
    if limit_bytes < 0 or limit_bytes >= needed_bytes:
        return Check("locked memory", Level.OK, shown)
    remedy = f"raise it (`ulimit -l`, LimitMEMLOCK=) to {format_size(needed_bytes)}, or memory-only mounts are refused"
    return Check("locked memory", Level.FAILED, shown, remedy)


def judge_disk(directory: Path, free_bytes: int, wanted_bytes: int) -> Check:
    """`wanted_bytes` is what the tier may still grow by."""
    detail = f"{format_size(free_bytes)} free at {directory}"
    if free_bytes < 256 * 1024 * 1024:
        return Check("disk", Level.FAILED, detail, "free space there, or name another directory in [[cache.disk]]")
    if free_bytes < wanted_bytes:
        remedy = f"the tier may take {format_size(wanted_bytes)}: lower its capacity, or free space"
        return Check("disk", Level.WARNING, detail, remedy)
    return Check("disk", Level.OK, detail)


def judge_sqlite(release: tuple[int, ...]) -> Check:
    detail = f"SQLite {'.'.join(map(str, release))}, journal mode {journal_mode(release)}"
    if journal_mode(release) != "WAL":
        return Check("ledger", Level.WARNING, detail, "`pip install pysqlite3`: this release may lose transactions in WAL mode")
    return Check("ledger", Level.OK, detail)


def judge_clock(skew_s: float, against: str) -> Check:
    detail = f"{skew_s:+.0f} s against {against}"
    if abs(skew_s) > MAX_SKEW_S:
        return Check(
            "clock", Level.FAILED, detail, "set the clock (chrony, systemd-timesyncd): signatures fail beyond 15 minutes"
        )
    return Check("clock", Level.OK, detail)


def check_machine(memory_needed_bytes: int) -> list[Check]:
    """Kernel, limits and SQLite."""
    memlock = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return [
        judge_kernel(platform.system(), platform.release()),
        judge_files(*resource.getrlimit(resource.RLIMIT_NOFILE)),
        judge_locked_memory(-1 if memlock == resource.RLIM_INFINITY or os.geteuid() == 0 else memlock, memory_needed_bytes),
        judge_sqlite(sqlite_release()),
    ]


def check_disk(directory: Path, capacity_bytes: int) -> Check:
    """Free space where the directory is, or would be made."""
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return Check(
            "disk", Level.FAILED, f"{place} cannot be written", "set [server] home or $HEADRACE_HOME to your own directory"
        )
    return judge_disk(directory, shutil.disk_usage(place).free, capacity_bytes)


def check_port(name: str, listen: str) -> Check:
    """Whether the address can be bound. Only asked when no server of ours runs."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), int(port)))
    except (OSError, ValueError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not host:port"
        return Check("port", Level.FAILED, f"{name} {listen}: {reason}", f"stop what listens there, or change [server] {name}")
    return Check("port", Level.OK, f"{name} {listen} is free")


def check_clock(endpoint: str, now_s: float) -> Check | None:
    """This machine's clock against a store's; None where the store tells no time."""
    parts = urlsplit(endpoint)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_CLOCK_TIMEOUT_S)
    try:
        connection.request("HEAD", "/")
        date = connection.getresponse().getheader("date") or ""
        return judge_clock(now_s - email.utils.parsedate_to_datetime(date).timestamp(), endpoint)
    except (OSError, HTTPException, ValueError, TypeError):
        return None
    finally:
        connection.close()
