"""Refusals in S3's own form: codes, statuses and XML, and our tree of errors translated into them."""

from __future__ import annotations

import math

from headrace.gateways.s3.xml import escape
from headrace.model.errors import (
    AccessDenied,
    CorruptData,
    HeadraceError,
    InvalidKey,
    InvalidRange,
    NotFound,
    ResidencyRefused,
    Throttled,
    Unavailable,
    Unsupported,
    VersionChanged,
)

_STATUSES = {
    "AccessDenied": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "BadDigest": 400,
    "BadRequest": 400,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "ExpiredToken": 400,
    "IncompleteBody": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidBucketName": 400,
    "InvalidChunkSizeError": 403,
    "InvalidDigest": 400,
    "InvalidPartNumber": 416,
    "InvalidPolicyDocument": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidToken": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedPOSTRequest": 400,
    "MaxMessageLengthExceeded": 400,
    "MaxPostPreDataLengthExceededError": 400,
    "MetadataTooLarge": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchVersion": 404,
    "NotImplemented": 501,
    "NotModified": 304,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "RequestTimeout": 400,
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
    detail = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in error.detail)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>{detail}"
        f"<Resource>{escape(resource)}</Resource><RequestId>{request_id}</RequestId><HostId>{escape(host_id)}</HostId></Error>"
    ).encode("utf-8", "replace")


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
    if isinstance(error, InvalidRange):
        return S3Error(
            code, message, detail=(("ActualObjectSize", str(error.size)),), fields=(("content-range", f"bytes */{error.size}"),)
        )
    return S3Error(code, message)


_MESSAGES = {
    "NoSuchKey": "The specified key does not exist.",
    "NoSuchBucket": "The specified bucket does not exist.",
    "NoSuchVersion": "The specified version does not exist.",
}


def _plain(error: HeadraceError, missing: str) -> tuple[str, str]:
    if isinstance(error, NotFound):
        return missing, _MESSAGES[missing]
    if isinstance(error, InvalidRange):
        return "InvalidRange", "The requested range is not satisfiable"
    if isinstance(error, AccessDenied):
        return "AccessDenied", "Access Denied: the store behind this path refused its own credentials."
    if isinstance(error, InvalidKey):
        return "InvalidArgument", "The store behind this path cannot hold such a key."
    if isinstance(error, Unsupported):
        return "NotImplemented", "The store behind this path cannot do that."
    if isinstance(error, VersionChanged):
        return "ServiceUnavailable", "The object keeps changing while it is read. Please try again."
    if isinstance(error, ResidencyRefused):
        return "ServiceUnavailable", "This path's bytes may live in memory only, and that cannot be had now."
    if isinstance(error, CorruptData):
        return "InternalError", "The bytes at hand did not match their checksum. Please try again."
    return "InternalError", "We encountered an internal error. Please try again."
