"""No write acknowledges a header that it does not honour; generated from the table of operations."""

from __future__ import annotations

import pytest

from headrace.gateways.s3.accepted import UNSUPPORTED_HEADERS, check_expected_owner, check_headers
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.operations import OPERATIONS
from headrace.gateways.s3.routes import ROUTES, Route, find_route
from headrace.gateways.s3.target import Target

WRITES = [route for route in ROUTES if route.writes]


@pytest.mark.parametrize("route", WRITES, ids=lambda route: route.operation.value)
@pytest.mark.parametrize(
    "name", ["x-amz-invented", "x-amz-grant-read", "x-amz-object-lock-mode", "x-amz-website-redirect-location",
     "if-modified-since",
             *sorted(name.decode() for name in UNSUPPORTED_HEADERS)],
)  # fmt: skip
def test_a_header_that_is_not_honoured_is_refused(route: Route, name: str) -> None:
    with pytest.raises(S3Error) as caught:
        check_headers(route, {name.encode(): b"x"})
    assert (caught.value.code, caught.value.detail) == ("NotImplemented", (("Header", name),))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation.value)
def test_every_row_is_found_and_done(route: Route) -> None:
    bucket, key = {"service": ("", ""), "bucket": ("b", ""), "object": ("b", "k")}[route.level.value]
    query = ((route.subresource, ""),) if route.subresource else ()
    assert find_route(route.method, Target(bucket, key, query), {route.header} if route.header else ()) is route
    assert route.operation in OPERATIONS


def test_somebody_elses_bucket_is_not_written_to() -> None:
    check_expected_owner({}, "headrace")
    for name in (b"x-amz-expected-bucket-owner", b"x-amz-source-expected-bucket-owner"):
        check_headers(WRITES[0], {name: b"headrace"})
        check_expected_owner({name: b"headrace"}, "headrace", name)
        with pytest.raises(S3Error) as caught:
            check_expected_owner({name: b"somebody"}, "headrace", name)
        assert (caught.value.code, caught.value.audited) == ("AccessDenied", True)


@pytest.mark.parametrize("route", WRITES, ids=lambda route: route.operation.value)
def test_the_one_version_of_the_api_may_be_named(route: Route) -> None:
    check_headers(route, {b"x-amz-api-version": b"2006-03-01"})
    with pytest.raises(S3Error) as caught:
        check_headers(route, {b"x-amz-api-version": b"2031-01-01"})
    assert caught.value.code == "NotImplemented"


def test_the_directive_of_copies_is_taken_where_there_is_a_source_and_for_copies_in_parts() -> None:
    taken = {route.operation.value for route in WRITES if not _refuses(route, b"x-amz-metadata-directive")}
    assert taken == {"CopyObject", "CreateMultipartUpload"}


def _refuses(route: Route, name: bytes) -> bool:
    try:
        check_headers(route, {name: b"COPY"})
    except S3Error:
        return True
    return False
