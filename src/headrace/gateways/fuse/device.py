"""The FUSE device: mounting, unmounting, and handing files to the kernel (passthrough, Linux 6.9 and later).

Root mounts by itself. Anybody else has `fusermount3` do it, which passes the device's descriptor back (libfuse's `_FUSE_COMMFD`).
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import msgspec

from headrace.model.errors import SettingsError

_MS_NOSUID_NODEV = 2 | 4
_MS_RDONLY = 1
_MNT_DETACH = 2
_BACKING_OPEN = 0x4010E501
_BACKING_CLOSE = 0x4004E502
_BACKING = struct.Struct("<iIQ")
_HELPER_S = 10


class MountOptions(msgspec.Struct, frozen=True):
    """How a directory is made a mount."""

    name: str = "headrace"
    """Shown as the mount's source."""
    allow_other: bool = False
    """Other users may use it, as far as modes allow."""
    read_only: bool = False


class Device:
    """One mounted FUSE connection. `fd` does not block."""

    def __init__(self, fd: int, mountpoint: Path) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.mountpoint = mountpoint
        self._passes = True

    @property
    def passes(self) -> bool:
        """Whether files can be handed to the kernel, as far as that is known."""
        return self._passes

    def hand_over(self, fd: int) -> int:
        """The kernel's number for the file `fd`; 0 where it takes none."""
        if not self._passes:
            return 0
        try:
            return int(fcntl.ioctl(self.fd, _BACKING_OPEN, bytearray(_BACKING.pack(fd, 0, 0)), True))
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL):
                self._passes = False
            return 0

    def take_back(self, backing: int) -> None:
        """The kernel is told that no file needs the number any more."""
        with suppress(OSError):
            fcntl.ioctl(self.fd, _BACKING_CLOSE, struct.pack("<I", backing))

    def no_passthrough(self) -> None:
        self._passes = False

    def read_ahead(self, kib: int) -> None:
        """How far the kernel reads ahead in this mount. Only root may say so; for others it stays as it is."""
        with suppress(OSError):
            dev = self.mountpoint.stat().st_dev
            Path(f"/sys/class/bdi/{os.major(dev)}:{os.minor(dev)}/read_ahead_kb").write_text(str(kib))

    def unmount(self) -> None:
        """Take the mount away. Who still uses it gets errors once this process is gone, nobody new comes in."""
        if os.geteuid() == 0:
            _libc().umount2(os.fsencode(self.mountpoint), _MNT_DETACH)
            return
        helper = shutil.which("fusermount3")
        if helper is not None:
            subprocess.run(  # noqa: S603  libfuse's helper
                [helper, "-u", "-z", "--", os.fspath(self.mountpoint)], check=False, timeout=_HELPER_S, capture_output=True
            )

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.fd)


def mount(mountpoint: Path, options: MountOptions) -> Device:
    """Make the directory `mountpoint` a FUSE mount. Raises `SettingsError`, which says what is missing."""
    mountpoint = mountpoint.absolute()
    _clear_dead(mountpoint)
    if not mountpoint.is_dir():
        raise SettingsError(f"{mountpoint} is no directory: make it first (`mkdir -p {mountpoint}`)", path=str(mountpoint))
    fd = _mount_as_root(mountpoint, options) if os.geteuid() == 0 else _mount_by_helper(mountpoint, options)
    return Device(fd, mountpoint)


def _clear_dead(mountpoint: Path) -> None:
    """Take away what a process that was killed left there: such a mount answers ENOTCONN for ever."""
    try:
        mountpoint.stat()
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            Device(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), mountpoint).unmount()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount_as_root(mountpoint: Path, options: MountOptions) -> int:
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise SettingsError(
            f"/dev/fuse: {error.strerror}; the kernel's fuse module is missing, or this container may not use it"
        ) from error
    mode = mountpoint.stat().st_mode
    words = [f"fd={fd}", f"rootmode={mode:o}", f"user_id={os.getuid()}", f"group_id={os.getgid()}", "default_permissions"]
    if options.allow_other:
        words.append("allow_other")
    flags = _MS_NOSUID_NODEV | (_MS_RDONLY if options.read_only else 0)
    data = ",".join(words).encode()
    if _libc().mount(options.name.encode(), os.fsencode(mountpoint), b"fuse.headrace", flags, data):
        code = ctypes.get_errno()
        os.close(fd)
        raise SettingsError(
            f"cannot mount at {mountpoint}: {os.strerror(code)}; mounting needs CAP_SYS_ADMIN", path=str(mountpoint)
        )
    return fd


def _mount_by_helper(mountpoint: Path, options: MountOptions) -> int:
    helper = shutil.which("fusermount3")
    if helper is None:
        raise SettingsError("fusermount3 is missing: install the package fuse3 (`apt install fuse3`), or mount as root")
    words = [f"fsname={options.name}", "subtype=headrace", "default_permissions"]
    if options.allow_other:
        words.append("allow_other")
    if options.read_only:
        words.append("ro")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(  # noqa: S603  libfuse's helper
            [helper, "-o", ",".join(words), "--", os.fspath(mountpoint)],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
            timeout=_HELPER_S,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"fusermount3 ended with {done.returncode}"
            raise SettingsError(f"cannot mount at {mountpoint}: {said}", path=str(mountpoint))
        ours.settimeout(_HELPER_S)
        return _received(ours)


def _received(channel: socket.socket) -> int:
    fds = array.array("i")
    _, control, _, _ = channel.recvmsg(1, socket.CMSG_LEN(fds.itemsize))
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: fds.itemsize])
    if not fds:
        raise SettingsError("fusermount3 passed no descriptor: is it libfuse's own?")
    os.set_inheritable(fds[0], False)
    return fds[0]
