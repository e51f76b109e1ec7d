"""What all parts of one mount work with, and what its errors are for the kernel."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from headrace.gateways.fuse.device import Device
from headrace.gateways.fuse.inodes import Inodes
from headrace.gateways.fuse.modes import Defaults
from headrace.gateways.fuse.staged import StagingArea
from headrace.model.errors import (
    AccessDenied,
    BucketExists,
    BucketNotEmpty,
    ConditionFailed,
    Conflict,
    DeadlineExceeded,
    HeadraceError,
    InvalidKey,
    NoSpace,
    NotFound,
    ReadOnly,
    ResidencyRefused,
    Unsupported,
    VersionChanged,
)
from headrace.model.mounts import Freshness, Residency
from headrace.namespace.namespace import Namespace

_ERRNOS: tuple[tuple[type[HeadraceError], int], ...] = (
    (NotFound, errno.ENOENT),
    (ReadOnly, errno.EROFS),
    (AccessDenied, errno.EACCES),
    (InvalidKey, errno.EINVAL),
    (VersionChanged, errno.ESTALE),
    (ConditionFailed, errno.ESTALE),
    (Conflict, errno.EAGAIN),
    (BucketExists, errno.EEXIST),
    (BucketNotEmpty, errno.ENOTEMPTY),
    (NoSpace, errno.ENOSPC),
    (Unsupported, errno.EOPNOTSUPP),
    (ResidencyRefused, errno.EPERM),
    (DeadlineExceeded, errno.ETIMEDOUT),
)


class FuseOptions(msgspec.Struct, frozen=True):
    """What one mount shows, and how."""

    path: str = "/"
    """The directory of the namespace that its root is."""
    defaults: Defaults = Defaults()
    attr_timeout_s: float = 1.0
    """How long the kernel may answer `stat` by itself, at most; never longer than a mount's freshness. Opens are always asked."""


@dataclass(slots=True)
class Shared:
    """One mount's things."""

    namespace: Namespace
    device: Device
    inodes: Inodes
    options: FuseOptions
    area: StagingArea
    now_ns: Callable[[], int]
    unconditional: set[str] = field(default_factory=set)
    """Mounts whose store cannot prove a condition."""

    def valid_s(self, path: str) -> float:
        """How long the kernel may keep what it is told of `path`."""
        mount = self.namespace.mount_of("/" + path)
        if mount is None:
            return 0.0
        bounds = [Freshness.parse(spec.freshness).seconds for spec in mount.spec.union or (mount.spec,)]
        return min(self.options.attr_timeout_s, *bounds)

    def writes_to_disk(self, path: str) -> bool:
        """Whether what is written to `path` may lie on this machine's disk before its store has it."""
        mount = self.namespace.mount_of("/" + path)
        return mount is None or all(spec.residency is Residency.DISK for spec in mount.spec.union or (mount.spec,))


class Refused(Exception):
    """A request is answered with `code`, an `errno`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def errno_of(error: Exception) -> int:
    """The code by which the kernel is told of `error`."""
    if isinstance(error, Refused):
        return error.code
    for kind, code in _ERRNOS:
        if isinstance(error, kind):
            return code
    if isinstance(error, HeadraceError):
        return errno.EIO
    if isinstance(error, IsADirectoryError):
        return errno.EISDIR
    if isinstance(error, FileExistsError):
        return errno.EEXIST
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return errno.EIO
