import os
import subprocess
import sys

import pytest

from headrace.cache.arena import MemoryTier
from headrace.cache.locking import refusal

SCRIPT = """
import os, resource, sys
from headrace.cache.arena import MemoryTier
from headrace.cache.locking import lock_process_memory, require_locked_memory
from headrace.model.errors import ResidencyRefused
def attempt(call):
    try:
        call()
    except ResidencyRefused as error:
        print("refused:", error)
    else:
        print("held")
"""


def run(code: str, *, limit: int | None = None, nobody: bool = False) -> list[str]:
    lines = [SCRIPT]
    if limit is not None:
        lines.append(f"resource.setrlimit(resource.RLIMIT_MEMLOCK, ({limit}, {limit}))")
    if nobody:
        lines.append("os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, code])], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to lower itself")


@root
def test_locked_memory_is_had_and_found_to_hold() -> None:
    lines = run(
        "attempt(require_locked_memory); attempt(lock_process_memory); attempt(require_locked_memory);"
        "print(resource.getrlimit(resource.RLIMIT_CORE));"
        "print([line for line in open('/proc/self/status') if line.startswith('VmLck')])"
    )
    assert lines[0].startswith("refused:")
    assert lines[1:4] == ["held", "held", "(0, 0)"]
    assert " 0 kB" not in lines[4]


@root
def test_without_the_right_to_lock_it_is_refused_with_the_remedy() -> None:
    lines = run("attempt(lock_process_memory); attempt(require_locked_memory)", limit=65536, nobody=True)
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("refused:")
        assert "RLIMIT_MEMLOCK is 64.0 KiB" in line
        assert "CAP_IPC_LOCK" in line


@root
def test_a_tier_that_cannot_be_locked_is_refused_and_says_what_it_needs() -> None:
    lines = run("attempt(lambda: MemoryTier.create(8 << 20, 65536, locked=True))", limit=65536, nobody=True)
    assert lines[0].startswith("refused:")
    assert "8.0 MiB are needed" in lines[0]


@root
def test_an_unprivileged_process_locks_a_tier_within_its_limit() -> None:
    lines = run(
        "tier = MemoryTier.create(2 << 20, 65536, locked=True); print(tier.put(bytes(16), 0, b'x'), tier.get(bytes(16), 0))",
        limit=4 << 20,
        nobody=True,
    )
    assert lines == ["True b'x'"]


@root
def test_switching_core_dumps_on_again_is_noticed() -> None:
    lines = run("lock_process_memory(); import ctypes; ctypes.CDLL(None).prctl(4, 1, 0, 0, 0); attempt(require_locked_memory)")
    assert "can be dumped" in lines[0]


@root
def test_a_locked_tier_stays_in_memory() -> None:
    tier = MemoryTier.create(1 << 20, 4096, locked=True)
    try:
        with open("/proc/self/smaps", encoding="utf-8") as smaps:
            own = f" {os.fstat(tier.fd).st_ino} "  # other tests' tiers may not be unmapped yet
            flags = smaps.read().split(own, 1)[1].split("VmFlags:", 1)[1].split("\n", 1)[0]
        assert "lo" in flags.split()
    finally:
        tier.close()


def test_a_refusal_names_the_limit_and_the_next_step() -> None:
    text = refusal("Cannot allocate memory", need_bytes=1 << 30)
    assert "1.0 GiB are needed" in text
    assert "RLIMIT_MEMLOCK" in text
    assert 'residency = "none"' in text
