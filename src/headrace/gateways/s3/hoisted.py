"""Headers that a presigned URL carries in its query: some clients move every `x-amz-*` header there, and sign it so."""

from __future__ import annotations

from headrace.gateways.s3.context import Call
from headrace.gateways.s3.errors import S3Error

_OF_SIGNATURE = frozenset(
    f"x-amz-{name}" for name in ("algorithm", "credential", "date", "expires", "signedheaders", "signature", "content-sha256")
)


def request_headers(call: Call) -> dict[bytes, bytes]:
    """The request's headers, and those of its presigned URL. Raises `S3Error` where they contradict each other."""
    headers = call.request.headers
    if not call.target.has("X-Amz-Signature"):
        return headers
    merged = dict(headers)
    for given, value in call.target.query:
        name = given.lower()
        if not name.startswith("x-amz-") or name in _OF_SIGNATURE:
            continue
        raw = value.encode()
        if merged.setdefault(name.encode(), raw) != raw:
            raise S3Error("InvalidRequest", f"{name[:80]} is given twice, and not alike.")
    return merged
