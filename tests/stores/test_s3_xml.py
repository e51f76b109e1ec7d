"""S3's XML: parsed in pieces of any size, refused when it is not what it should be."""

from __future__ import annotations

import contextlib
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.errors import CorruptData
from headrace.model.objects import CommonPrefix, ObjectInfo
from headrace.stores.s3_write_xml import parse_buckets
from headrace.stores.s3_xml import ListPage, ListParser, parse_error, parse_tags, parse_time, part_count

KEYS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), max_size=6)


def listing(keys: list[str], *, extra: str = "") -> bytes:
    rows = "".join(
        f"<Contents><Key>{quote_plus(key)}</Key><Size>{index}</Size><ETag>&quot;e{index}-2&quot;</ETag>"
        "<LastModified>2026-01-31T23:59:59.000Z</LastModified><Owner><ID>o</ID></Owner></Contents>"
        for index, key in enumerate(keys)
    )
    head = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return (head + f"<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{extra}{rows}</ListBucketResult>").encode()


def parse(data: bytes, step: int = 1 << 20) -> ListPage:
    parser = ListParser()
    for start in range(0, len(data), step):
        parser.feed(data[start : start + step])
    return parser.finish()


@settings(deadline=None)
@given(KEYS, st.integers(1, 50))
def test_keys_come_back_exactly_however_the_body_is_cut(keys: list[str], step: int) -> None:
    page = parse(listing(keys), step)
    assert [entry.key for entry in page.entries] == keys
    for entry in page.entries:
        assert isinstance(entry, ObjectInfo)
        assert (entry.parts, entry.modified_s) == (2, 1769903999.0)
        assert entry.version.token == f"etag:{entry.etag}"


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=9), st.integers(1, 30))
def test_an_echo_that_xml_cannot_hold_does_not_break_the_listing(echo: str, step: int) -> None:
    raw = "".join(f"&#x{ord(char):02x};" if ord(char) < 32 else char for char in escape(echo))
    for form in (raw, escape(echo)):
        assert [entry.key for entry in parse(listing(["k"], extra=f"<StartAfter>{form}</StartAfter>"), step).entries] == ["k"]


def test_a_key_that_xml_cannot_hold_is_not_guessed() -> None:
    entry = b"<Contents><Key>a&#x1;</Key><Size>1</Size></Contents>"
    with pytest.raises(CorruptData):
        parse(b"<ListBucketResult><IsTruncated>false</IsTruncated>" + entry + b"</ListBucketResult>")


def test_prefixes_and_continuation_are_read() -> None:
    body = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;1</NextContinuationToken>"
        b"<CommonPrefixes><Prefix>a+b/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes></ListBucketResult>"
    )
    page = parse(body)
    assert page.entries == (CommonPrefix("a+b/"), CommonPrefix("c/"))
    assert (page.truncated, page.token) == (True, "t&1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"<ListBucketResult></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>false</IsTruncated>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        b"<!DOCTYPE x SYSTEM 'http://127.0.0.1/x'><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        b"<a>" * 100,
        b"<ListBucketResult><IsTruncated>" + b"x" * 100_000,
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Size>1</Size></Contents></ListBucketResult>",
        b"<Error><Code>InternalError</Code></Error>",
    ],
)
def test_what_is_no_listing_is_refused(body: bytes) -> None:
    with pytest.raises(CorruptData):
        parse(body)


def test_a_listing_of_far_too_many_is_refused() -> None:
    with pytest.raises(CorruptData, match="far more"):
        parse(listing(["k"] * 20_001))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    assert parse_error(body).code == ""
    for parser in (parse, parse_tags, parse_buckets):
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
