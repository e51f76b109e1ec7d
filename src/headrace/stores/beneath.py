"""Opening files below a directory so that no link, whenever it is swapped in, leads outside it."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

_OPENAT2 = 437  # the same number on every architecture
_BENEATH = 0x08 | 0x02  # RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_RACED_TRIES = 16
_LIBC = ctypes.CDLL(None, use_errno=True)
_NOT_OFFERED = frozenset((errno.ENOSYS, errno.EPERM))


def open_beneath(root_fd: int, path: str, flags: int) -> int:
    """Open `path`, relative to the directory `root_fd` and without `.` or `..` segments, never outside it.

    Links that stay inside are followed. Raises `OSError`: EXDEV when a link leads outside.
    """
    flags |= os.O_CLOEXEC
    try:
        return _openat2(root_fd, path, flags)
    except OSError as error:
        if error.errno in _NOT_OFFERED:
            return _open_stepwise(root_fd, path, flags)
        if error.errno == errno.EXDEV:
            return _open_by_absolute_link(root_fd, path, flags, error)
        raise


def stat_beneath(root_fd: int, path: str) -> os.stat_result:
    """What `path` leads to, links followed as far as they stay inside. Raises `OSError`."""
    descriptor = open_beneath(root_fd, path, os.O_PATH)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _openat2(root_fd: int, path: str, flags: int) -> int:
    how = struct.pack("=QQQ", flags, 0, _BENEATH)
    encoded = os.fsencode(path)
    for _ in range(_RACED_TRIES):
        descriptor: int = _LIBC.syscall(_OPENAT2, root_fd, encoded, how, ctypes.c_size_t(len(how)))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: a rename elsewhere raced the check of a `..`
            raise OSError(number, os.strerror(number), path)
    raise OSError(errno.EAGAIN, "directories are being renamed all the time", path)


def _open_by_absolute_link(root_fd: int, path: str, flags: int, refused: OSError) -> int:
    # The kernel refuses absolute links even where they lead back inside. The resolved path is only
    # a proposal: it goes through the same check.
    root = os.readlink(f"/proc/self/fd/{root_fd}")  # noqa: PTH115 - paths stay text: a Path would normalise them
    try:
        resolved = os.path.realpath(f"{root}/{path}")
    except OSError:  # the link is being swapped
        raise refused from None
    if not resolved.startswith(root.rstrip("/") + "/"):
        raise refused
    return _openat2(root_fd, resolved[len(root.rstrip("/")) + 1 :], flags)


def _open_stepwise(root_fd: int, path: str, flags: int) -> int:
    """For kernels and sandboxes without openat2: one component at a time, no links at all."""
    *folders, name = path.split("/")
    current = os.dup(root_fd)
    try:
        for folder in folders:
            below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = below
        descriptor = os.open(name or ".", flags | os.O_NOFOLLOW, dir_fd=current)
    finally:
        os.close(current)
    if stat.S_ISLNK(os.fstat(descriptor).st_mode):  # O_PATH opens the link itself
        os.close(descriptor)
        raise OSError(errno.ELOOP, "links are not followed here", path)
    return descriptor
