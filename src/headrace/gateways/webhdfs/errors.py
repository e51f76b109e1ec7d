"""Refusals as Hadoop words them: `RemoteException` with Java's class names, and our tree of errors translated into them."""

from __future__ import annotations

import math

import msgspec

from headrace.gateways.s3.errors import S3Error
from headrace.model.errors import (
    AccessDenied,
    BucketExists,
    BucketNotEmpty,
    ConditionFailed,
    Conflict,
    HeadraceError,
    InvalidKey,
    InvalidRange,
    NoSpace,
    NotFound,
    Unavailable,
    Unsupported,
)

Fields = tuple[tuple[str, str], ...]

_CLASSES = {
    "AccessControlException": ("org.apache.hadoop.security.AccessControlException", 403),
    "AuthenticationException": ("org.apache.hadoop.security.authentication.client.AuthenticationException", 403),
    "DSQuotaExceededException": ("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", 403),
    "FileAlreadyExistsException": ("org.apache.hadoop.fs.FileAlreadyExistsException", 403),
    "FileNotFoundException": ("java.io.FileNotFoundException", 404),
    "IOException": ("java.io.IOException", 403),
    "IllegalArgumentException": ("java.lang.IllegalArgumentException", 400),
    "InvalidPathException": ("org.apache.hadoop.fs.InvalidPathException", 400),
    "InvalidToken": ("org.apache.hadoop.security.token.SecretManager$InvalidToken", 403),
    "ParentNotDirectoryException": ("org.apache.hadoop.fs.ParentNotDirectoryException", 403),
    "PathIsNotEmptyDirectoryException": ("org.apache.hadoop.fs.PathIsNotEmptyDirectoryException", 403),
    "RetriableException": ("org.apache.hadoop.ipc.RetriableException", 503),
    "RuntimeException": ("java.lang.RuntimeException", 500),
    "UnsupportedOperationException": ("java.lang.UnsupportedOperationException", 400),
}


class HdfsError(HeadraceError):
    """A refusal as Hadoop words it. `audited` marks one that says no to a caller, which the audit log must show."""

    def __init__(
        self, exception: str, message: str, *, status: int = 0, fields: Fields = (), audited: bool = False, caller: str = ""
    ) -> None:
        super().__init__(message)
        self.exception = exception
        self.java_class, usual = _CLASSES[exception]
        self.status = status or usual
        self.message = message
        self.fields = fields
        self.audited = audited
        self.caller = caller


class _Remote(msgspec.Struct, frozen=True, rename={"java_class": "javaClassName"}):
    exception: str
    java_class: str
    message: str


class _Refusal(msgspec.Struct, frozen=True, rename="pascal"):
    remote_exception: _Remote


def error_body(error: HdfsError) -> bytes:
    """The JSON of a refusal."""
    return msgspec.json.encode(_Refusal(_Remote(error.exception, error.java_class, error.message)))


def bad_parameter(name: str, reason: str) -> HdfsError:
    """A parameter that means nothing, as Hadoop says it."""
    return HdfsError("IllegalArgumentException", f'Invalid value for webhdfs parameter "{name}": {reason}')


def not_offered(what: str) -> HdfsError:
    """Something that HDFS has and Headrace has not."""
    return HdfsError("UnsupportedOperationException", what)


def missing(path: str) -> HdfsError:
    return HdfsError("FileNotFoundException", f"File does not exist: {path}")


_SAID: tuple[tuple[type[HeadraceError], str], ...] = (
    (InvalidKey, "InvalidPathException"),
    (InvalidRange, "IOException"),
    (AccessDenied, "AccessControlException"),
    (Unsupported, "UnsupportedOperationException"),
    (NoSpace, "DSQuotaExceededException"),
    (BucketExists, "FileAlreadyExistsException"),
    (BucketNotEmpty, "PathIsNotEmptyDirectoryException"),
)
_TEXTS: dict[str, str] = {
    "InvalidPathException": "the store behind this path cannot hold such a name",
    "AccessControlException": "nothing can be written here, or the store behind this path refused its own credentials",
    "UnsupportedOperationException": "the store behind this path cannot do that",
    "DSQuotaExceededException": "the store behind this path has no room left",
    "FileAlreadyExistsException": "it exists already",
    "PathIsNotEmptyDirectoryException": "directory is not empty",
}


def translate(error: HeadraceError, path: str) -> HdfsError:
    """Our error as Hadoop says it. Texts are our own, so that nothing of a store's inside leaves."""
    if isinstance(error, HdfsError):
        return error
    if isinstance(error, S3Error):
        status = error.status if 400 <= error.status < 600 else 400
        return HdfsError("IOException", error.message, status=status, audited=error.audited, caller=error.caller)
    if isinstance(error, NotFound):
        return missing(path)
    if isinstance(error, Unavailable):
        wait_s = error.retry_after_s if error.retry_after_s is not None else 1.0
        fields = (("retry-after", str(max(1, math.ceil(min(wait_s, 3600.0))))),)
        return HdfsError("RetriableException", f"{path}: the store cannot be reached now; try again", fields=fields)
    if isinstance(error, ConditionFailed | Conflict):
        return HdfsError("IOException", f"{path}: another changed it meanwhile; nothing was changed here, try again")
    for kind, exception in _SAID:
        if isinstance(error, kind):
            return HdfsError(exception, f"{path}: {_TEXTS.get(exception, 'the range lies outside the file')}")
    return HdfsError("IOException", f"{path}: it cannot be read or written now ({type(error).__name__})")
