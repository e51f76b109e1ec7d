"""Listings: read exactly however they come, and by the quick expression only where the XML parser would read the same."""

from __future__ import annotations

import contextlib
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.model.errors import CorruptData
from headrace.model.objects import CommonPrefix, ObjectInfo
from headrace.stores.s3_list_xml import GeneralListParser, ListPage, ListParser, plain_page

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
def test_any_bytes_are_a_listing_or_refused(body: bytes) -> None:
    with contextlib.suppress(CorruptData):
        parse(body)


LEAVES = {
    "Key": ["a", "b%2Fc", "d+e", "%C3%BC", "f%", ""],
    "Size": ["0", "12", "9" * 19, "9" * 20, "-1", ""],
    "ETag": ["&quot;aa-2&quot;", "&#34;bb&#34;", '"cc"', "dd", '""ee"', "&amp;", ""],
    "LastModified": ["2026-01-31T23:59:59.000Z", "yesterday", ""],
    "StorageClass": ["STANDARD", ""],
    "Type": ["Normal"],
}
SOME = ["<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>", ""]
TOPS = [
    "<EncodingType>url</EncodingType>", "<IsTruncated>true</IsTruncated>", "<IsTruncated>false</IsTruncated>", "<Name>b</Name>",
    "<NextContinuationToken>t/1</NextContinuationToken>", "<Prefix/>", "<Prefix></Prefix>",
]  # fmt: skip
ODD = [
    *TOPS, "<", ">", "&", "&amp;", "&#x1;", "\x01", "\r", "\n", " ", "]]>", "<!-- c -->", "<![CDATA[x]]>", "<?pi?>", "é",
    "\ufeff", "</Contents>", "%",
    "<Contents>", "<Contents/>", "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>", "<x:Key>k</x:Key>",
    "<Key a='b'>k</Key>", "<Size>7</Size>",
    "<Owner><ID>o</ID></Owner>", "<Key/>", "<!DOCTYPE x [<!ENTITY a 'b'>]>", "</ListBucketResult>", "<ListBucketResult>",
    "<Name>", "</Name>",
]  # fmt: skip
ROOTS = [
    "<ListBucketResult>",
    '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
    '<?xml version="1.0" encoding="ISO-8859-1"?><ListBucketResult>',
]


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Listings as services send them, with something odd in most of them."""
    names = draw(st.permutations([*draw(st.lists(st.sampled_from([*LEAVES, "Owner"]), unique=True, max_size=6)), "Key", "Size"]))
    names = list(dict.fromkeys(names)) if draw(st.booleans()) else names
    text = draw(st.sampled_from(ROOTS)) + "".join(draw(st.lists(st.sampled_from(TOPS), max_size=4)))
    for _ in range(draw(st.integers(0, 4))):
        inner = ""
        for name in names:
            leaf = "<ID>o</ID><DisplayName></DisplayName>" if name == "Owner" else draw(st.sampled_from(LEAVES[name]))
            inner += f"<{name}>{leaf}</{name}>" + (draw(st.sampled_from(SOME)) if name == "ETag" else "")
        text += f"<Contents>{inner}</Contents>"
    text += (
        "".join(draw(st.lists(st.sampled_from(TOPS), max_size=4)))
        + "</ListBucketResult>"
        + draw(st.sampled_from(["", "\n", " "]))
    )
    for odd in draw(st.lists(st.sampled_from(ODD), max_size=2)):
        at, cut = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
        text = text[:at] + odd + text[at + cut :]
    return text.encode()


def general(body: bytes) -> ListPage | None:
    parser = GeneralListParser()
    try:
        parser.feed(body)
        return parser.finish()
    except CorruptData:
        return None


@settings(deadline=None, max_examples=1500)
@given(bodies())
@example(
    b"<ListBucketResult><Name><Contents><Key>k</Key><Size>1</Size></Contents></Name><IsTruncated>true</IsTruncated></ListBucketResult>"
)
@example(
    b"<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>"
    + b"k" * 16385
    + b"</Key><Size>1</Size></Contents></ListBucketResult>"
)
@example(
    b"<ListBucketResult><IsTruncated>true</IsTruncated>"
    + b"<Contents><Key>k</Key><Size>1</Size></Contents>" * 20_001
    + b"</ListBucketResult>"
)
def test_what_is_read_without_the_xml_parser_is_what_that_reads(body: bytes) -> None:
    try:
        page = plain_page(body)
    except CorruptData:
        assert general(body) is None
    else:
        assert page is None or page == general(body)


@pytest.mark.parametrize(
    "entry",
    [
        "<Key>{key}</Key><LastModified>{time}</LastModified><ETag>&quot;{etag}&quot;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass>",
        "<Key>{key}</Key><LastModified>{time}</LastModified><ETag>&quot;{etag}&quot;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass>"
        "<Owner><ID>u</ID><DisplayName>U</DisplayName></Owner><Type>Normal</Type>",
        "<Key>{key}</Key><ETag>&#34;{etag}&#34;</ETag><Size>5</Size><Owner><ID></ID></Owner><StorageClass>STANDARD</StorageClass>"
        "<LastModified>{time}</LastModified>",
        "<Key>{key}</Key><LastModified>{time}</LastModified><ETag>&quot;{etag}&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
        "<Size>5</Size><StorageClass>STANDARD</StorageClass>",
    ],
)  # fmt: skip
def test_the_forms_that_services_send_need_no_xml_parser(entry: str) -> None:
    row = "<Contents>" + entry.format(key="a%2Fb+c", time="2026-01-31T23:59:59Z", etag="0" * 30 + "a-3") + "</Contents>"
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
        f"<Prefix></Prefix><MaxKeys>2</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>{row}"
        f"{row.replace('a%2Fb', 'c')}<NextContinuationToken>t</NextContinuationToken><KeyCount>2</KeyCount></ListBucketResult>"
    ).encode()
    page = plain_page(body)
    assert page is not None and page == general(body)
    first = page.entries[0]
    assert isinstance(first, ObjectInfo)
    assert (first.key, first.size, first.parts, first.storage_class, first.modified_s) == (
        "a/b c",
        5,
        3,
        "STANDARD",
        1769903999.0,
    )
    assert (page.entries[1].key, page.truncated, page.token) == ("c c", True, "t")


def test_an_answer_of_many_megabytes_is_read_as_it_comes() -> None:
    keys = [f"{number:05d}-" + "x" * 900 for number in range(6000)]
    assert [entry.key for entry in parse(listing(keys), 1 << 16).entries] == keys
