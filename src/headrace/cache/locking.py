"""Memory that reaches no disk: no swap, no core dump. Residency fails closed: what cannot be had is refused by name."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
from pathlib import Path

from headrace.model.errors import ResidencyRefused
from headrace.model.units import format_size

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_MLOCK_ONFAULT = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mlock2.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)


def lock_process_memory() -> None:
    """Keep all memory of this process, now and later, out of swap and core dumps. Raises `ResidencyRefused`.

    Call it first thing, before any byte that must stay in memory is read. Children inherit none of it but the limits.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        raise ResidencyRefused(f"core dumps cannot be switched off: {error}") from error
    if _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise ResidencyRefused(f"memory cannot be kept from dumps: prctl says {os.strerror(ctypes.get_errno())}")
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        raise ResidencyRefused(refusal(os.strerror(ctypes.get_errno())))


def lock_mapping(mapping: mmap.mmap) -> None:
    """Keep one mapping out of swap, page by page as it is used. Raises `ResidencyRefused`."""
    anchor = ctypes.c_char.from_buffer(mapping)
    address = ctypes.addressof(anchor)
    del anchor
    if _libc.mlock2(address, len(mapping), _MLOCK_ONFAULT):
        raise ResidencyRefused(refusal(os.strerror(ctypes.get_errno()), need_bytes=len(mapping)))


def require_locked_memory() -> None:
    """Check that `lock_process_memory` holds in this process. Raises `ResidencyRefused` with what is missing."""
    if resource.getrlimit(resource.RLIMIT_CORE)[0] != 0:
        raise ResidencyRefused('core dumps are allowed in this process: residency = "memory" needs RLIMIT_CORE 0')
    if _libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0):
        raise ResidencyRefused('this process can be dumped: residency = "memory" needs its memory locked at start')
    # A new mapping is locked at birth exactly when mlockall(MCL_FUTURE) is in force.
    with mmap.mmap(-1, mmap.PAGESIZE) as probe:
        anchor = ctypes.c_char.from_buffer(probe)
        address = ctypes.addressof(anchor)
        del anchor
        if not _is_locked(address):
            raise ResidencyRefused(refusal("memory of this process is not locked"))


def refusal(reason: str, *, need_bytes: int = 0) -> str:
    """Why memory cannot be locked, and what an operator can do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = "unlimited" if soft == resource.RLIM_INFINITY else format_size(soft)
    most = "unlimited" if hard == resource.RLIM_INFINITY else format_size(hard)
    need = f", {format_size(need_bytes)} are needed" if need_bytes else ""
    swap = "; swap is on" if _swap_is_on() else ""
    return (
        f"memory cannot be locked ({reason}): RLIMIT_MEMLOCK is {limit} (at most {most}){need}{swap}; "
        "raise it (LimitMEMLOCK=infinity, ulimit -l unlimited) or grant CAP_IPC_LOCK, "
        'or give the mount residency = "none"'
    )


def _is_locked(address: int) -> bool:
    here = False
    with Path("/proc/self/smaps").open(encoding="utf-8", errors="replace") as smaps:
        for line in smaps:
            head = line.split(" ", 1)[0]
            if "-" in head and not head.endswith(":"):
                low, high = (int(part, 16) for part in head.split("-"))
                here = low <= address < high
            elif here and head == "VmFlags:":
                return "lo" in line.split()
    return False


def _swap_is_on() -> bool:
    try:
        return len(Path("/proc/swaps").read_text(encoding="utf-8").splitlines()) > 1
    except OSError:
        return True
