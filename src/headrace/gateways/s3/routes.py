"""The table of operations: method × bucket or object × sub-resource. What is not in it is not done.

A query parameter that no operation of the table knows is refused with `NotImplemented`, so that no
answer ever ignores what was asked; only parameters that begin with `x-` are free for callers' logs.
"""

from __future__ import annotations

from collections.abc import Container
from enum import StrEnum

import msgspec

from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.target import Target
from headrace.policy.rules import Action


class Level(StrEnum):
    """What the path names."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


class Operation(StrEnum):
    """What is done, by S3's names."""

    LIST_BUCKETS = "ListBuckets"
    HEAD_BUCKET = "HeadBucket"
    CREATE_BUCKET = "CreateBucket"
    DELETE_BUCKET = "DeleteBucket"
    GET_BUCKET_ACL = "GetBucketAcl"
    PUT_BUCKET_ACL = "PutBucketAcl"
    GET_OBJECT_ACL = "GetObjectAcl"
    PUT_OBJECT_ACL = "PutObjectAcl"
    GET_BUCKET_LOCATION = "GetBucketLocation"
    GET_BUCKET_VERSIONING = "GetBucketVersioning"
    LIST_OBJECTS = "ListObjects"
    LIST_OBJECTS_V2 = "ListObjectsV2"
    LIST_OBJECT_VERSIONS = "ListObjectVersions"
    LIST_MULTIPART_UPLOADS = "ListMultipartUploads"
    GET_OBJECT = "GetObject"
    HEAD_OBJECT = "HeadObject"
    GET_OBJECT_ATTRIBUTES = "GetObjectAttributes"
    GET_OBJECT_TAGGING = "GetObjectTagging"
    PUT_OBJECT_TAGGING = "PutObjectTagging"
    DELETE_OBJECT_TAGGING = "DeleteObjectTagging"
    PUT_OBJECT = "PutObject"
    POST_OBJECT = "PostObject"
    COPY_OBJECT = "CopyObject"
    DELETE_OBJECT = "DeleteObject"
    DELETE_OBJECTS = "DeleteObjects"
    CREATE_MULTIPART_UPLOAD = "CreateMultipartUpload"
    UPLOAD_PART = "UploadPart"
    UPLOAD_PART_COPY = "UploadPartCopy"
    COMPLETE_MULTIPART_UPLOAD = "CompleteMultipartUpload"
    ABORT_MULTIPART_UPLOAD = "AbortMultipartUpload"
    LIST_PARTS = "ListParts"
    NOT_IMPLEMENTED = "NotImplemented"


class Route(msgspec.Struct, frozen=True):
    """One row. `subresource` is the query parameter that selects it; `parameters` are those it takes.

    `header`, where there is one, selects it before the row that is otherwise the same.
    """

    method: str
    level: Level
    subresource: str
    operation: Operation
    action: Action
    parameters: frozenset[str] = frozenset()
    header: bytes = b""

    @property
    def writes(self) -> bool:
        """Whether it is there to change something."""
        return self.method in WRITE_METHODS


_LISTING = frozenset(("prefix", "delimiter", "max-keys", "encoding-type"))
_OVERRIDES = (
    "response-content-type", "response-content-language", "response-expires", "response-cache-control",
    "response-content-disposition", "response-content-encoding",
)  # fmt: skip
_OBJECT = frozenset(("versionId", "partNumber", *_OVERRIDES))
_VERSION = frozenset(("versionId",))
_PART = frozenset(("partNumber",))
_COPY = b"x-amz-copy-source"

WRITE_METHODS = ("PUT", "POST", "DELETE")
METHODS = ("GET", "HEAD", *WRITE_METHODS)

ROUTES: tuple[Route, ...] = (
    Route(
        "GET", Level.SERVICE, "", Operation.LIST_BUCKETS, Action.LIST,
        frozenset(("max-buckets", "continuation-token", "prefix", "bucket-region")),
    ),
    Route("HEAD", Level.BUCKET, "", Operation.HEAD_BUCKET, Action.LIST),
    Route("PUT", Level.BUCKET, "", Operation.CREATE_BUCKET, Action.WRITE),
    Route("DELETE", Level.BUCKET, "", Operation.DELETE_BUCKET, Action.WRITE),
    Route("GET", Level.BUCKET, "acl", Operation.GET_BUCKET_ACL, Action.LIST),
    Route("PUT", Level.BUCKET, "acl", Operation.PUT_BUCKET_ACL, Action.WRITE),
    Route("GET", Level.BUCKET, "location", Operation.GET_BUCKET_LOCATION, Action.LIST),
    Route("GET", Level.BUCKET, "versioning", Operation.GET_BUCKET_VERSIONING, Action.LIST),
    Route(
        "GET", Level.BUCKET, "list-type", Operation.LIST_OBJECTS_V2, Action.LIST,
        _LISTING | {"continuation-token", "start-after", "fetch-owner"},
    ),
    Route("GET", Level.BUCKET, "", Operation.LIST_OBJECTS, Action.LIST, _LISTING | {"marker"}),
    Route(
        "GET", Level.BUCKET, "versions", Operation.LIST_OBJECT_VERSIONS, Action.LIST,
        _LISTING | {"key-marker", "version-id-marker"},
    ),
    Route(
        "GET", Level.BUCKET, "uploads", Operation.LIST_MULTIPART_UPLOADS, Action.LIST,
        frozenset(("prefix", "delimiter", "encoding-type", "key-marker", "upload-id-marker", "max-uploads")),
    ),
    Route("POST", Level.BUCKET, "", Operation.POST_OBJECT, Action.WRITE),
    Route("POST", Level.BUCKET, "delete", Operation.DELETE_OBJECTS, Action.WRITE),
    Route("GET", Level.OBJECT, "attributes", Operation.GET_OBJECT_ATTRIBUTES, Action.READ, _VERSION),
    Route("GET", Level.OBJECT, "acl", Operation.GET_OBJECT_ACL, Action.READ, _VERSION),
    Route("PUT", Level.OBJECT, "acl", Operation.PUT_OBJECT_ACL, Action.WRITE, _VERSION),
    Route("GET", Level.OBJECT, "tagging", Operation.GET_OBJECT_TAGGING, Action.READ, _VERSION),
    Route("PUT", Level.OBJECT, "tagging", Operation.PUT_OBJECT_TAGGING, Action.WRITE, _VERSION),
    Route("DELETE", Level.OBJECT, "tagging", Operation.DELETE_OBJECT_TAGGING, Action.WRITE, _VERSION),
    Route("GET", Level.OBJECT, "", Operation.GET_OBJECT, Action.READ, _OBJECT),
    Route("HEAD", Level.OBJECT, "", Operation.HEAD_OBJECT, Action.READ, _OBJECT),
    Route("PUT", Level.OBJECT, "", Operation.PUT_OBJECT, Action.WRITE),
    Route("PUT", Level.OBJECT, "", Operation.COPY_OBJECT, Action.WRITE, header=_COPY),
    Route("DELETE", Level.OBJECT, "", Operation.DELETE_OBJECT, Action.WRITE, _VERSION),
    Route("POST", Level.OBJECT, "uploads", Operation.CREATE_MULTIPART_UPLOAD, Action.WRITE),
    Route("PUT", Level.OBJECT, "uploadId", Operation.UPLOAD_PART, Action.WRITE, _PART),
    Route("PUT", Level.OBJECT, "uploadId", Operation.UPLOAD_PART_COPY, Action.WRITE, _PART, _COPY),
    Route("POST", Level.OBJECT, "uploadId", Operation.COMPLETE_MULTIPART_UPLOAD, Action.WRITE),
    Route("DELETE", Level.OBJECT, "uploadId", Operation.ABORT_MULTIPART_UPLOAD, Action.WRITE),
    Route(
        "GET", Level.OBJECT, "uploadId", Operation.LIST_PARTS, Action.WRITE,
        frozenset(("max-parts", "part-number-marker", "encoding-type")),
    ),
)  # fmt: skip

_BY_PLACE: dict[tuple[str, Level, str, bytes], Route] = {(r.method, r.level, r.subresource, r.header): r for r in ROUTES}
_SELECTORS: dict[tuple[str, Level], tuple[str, ...]] = {
    (m, lv): tuple(sorted({r.subresource for r in ROUTES if r.subresource and (r.method, r.level) == (m, lv)}))
    for m in METHODS
    for lv in Level
}


def find_route(method: str, target: Target, headers: Container[bytes] = ()) -> Route:
    """The row for a request; a `NOT_IMPLEMENTED` row for what S3 has and we have not.

    Raises `S3Error` for a method that S3 does not have.
    """
    if method not in METHODS:
        raise S3Error("MethodNotAllowed", "The specified method is not allowed against this resource.")
    level = Level.OBJECT if target.key else Level.BUCKET if target.bucket else Level.SERVICE
    given = {name for name, _ in target.query}
    chosen = [name for name in _SELECTORS[method, level] if name in given]
    place = (method, level, chosen[0] if chosen else "")
    route = _BY_PLACE.get((*place, _COPY)) if _COPY in headers else None
    route = route or _BY_PLACE.get((*place, b""))
    if route is None or len(chosen) > 1 or any(not _known(name, route) for name in given):
        action = Action.WRITE if method in WRITE_METHODS else Action.READ if level is Level.OBJECT else Action.LIST
        return Route(method, level, "", Operation.NOT_IMPLEMENTED, action)
    return route


def _known(name: str, route: Route) -> bool:
    return name == route.subresource or name in route.parameters or name[:2] in ("x-", "X-")
