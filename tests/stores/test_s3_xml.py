"""S3's XML: parsed in pieces of any size, refused when it is not what it should be."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import CorruptData
from headrace.stores.s3_write_xml import parse_buckets
from headrace.stores.s3_xml import parse_error, parse_tags, parse_time, part_count


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    assert parse_error(body).code == ""
    for parser in (parse_tags, parse_buckets):
        with contextlib.suppress(CorruptData):
            parser(body)


def test_an_error_is_read() -> None:
    body = b"<Error><Code>InvalidRange</Code><Message>not\n good</Message><ActualObjectSize>7</ActualObjectSize></Error>"
    found = parse_error(body)
    assert (found.code, found.message, found.actual_size) == ("InvalidRange", "not good", 7)


def test_tags_are_sorted_and_may_be_empty() -> None:
    body = b"<Tagging><TagSet><Tag><Key>b</Key><Value>2</Value></Tag><Tag><Key>a</Key><Value></Value></Tag></TagSet></Tagging>"
    assert parse_tags(body) == (("a", ""), ("b", "2"))
    assert parse_tags(b"<Tagging><TagSet/></Tagging>") == ()


def test_buckets_are_read() -> None:
    buckets = b"<Buckets><Bucket><Name>b</Name></Bucket><Bucket><Name>a</Name></Bucket></Buckets>"
    body = b"<ListAllMyBucketsResult><Owner><ID>x</ID></Owner>" + buckets + b"</ListAllMyBucketsResult>"
    assert [bucket.name for bucket in parse_buckets(body)] == ["a", "b"]


def test_parts_and_times_that_cannot_be_read_are_nothing() -> None:
    assert [part_count(etag) for etag in ("abc-12", "abc", "abc-x", "-", "")] == [12, 0, 0, 0, 0]
    assert parse_time("yesterday") == 0.0
