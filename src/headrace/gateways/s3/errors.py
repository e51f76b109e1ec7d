"""Refusals in S3's own form: codes, statuses and XML, and our tree of errors translated into them."""

from __future__ import annotations

import math
from collections.abc import Container

from headrace.gateways.s3.xml import escape
from headrace.model.errors import (
    AccessDenied,
    BucketExists,
    BucketNotEmpty,
    ConditionFailed,
    Conflict,
    CorruptData,
    HeadraceError,
    InvalidKey,
    InvalidPart,
    InvalidRange,
    Lost,
    NoSpace,
    NoSuchUpload,
    NotFound,
    PartTooSmall,
    ReadOnly,
    ResidencyRefused,
    Throttled,
    Unavailable,
    Unsupported,
    VersionChanged,
)
from headrace.model.objects import SCRATCH_LOST

_STATUSES = {
    "AccessDenied": 403,
    "AccessForbidden": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "BadDigest": 400,
    "BadRequest": 400,
    "BucketAlreadyExists": 409,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "ConditionalRequestConflict": 409,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "ExpiredToken": 400,
    "IllegalLocationConstraintException": 400,
    "IncompleteBody": 400,
    "InsufficientStorage": 507,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidBucketName": 400,
    "InvalidChunkSizeError": 403,
    "InvalidDigest": 400,
    "InvalidPart": 400,
    "InvalidPartNumber": 416,
    "InvalidPartOrder": 400,
    "InvalidPolicyDocument": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidStorageClass": 400,
    "InvalidTag": 400,
    "InvalidToken": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedPOSTRequest": 400,
    "MalformedXML": 400,
    "MaxMessageLengthExceeded": 400,
    "MaxPostPreDataLengthExceededError": 400,
    "MetadataTooLarge": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NotImplemented": 501,
    "NotModified": 304,
    "OperationAborted": 409,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "RequestTimeout": 400,
    "ScratchLost": 410,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "XAmzContentSHA256Mismatch": 400,
}


class S3Error(HeadraceError):
    """A refusal as S3 words it. `detail` adds elements to the XML, `fields` headers to the answer.

    `audited` marks one that says no to a caller, which the audit log must show.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        detail: tuple[tuple[str, str], ...] = (),
        fields: tuple[tuple[str, str], ...] = (),
        audited: bool = False,
        caller: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = _STATUSES[code]
        self.message = message
        self.detail = detail
        self.fields = fields
        self.audited = audited
        self.caller = caller


def refused(code: str, message: str, *, caller: str = "", detail: tuple[tuple[str, str], ...] = ()) -> S3Error:
    """A refusal of a caller: it leaves a line in the audit log."""
    return S3Error(code, message, detail=detail, audited=True, caller=caller)


def error_body(error: S3Error, resource: str, request_id: str, host_id: str) -> bytes:
    """The XML of a refusal."""
    where = f"<Resource>{escape(resource)}</Resource><RequestId>{request_id}</RequestId><HostId>{escape(host_id)}</HostId>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{error_element(error, where)}'.encode("utf-8", "replace")


def error_element(error: S3Error, where: str = "") -> str:
    """A refusal as an element, with `where` at its end."""
    detail = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in error.detail)
    return f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>{detail}{where}</Error>"


def translate(error: HeadraceError, *, missing: str = "NoSuchKey") -> S3Error:
    """Our error as S3 says it. Texts are S3's own, so that nothing of a store's inside leaves.

    `missing` is the code for `NotFound`.
    """
    if isinstance(error, S3Error):
        return error
    if isinstance(error, Unavailable):
        wait_s = error.retry_after_s if error.retry_after_s is not None else 1.0
        fields = (("retry-after", str(max(1, math.ceil(min(wait_s, 3600.0))))),)
        if isinstance(error, Throttled):
            return S3Error("SlowDown", "Please reduce your request rate.", fields=fields)
        return S3Error("ServiceUnavailable", "The store behind this path cannot be reached now. Please try again.", fields=fields)
    code, message = _plain(error, missing)
    if isinstance(error, PartTooSmall):
        return S3Error(code, message, detail=(("PartNumber", str(error.number)),))
    if isinstance(error, InvalidRange):
        return S3Error(
            code, message, detail=(("ActualObjectSize", str(error.size)),), fields=(("content-range", f"bytes */{error.size}"),)
        )
    if isinstance(error, Lost):  # HEAD has no document: a header tells it from other 410s
        return S3Error(code, message, fields=(("x-amz-storage-class", SCRATCH_LOST),))
    if isinstance(error, ReadOnly):
        return refused(code, message)
    return S3Error(code, message)


def precondition_failed(headers: Container[bytes]) -> S3Error:
    """A condition of the request did not hold; which one, where it had but one. s3fs, for one, acts on that."""
    given = [said for name, said in _CONDITIONS.items() if name in headers]
    detail = (("Condition", given[0]),) if len(given) == 1 else ()
    return S3Error("PreconditionFailed", _FAILED, detail=detail)


def conflict(*, conditional: bool) -> S3Error:
    """Another write of the same key ran at the same time."""
    if conditional:
        return S3Error(
            "ConditionalRequestConflict",
            "The conditional request cannot succeed due to a conflicting operation against this resource.",
        )
    return S3Error("OperationAborted", _ABORTED)


_CONDITIONS = {
    b"if-match": "If-Match",
    b"if-none-match": "If-None-Match",
    b"if-unmodified-since": "If-Unmodified-Since",
    b"if-modified-since": "If-Modified-Since",
}
_FAILED = "At least one of the pre-conditions you specified did not hold"
_ABORTED = "A conflicting conditional operation is currently in progress against this resource. Please try again."
_MESSAGES = {
    "NoSuchKey": "The specified key does not exist.",
    "NoSuchBucket": "The specified bucket does not exist.",
    "NoSuchVersion": "The specified version does not exist.",
}


_SAID: tuple[tuple[type[HeadraceError], str, str], ...] = (
    (NoSuchUpload, "NoSuchUpload", "The specified multipart upload does not exist. The upload ID may be invalid, or the upload "
     "may have been aborted or completed."),
    (InvalidRange, "InvalidRange", "The requested range is not satisfiable"),
    (ReadOnly, "AccessDenied", 'Access Denied: nothing can be written at this path (its mount says write = "none").'),
    (AccessDenied, "AccessDenied", "Access Denied: the store behind this path refused its own credentials."),
    (InvalidKey, "InvalidArgument", "The store behind this path cannot hold such a key."),
    (Unsupported, "NotImplemented", "The store behind this path cannot do that."),
    (VersionChanged, "ServiceUnavailable", "The object keeps changing while it is read. Please try again."),
    (ResidencyRefused, "ServiceUnavailable", "This path's bytes may live in memory only, and that cannot be had now."),
    (ConditionFailed, "PreconditionFailed", _FAILED),
    (Conflict, "OperationAborted", _ABORTED),
    (PartTooSmall, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"),
    (InvalidPart, "InvalidPart", "One or more of the specified parts could not be found. The part may not have been uploaded, or "
     "the specified entity tag may not match the part's entity tag."),
    (BucketExists, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded."),
    (BucketNotEmpty, "BucketNotEmpty", "The bucket you tried to delete is not empty"),
    (NoSpace, "InsufficientStorage", "The store behind this path has no room left."),
    (Lost, "ScratchLost", "The object was written to scratch, which lives in the cache alone, and its bytes are lost. "
     "Make it again, or delete it."),
    (CorruptData, "InternalError", "The bytes at hand did not match their checksum. Please try again."),
)  # fmt: skip


def _plain(error: HeadraceError, missing: str) -> tuple[str, str]:
    for kind, code, message in _SAID:
        if isinstance(error, kind):
            return code, message
    if isinstance(error, NotFound):
        return missing, _MESSAGES[missing]
    return "InternalError", "We encountered an internal error. Please try again."
