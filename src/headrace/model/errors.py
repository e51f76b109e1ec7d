"""The one tree of errors. Foreign errors are translated into it at one seam per room.

HeadraceError
├── NotFound (also FileNotFoundError)      the store said: there is no such key
│   └── NoSuchUpload                       there is no such multipart upload (any more)
├── AccessDenied (also PermissionError)    the store or the policy refused
│   └── ReadOnly                           the mount takes no writes
├── InvalidKey (also ValueError)           this store cannot hold such a key
├── InvalidRange                           the range lies outside the object
├── Lost                                   the object lived in the cache alone, and its bytes are gone
├── VersionChanged                         the object is no longer the version that was asked for
├── ConditionFailed                        a conditional write found another object, or none, and changed nothing
├── Conflict                               another write of the same thing ran meanwhile; nothing was changed, try again
├── InvalidPart                            a multipart upload cannot be completed from the parts that were named
│   └── PartTooSmall                       a part other than the last has too few bytes
├── BucketExists (also FileExistsError)    a bucket of that name is there already
├── BucketNotEmpty                         a bucket that holds objects is not removed
├── NoSpace                                the store has no room for the bytes
├── Unsupported                            this store cannot do that
├── Unavailable                            cannot be known now: try again (never means "not there")
│   ├── Throttled                          the store asked for fewer requests (503 SlowDown, 429)
│   └── DeadlineExceeded                   the time allowed for the operation is over
├── CorruptData                            bytes did not match their length, version or checksum
├── ResidencyRefused                       bytes may not live where they would have to
└── SettingsError (also ValueError)        a setting, URL or command line is wrong
"""

from __future__ import annotations


class HeadraceError(Exception):
    """Base of every error that Headrace raises on purpose.

    `str(error)` is one line for a person: what, about which thing, and what to do next.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class NotFound(HeadraceError, FileNotFoundError):
    """The store answered that the key does not exist. Never used for "could not ask"."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "not found"


class NoSuchUpload(NotFound):
    """The multipart upload was never begun, is completed, or was given up."""


class AccessDenied(HeadraceError, PermissionError):
    """The store or the policy refused the caller."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "access denied"


class ReadOnly(AccessDenied):
    """The mount takes no writes; its `write` option says so."""


class InvalidKey(HeadraceError, ValueError):
    """The key cannot be kept exactly by this store, so it is refused instead of changed."""


class InvalidRange(HeadraceError):
    """The byte range lies outside the object; `size` is the object's length in bytes."""

    def __init__(self, message: str, *, path: str = "", size: int = 0) -> None:
        super().__init__(message, path=path)
        self.size = size


class Lost(HeadraceError):
    """The object was written to scratch, which may be lost, and its bytes are gone. Asking again does not help."""


class VersionChanged(HeadraceError):
    """The object's bytes are no longer the version that the caller pinned."""


class ConditionFailed(HeadraceError):
    """The object is not what a conditional write asked for; nothing was changed."""


class Conflict(HeadraceError):
    """Another change of the same thing ran at the same time; nothing was changed here. May be tried again."""


class InvalidPart(HeadraceError):
    """A part that was named is not there, or is another one than was named. The upload stays as it is."""


class PartTooSmall(InvalidPart):
    """A part other than the last is smaller than the store takes; `number` says which. The upload stays as it is."""

    def __init__(self, message: str, *, path: str = "", number: int = 0) -> None:
        super().__init__(message, path=path)
        self.number = number


class BucketExists(HeadraceError, FileExistsError):
    """A bucket of that name is there already."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "the bucket exists"


class BucketNotEmpty(HeadraceError):
    """The bucket holds objects or unfinished uploads that would be lost."""


class NoSpace(HeadraceError):
    """The store has no room left; nothing was written."""


class Unsupported(HeadraceError):
    """The store, or this release, cannot do what was asked."""


class Unavailable(HeadraceError):
    """The answer cannot be known now. Nothing may be concluded about the object.

    `retry_after_s` is the store's own wish, or None.
    """

    def __init__(self, message: str, *, path: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, path=path)
        self.retry_after_s = retry_after_s


class Throttled(Unavailable):
    """The store asked for fewer requests."""


class DeadlineExceeded(Unavailable):
    """The total time allowed for the operation is over."""


class CorruptData(HeadraceError):
    """Bytes did not have the length, version or checksum that they must have."""


class ResidencyRefused(HeadraceError):
    """The place where bytes would have to live is not allowed, or cannot be had."""


class SettingsError(HeadraceError, ValueError):
    """A setting, a URL or an argument is wrong; the message names it and the next step."""


def error_named(kind: str) -> type[HeadraceError] | None:
    """The class of this tree that another process named, if there is one."""
    found = globals().get(kind)
    return found if isinstance(found, type) and issubclass(found, HeadraceError) else None
