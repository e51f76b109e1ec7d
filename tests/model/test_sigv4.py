"""SigV4 agrees with botocore's signers, with AWS's published vectors and with the examples of the S3 documentation."""

from __future__ import annotations

import datetime
import hashlib
from unittest import mock
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.sigv4 import (
    SigningIdentity,
    UnsignedRequest,
    canonical_headers,
    canonical_path,
    canonical_query,
    presign_query,
    quote_path,
    quote_query,
    sign_headers,
    signing_key,
    split_query,
    time_stamp,
    unquote,
)

NOW = datetime.datetime(2026, 1, 31, 23, 59, 59, tzinfo=datetime.UTC)
NOW_S = NOW.timestamp()
IDENTITY = SigningIdentity("AKID", "secret/+key", "eu-central-1")
ODD_TEXT = st.text(
    alphabet=st.one_of(st.sampled_from("ab/.+ %~*'()!$&=;:@,?#é日\U0001f600"), st.characters(codec="utf-8")), max_size=40
)
QUERIES = st.lists(st.tuples(st.text(st.sampled_from("abA-+ %é="), min_size=1, max_size=6), ODD_TEXT), max_size=5)


def botocore_request(path: bytes, query: bytes) -> AWSRequest:
    url = "http://store.test:9000" + path.decode() + ("?" + query.decode() if query else "")
    return AWSRequest(method="GET", url=url, headers={"host": "store.test:9000", "range": "bytes=0-9"})


def botocore_signed(signer: type[S3SigV4Auth], request: AWSRequest, token: str, **options: int) -> AWSRequest:
    credentials = Credentials("AKID", "secret/+key", token or None)
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        signer(credentials, "s3", "eu-central-1", **options).add_auth(request)
    return request


@settings(max_examples=300, deadline=None)
@given(key=ODD_TEXT, query=QUERIES, token=st.sampled_from(["", "tok+en/=="]))
def test_signed_headers_equal_botocores(key: str, query: list[tuple[str, str]], token: str) -> None:
    pairs = tuple((name.encode(), value.encode()) for name, value in query)
    path = b"/bucket/" + quote_path(key.encode())
    theirs = botocore_signed(S3SigV4Auth, botocore_request(path, canonical_query(pairs)), token)
    headers = ((b"host", b"store.test:9000"), (b"range", b"bytes=0-9"))
    identity = SigningIdentity("AKID", "secret/+key", "eu-central-1", session_token=token)
    ours = dict(sign_headers(UnsignedRequest(b"GET", path, pairs, headers), identity, NOW_S))
    assert ours["authorization"].replace(",", ", ") == theirs.headers["Authorization"]


@settings(max_examples=200, deadline=None)
@given(key=ODD_TEXT, query=QUERIES, expires_s=st.integers(1, 604800), token=st.sampled_from(["", "tok+en/=="]))
def test_presigned_queries_equal_botocores(key: str, query: list[tuple[str, str]], expires_s: int, token: str) -> None:
    # botocore merges repeated names when it presigns, so names are made distinct.
    pairs = tuple((f"{index}{name}".encode(), value.encode()) for index, (name, value) in enumerate(query))
    path = b"/bucket/" + quote_path(key.encode())
    request = AWSRequest(
        method="GET", url="http://store.test:9000" + path.decode() + "?" + canonical_query(pairs).decode(), headers={}
    )
    theirs = botocore_signed(S3SigV4QueryAuth, request, token, expires=expires_s)
    identity = SigningIdentity("AKID", "secret/+key", "eu-central-1", session_token=token)
    unsigned = UnsignedRequest(b"GET", path, pairs, ((b"host", b"store.test:9000"),))
    ours = presign_query(unsigned, identity, NOW_S, expires_s=expires_s)
    assert sorted(split_query(ours)) == sorted(split_query(urlsplit(theirs.url).query.encode()))


VECTORS = {
    "vanilla": (b"GET", b"/", (), (), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "relative": (b"GET", b"/example/..", (), (), "eca7ead57bb5aa5c8e28007acd4ff04e1ff9a0ff3b237ec1554a184887ff9282"),
    "relative twice": (
        b"GET",
        b"/example1/example2/../..",
        (),
        (),
        "dc33e0856fd4baca4d7aa2146c38958283844764f38c74252a333df5e613003b",
    ),
    "dot": (b"GET", b"/./", (), (), "68714168e6557f8f2de0ef956fc24dc2593a4bd2961f8df51898d8a134695145"),
    "pointless dot": (b"GET", b"/./example", (), (), "beb03f223f7deae4146464f06e29eebbee9c8afbe15c290cf07aa8b119e14cff"),
    "two slashes": (b"GET", b"//", (), (), "c88bcd3d312d75078c0cd961d6deae3f4c754924b01669efcfcb439fd5e5b76e"),
    "slashes": (b"GET", b"//example//", (), (), "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5"),
    "space": (b"GET", b"/example space/", (), (), "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
}


@pytest.mark.parametrize(("method", "path", "query", "headers", "expected"), VECTORS.values(), ids=VECTORS.keys())
def test_published_vectors_that_normalise_nothing(
    method: bytes, path: bytes, query: tuple[()], headers: tuple[()], expected: str
) -> None:
    identity = SigningIdentity("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", service="service")
    request = UnsignedRequest(method, canonical_path(path), query, ((b"host", b"example.amazonaws.com"), *headers))
    now_s = datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.UTC).timestamp()
    assert dict(sign_headers(request, identity, now_s))["authorization"].endswith(f"Signature={expected}")


S3_IDENTITY = SigningIdentity("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
S3_HOST = (b"host", b"examplebucket.s3.amazonaws.com")
S3_NOW_S = datetime.datetime(2013, 5, 24, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("path", "query", "headers", "expected"),
    [
        (b"/test.txt", (), ((b"range", b"bytes=0-9"),), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        (b"/", ((b"lifecycle", b""),), (), "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (b"/", ((b"max-keys", b"2"), (b"prefix", b"J")), (), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
    ids=["object", "lifecycle", "list"],
)
def test_examples_of_the_s3_documentation(
    path: bytes, query: tuple[tuple[bytes, bytes], ...], headers: tuple[tuple[bytes, bytes], ...], expected: str
) -> None:
    request = UnsignedRequest(b"GET", path, query, (S3_HOST, *headers))
    assert dict(sign_headers(request, S3_IDENTITY, S3_NOW_S))["authorization"].endswith(f"Signature={expected}")


def test_presigned_example_of_the_s3_documentation() -> None:
    query = presign_query(UnsignedRequest(b"GET", b"/test.txt", (), (S3_HOST,)), S3_IDENTITY, S3_NOW_S, expires_s=86400)
    assert query.endswith(b"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@given(st.binary(max_size=60))
def test_quoting_is_undone_exactly(data: bytes) -> None:
    assert unquote(quote_query(data)) == unquote(quote_path(data)) == data


@given(st.binary(max_size=60))
def test_a_canonical_path_stays_as_it_is(data: bytes) -> None:
    once = canonical_path(b"/" + data.replace(b"?", b""))
    assert canonical_path(once) == once


def test_a_path_encoded_more_or_less_than_needed_has_one_canonical_form() -> None:
    assert canonical_path(b"/a!b") == canonical_path(b"/a%21b") == canonical_path(b"/%61%21b") == b"/a%21b"
    assert canonical_path(b"/a%2fb") == b"/a/b"
    assert canonical_path(b"/a%252Fb") == b"/a%252Fb"
    assert canonical_path(b"") == b"/"


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.binary(max_size=9)), max_size=6))
def test_a_query_is_read_back_as_it_was_written(pairs: list[tuple[bytes, bytes]]) -> None:
    assert sorted(split_query(canonical_query(pairs))) == sorted(pairs)


def test_plus_in_a_query_is_a_space() -> None:
    assert split_query(b"a+b=c+d&e&f=%2B") == [(b"a b", b"c d"), (b"e", b""), (b"f", b"+")]


def test_header_values_are_trimmed_and_repeated_names_joined() -> None:
    lines, names = canonical_headers([(b"x-b", b"  two   spaces "), (b"x-a", b"1"), (b"x-b", b"3")])
    assert lines == b"x-a:1\nx-b:two spaces,3\n"
    assert names == b"x-a;x-b"


def test_repeated_header_values_keep_their_order_and_their_repeats() -> None:
    lines, names = canonical_headers([(b"x-v", b"pear"), (b"x-v", b"fig"), (b"x-v", b" pear"), (b"x-v", b"Apple,fig")])
    assert lines == b"x-v:pear,fig,pear,Apple,fig\n"
    assert names == b"x-v"


def test_spaces_within_quotes_are_no_exception_and_case_is_kept() -> None:
    assert canonical_headers([(b"x-q", b' "New   York" ')])[0] == b'x-q:"New York"\n'


def test_a_query_is_sorted_by_its_encoded_bytes_with_repeats_by_value() -> None:
    raw = b"b=1&a=2&B=3&a=10&%C3%A9=4&-x=5&a="
    assert canonical_query(split_query(raw)) == b"%C3%A9=4&-x=5&B=3&a=&a=10&a=2&b=1"
    assert canonical_query(split_query(b"k~y=%7E&sp=a%20b&e")) == b"e=&k~y=~&sp=a%20b"


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-www-form-urlencoded", "content-length": "11"},
        {"content-type": "application/x-www-form-urlencoded; charset=utf-8", "content-length": "11"},
        {"X-Zebra": "STRIPES", "x-Ant": "six  legs", "X-zoo": '"a   b"'},
    ],
    ids=["form", "form with a parameter", "names in any case"],
)
def test_a_signed_body_and_its_headers_equal_botocores(headers: dict[str, str]) -> None:
    body = b"colour=blue"
    request = AWSRequest("POST", "http://store.test:9000/bucket", headers={"host": "store.test:9000", **headers}, data=body)
    request.context["payload_signing_enabled"] = True
    theirs = botocore_signed(S3SigV4Auth, request, "")
    mine = tuple((name.lower().encode(), value.encode()) for name, value in headers.items())
    unsigned = UnsignedRequest(
        b"POST", b"/bucket", (), ((b"host", b"store.test:9000"), *mine), hashlib.sha256(body).hexdigest().encode()
    )
    added = dict(sign_headers(unsigned, IDENTITY, NOW_S))
    assert added["x-amz-content-sha256"] == theirs.headers["X-Amz-Content-SHA256"]
    assert added["authorization"].replace(",", ", ") == theirs.headers["Authorization"]


def test_the_key_is_made_once_a_day_and_region() -> None:
    signing_key.cache_clear()
    assert signing_key("s", "20260131", "r") != signing_key("s", "20260201", "r") != signing_key("s", "20260201", "q")
    signing_key("s", "20260131", "r")
    assert signing_key.cache_info().hits == 1


def test_no_secret_is_shown() -> None:
    assert "secret" not in repr(IDENTITY).replace("secret=", "")
    assert IDENTITY.secret not in repr(IDENTITY)
    assert time_stamp(0) == "19700101T000000Z"
