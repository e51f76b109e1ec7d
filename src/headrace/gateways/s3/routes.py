"""The table of operations: method × bucket or object × sub-resource. What is not in it is not done.

A query parameter that no operation of the table knows is refused with `NotImplemented`, so that no
answer ever ignores what was asked; only parameters that begin with `x-` are free for callers' logs.
"""

from __future__ import annotations

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
    GET_BUCKET_LOCATION = "GetBucketLocation"
    GET_BUCKET_VERSIONING = "GetBucketVersioning"
    LIST_OBJECTS = "ListObjects"
    LIST_OBJECTS_V2 = "ListObjectsV2"
    GET_OBJECT = "GetObject"
    HEAD_OBJECT = "HeadObject"
    GET_OBJECT_ATTRIBUTES = "GetObjectAttributes"
    GET_OBJECT_TAGGING = "GetObjectTagging"
    NOT_IMPLEMENTED = "NotImplemented"


class Route(msgspec.Struct, frozen=True):
    """One row. `subresource` is the query parameter that selects it; `parameters` are those it takes."""

    method: str
    level: Level
    subresource: str
    operation: Operation
    action: Action
    parameters: frozenset[str] = frozenset()


_LISTING = frozenset(("prefix", "delimiter", "max-keys", "encoding-type"))
_OVERRIDES = (
    "response-content-type", "response-content-language", "response-expires", "response-cache-control",
    "response-content-disposition", "response-content-encoding",
)  # fmt: skip
_OBJECT = frozenset(("versionId", "partNumber", *_OVERRIDES))
_VERSION = frozenset(("versionId",))

ROUTES: tuple[Route, ...] = (
    Route("GET", Level.SERVICE, "", Operation.LIST_BUCKETS, Action.LIST),
    Route("HEAD", Level.BUCKET, "", Operation.HEAD_BUCKET, Action.LIST),
    Route("GET", Level.BUCKET, "location", Operation.GET_BUCKET_LOCATION, Action.LIST),
    Route("GET", Level.BUCKET, "versioning", Operation.GET_BUCKET_VERSIONING, Action.LIST),
    Route(
        "GET", Level.BUCKET, "list-type", Operation.LIST_OBJECTS_V2, Action.LIST,
        _LISTING | {"continuation-token", "start-after", "fetch-owner"},
    ),
    Route("GET", Level.BUCKET, "", Operation.LIST_OBJECTS, Action.LIST, _LISTING | {"marker"}),
    Route("GET", Level.OBJECT, "attributes", Operation.GET_OBJECT_ATTRIBUTES, Action.READ, _VERSION),
    Route("GET", Level.OBJECT, "tagging", Operation.GET_OBJECT_TAGGING, Action.READ, _VERSION),
    Route("GET", Level.OBJECT, "", Operation.GET_OBJECT, Action.READ, _OBJECT),
    Route("HEAD", Level.OBJECT, "", Operation.HEAD_OBJECT, Action.READ, _OBJECT),
)  # fmt: skip

UNSUPPORTED_HEADERS = frozenset(
    (
        b"x-amz-expected-bucket-owner",
        b"x-amz-server-side-encryption",
        b"x-amz-server-side-encryption-aws-kms-key-id",
        b"x-amz-server-side-encryption-bucket-key-enabled",
        b"x-amz-server-side-encryption-context",
        b"x-amz-server-side-encryption-customer-algorithm",
        b"x-amz-server-side-encryption-customer-key",
        b"x-amz-server-side-encryption-customer-key-md5",
    )
)
WRITE_METHODS = ("PUT", "POST", "DELETE")
METHODS = ("GET", "HEAD", *WRITE_METHODS)
_BY_PLACE: dict[tuple[str, Level, str], Route] = {(r.method, r.level, r.subresource): r for r in ROUTES}
_SELECTORS: dict[tuple[str, Level], tuple[str, ...]] = {
    (m, lv): tuple(r.subresource for r in ROUTES if r.subresource and (r.method, r.level) == (m, lv))
    for m in METHODS
    for lv in Level
}


def find_route(method: str, target: Target) -> Route:
    """The row for a request; a `NOT_IMPLEMENTED` row for what S3 has and we have not.

    Raises `S3Error` for a method that S3 does not have.
    """
    if method not in METHODS:
        raise S3Error("MethodNotAllowed", "The specified method is not allowed against this resource.")
    level = Level.OBJECT if target.key else Level.BUCKET if target.bucket else Level.SERVICE
    if method in WRITE_METHODS:
        return Route(method, level, "", Operation.NOT_IMPLEMENTED, Action.WRITE)
    given = {name for name, _ in target.query}
    chosen = [name for name in _SELECTORS[method, level] if name in given]
    route = _BY_PLACE.get((method, level, chosen[0] if chosen else ""))
    action = Action.READ if level is Level.OBJECT else Action.LIST
    if route is None or len(chosen) > 1 or any(not _known(name, route) for name in given):
        return Route(method, level, "", Operation.NOT_IMPLEMENTED, action)
    return route


def _known(name: str, route: Route) -> bool:
    return name == route.subresource or name in route.parameters or name[:2] in ("x-", "X-")


def check_unsupported_headers(headers: dict[bytes, bytes]) -> None:
    """Raises `S3Error` for headers that change what a read means and that we do not honour."""
    for name in UNSUPPORTED_HEADERS:
        if name in headers:
            raise S3Error(
                "NotImplemented", "A header you provided implies functionality that is not implemented",
                detail=(("Header", name.decode()),),
            )  # fmt: skip
