"""Signatures: published examples, and whatever botocore signs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.gateways.http.head import HeadParser
from headrace.gateways.http.messages import BadFraming, Request
from headrace.gateways.s3.auth import Authenticator
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.keys import KeyRing
from headrace.model.sigv4 import EMPTY_SHA256
from support.gateway import KEY_ID, SECRET, signed_request

EXAMPLE = KeyRing({"AKIAIOSFODNN7EXAMPLE": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"})
EXAMPLE_TIME = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
EXAMPLE_HOST = b"examplebucket.s3.amazonaws.com"


def example(path: bytes, query: bytes, signed: bytes, signature: bytes, **headers: bytes) -> Request:
    given_headers = {
        b"host": EXAMPLE_HOST,
        b"x-amz-date": b"20130524T000000Z",
        b"x-amz-content-sha256": EMPTY_SHA256,
        b"authorization": b"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        b"SignedHeaders=" + signed + b",Signature=" + signature,
        **{name.encode(): value for name, value in headers.items()},
    }
    return Request(b"GET", path, query, given_headers, True, "peer")


@pytest.mark.parametrize(
    "request_",
    [
        example(
            b"/test.txt", b"", b"host;range;x-amz-content-sha256;x-amz-date",
            b"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", range=b"bytes=0-9",
        ),
        example(
            b"/", b"lifecycle", b"host;x-amz-content-sha256;x-amz-date",
            b"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        example(
            b"/", b"max-keys=2&prefix=J", b"host;x-amz-content-sha256;x-amz-date",
            b"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)  # fmt: skip
def test_published_header_examples(request_: Request) -> None:
    assert Authenticator(EXAMPLE, "us-east-1").identify(request_, EXAMPLE_TIME).caller.key_id == "AKIAIOSFODNN7EXAMPLE"


def test_published_presigned_example() -> None:
    query = (
        b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        b"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        b"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    request = Request(b"GET", b"/test.txt", query, {b"host": EXAMPLE_HOST}, True, "peer")
    found = Authenticator(EXAMPLE, "us-east-1").identify(request, EXAMPLE_TIME + 86400)
    assert found.caller.key_id == "AKIAIOSFODNN7EXAMPLE"
    with pytest.raises(S3Error, match="expired"):
        Authenticator(EXAMPLE, "us-east-1").identify(request, EXAMPLE_TIME + 86401)


def parse(data: bytes) -> Request:
    return HeadParser(100).parse(data, "peer")


keys = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=30)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(key=keys, query=st.lists(st.tuples(keys, keys), max_size=4), header=values, presign=st.booleans())
def test_whatever_botocore_signs_is_accepted_and_nothing_near_it(
    key: str, query: list[tuple[str, str]], header: str, presign: bool
) -> None:
    now = datetime.now(UTC).timestamp()
    encoded = "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query if not name.lower().startswith("x-amz")
    )
    target = f"/data/{quote(key, safe='/-._~')}" + (f"?{encoded}" if encoded else "")
    data = signed_request(
        "http://h:1", "GET", target, {"x-amz-meta-a": header} if not presign else {}, presign=600 if presign else 0
    )
    request = parse(data)
    authenticator = Authenticator(KeyRing({KEY_ID: SECRET}), "us-east-1")
    assert authenticator.identify(request, now).caller.key_id == KEY_ID
    if not presign and not request.query:
        again = authenticator.recognise(request, now)
        assert again is None or again.caller.key_id == KEY_ID
    request.path += b"x"
    assert authenticator.recognise(request, now) is None
    with pytest.raises(S3Error) as caught:
        authenticator.identify(request, now)
    assert caught.value.code == "SignatureDoesNotMatch"


def signed_lines(method: str, target: str, lines: list[tuple[str, str]], body: bytes = b"") -> list[tuple[str, str]]:
    """All the header lines of a request that was given `lines` (names may repeat), signed by botocore."""
    request = AWSRequest(method, "http://h:1" + target, data=body)
    for name, value in lines:
        request.headers.add_header(name, value)
    request.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials(KEY_ID, SECRET), "s3", "us-east-1").add_auth(request)
    return [("Host", "h:1"), *request.headers.items()]


def on_the_wire(method: str, target: str, lines: list[tuple[str, str]]) -> Request:
    head = "".join([f"{method} {target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in lines), "\r\n"])
    return parse(head.encode("latin-1"))


CASES: dict[str, tuple[str, str, list[tuple[str, str]], bytes]] = {
    "repeated names": ("GET", "/data/key", [("X-Fruit", "pear"), ("X-Fruit", "fig"), ("X-Fruit", "pear")], b""),
    "values not in order": ("GET", "/data/key", [("X-V", "4"), ("X-V", "1"), ("X-V", "3,2")], b""),
    "spaces around and within": ("GET", "/data/key", [("X-A", "  wide   gap  "), ("X-B", '"in   quotes"')], b""),
    "names in any case": ("POST", "/data/key", [("x-ZEBRA", "1"), ("X-ant", "2")], b""),
    "value's case kept": ("POST", "/data/key", [("X-Shout", "LOUD and soft")], b""),
    "dots and slashes stay": ("GET", "/data/../a//./b/..//", [], b""),
    "nothing but slashes": ("GET", "//", [], b""),
    "unreserved path": ("GET", "/data/-._~09azAZ", [], b""),
    "encoded path": ("GET", "/data/%E6%97%A5%20%2B", [], b""),
    "empty name": ("GET", "/data?=lonely", [], b""),
    "name alone": ("GET", "/data?location", [], b""),
    "query by encoded name": ("GET", "/data?b=1&a=2&%C3%A9=3&B=4", [], b""),
    "query by value": ("GET", "/data?k=2&k=10&k=&k=A", [], b""),
    "unreserved query": ("GET", "/data?-._~aZ9=-._~aZ9", [], b""),
    "form": ("POST", "/data?delete", [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")], b"colour=blue"),
}


@pytest.mark.parametrize(("method", "target", "lines", "body"), CASES.values(), ids=CASES.keys())
def test_every_form_of_a_request_is_read_as_its_signer_wrote_it(
    method: str, target: str, lines: list[tuple[str, str]], body: bytes
) -> None:
    now = datetime.now(UTC).timestamp()
    sent = signed_lines(method, target, lines, body)
    authenticator = Authenticator(KeyRing({KEY_ID: SECRET}), "us-east-1")
    found = authenticator.identify(on_the_wire(method, target, sent), now)
    assert found.caller.key_id == KEY_ID
    assert found.content_sha256 == hashlib.sha256(body).hexdigest().encode()
    for other_method, other_target in (("PUT", target), (method, target + "~")):
        with pytest.raises(S3Error, match="does not match"):
            authenticator.identify(on_the_wire(other_method, other_target, sent), now)


@pytest.mark.parametrize(
    "change", [lambda v: v.swapcase(), lambda v: v + "x", lambda v: "x," + v], ids=["case", "longer", "one more"]
)
@pytest.mark.parametrize("number", [0, 1])
def test_a_signed_value_of_a_repeated_header_cannot_be_changed_or_moved(number: int, change: Callable[[str], str]) -> None:
    now = datetime.now(UTC).timestamp()
    sent = signed_lines("GET", "/data/key", [("X-Fruit", "pear"), ("X-Fruit", "fig")])
    authenticator = Authenticator(KeyRing({KEY_ID: SECRET}), "us-east-1")
    authenticator.identify(on_the_wire("GET", "/data/key", sent), now)
    places = [index for index, (name, _) in enumerate(sent) if name == "X-Fruit"]
    changed = list(sent)
    changed[places[number]] = ("X-Fruit", change(sent[places[number]][1]))
    moved = list(sent)
    moved[places[0]], moved[places[1]] = moved[places[1]], moved[places[0]]
    for lines in (changed, moved):
        request = on_the_wire("GET", "/data/key", lines)
        assert authenticator.recognise(request, now) is None
        with pytest.raises(S3Error, match="does not match"):
            authenticator.identify(request, now)


@pytest.mark.parametrize("presign", [0, 600], ids=["header", "query"])
def test_a_session_token_is_refused_by_name_for_no_key_here_has_one(presign: int) -> None:
    now = datetime.now(UTC).timestamp()
    request = AWSRequest("GET", "http://h:1/data/key")
    credentials = Credentials(KEY_ID, SECRET, "t0k/en+==")
    if presign:
        S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=presign).add_auth(request)
    else:
        S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    sent = [("Host", "h:1"), *request.headers.items()]
    with pytest.raises(S3Error) as caught:
        Authenticator(KeyRing({KEY_ID: SECRET}), "us-east-1").identify(
            on_the_wire("GET", request.url[len("http://h:1") :], sent), now
        )
    assert caught.value.code == "InvalidToken"


def test_a_session_token_added_after_signing_is_refused() -> None:
    now = datetime.now(UTC).timestamp()
    sent = signed_lines("GET", "/data/key", [])
    with pytest.raises(S3Error, match="not signed: x-amz-security-token"):
        Authenticator(KeyRing({KEY_ID: SECRET}), "us-east-1").identify(
            on_the_wire("GET", "/data/key", [*sent, ("X-Amz-Security-Token", "t")]), now
        )


@pytest.mark.parametrize("target", ["/data/a b", "/data/\xe9", "/data?a=\xe9"])
def test_a_target_that_is_not_encoded_is_refused_before_any_signature(target: str) -> None:
    with pytest.raises(BadFraming):
        on_the_wire("GET", target, [("Host", "h:1")])


@pytest.fixture
def known() -> Iterator[tuple[Authenticator, Request, float]]:
    now = datetime.now(UTC).timestamp()
    authenticator = Authenticator(KeyRing({KEY_ID: SECRET}), "us-east-1")
    request = parse(signed_request("http://h:1", "GET", "/data/key", {"Range": "bytes=0-1"}))
    authenticator.identify(request, now)
    assert authenticator.recognise(request, now) is not None
    yield authenticator, request, now


def test_the_short_way_refuses_what_the_long_way_refuses(known: tuple[Authenticator, Request, float]) -> None:
    authenticator, request, now = known
    good = dict(request.headers)
    for change in (
        {b"range": b"bytes=0-2"},
        {b"x-amz-date": b"20200101T000000Z"},
        {b"x-amz-meta-more": b"unsigned"},
        {b"x-amz-content-sha256": b"0" * 64},
        {b"host": b"other"},
        {b"authorization": good[b"authorization"][:-1] + b"g"},
        {b"authorization": good[b"authorization"] + b" "},
        {b"authorization": good[b"authorization"].upper()},
    ):
        request.headers = {**good, **change}
        assert authenticator.recognise(request, now) is None, change
    request.headers = good
    for moved in (-901, 901):
        assert authenticator.recognise(request, now + moved) is None
    request.method = b"HEAD"
    assert authenticator.recognise(request, now) is None


def test_a_key_taken_away_is_forgotten_at_once() -> None:
    now = datetime.now(UTC).timestamp()
    ring = KeyRing({KEY_ID: SECRET})
    authenticator = Authenticator(ring, "us-east-1")
    request = parse(signed_request("http://h:1", "GET", "/data/key"))
    authenticator.identify(request, now)
    ring.replace({KEY_ID: "another secret of the same key"})
    assert authenticator.recognise(request, now) is None
    with pytest.raises(S3Error, match="signature"):
        authenticator.identify(request, now)
    ring.replace({})
    with pytest.raises(S3Error) as caught:
        authenticator.identify(request, now)
    assert caught.value.code == "InvalidAccessKeyId"


def test_no_repr_shows_a_secret() -> None:
    assert SECRET not in repr(KeyRing({KEY_ID: SECRET}))


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_refused_or_nobody(authorization: bytes, query: bytes) -> None:
    authenticator = Authenticator(KeyRing({KEY_ID: SECRET}), "us-east-1")
    for headers in ({b"host": b"h"}, {b"host": b"h", b"authorization": b"AWS4-HMAC-SHA256 " + authorization}):
        try:
            found = authenticator.identify(Request(b"GET", b"/a/b", query, headers, True, "p"), 0.0)
        except S3Error:
            continue
        assert found.caller.anonymous
