"""Bodies of uploads, any way they may come: what a plain encoder writes is read back, any other bytes are refused."""

from __future__ import annotations

import io
import itertools
import json
from base64 import b64encode
from collections.abc import Callable

import pytest
from botocore.httpchecksum import _CHECKSUM_CLS, AwsChunkedWrapper
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.gateways.s3.aws_chunked import MIN_CHUNK_BYTES, AwsChunkedDecoder
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.incoming import incoming_body
from headrace.gateways.s3.multipart_form import FieldsParser, FileDecoder, boundary_of
from headrace.gateways.s3.post_policy import check_policy, read_policy
from headrace.model.checksums import Algorithm, checksum
from support.uploads import SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER, Upload, call_for, form_body, framed, read

CUTS = st.lists(st.integers(0, 60_000), max_size=12).map(tuple)
SEED = bytes(itertools.islice(itertools.cycle(range(253)), 70_000))
DATA = st.builds(lambda start, size: SEED[start : start + size], st.integers(0, 300), st.integers(0, 50_000))
FORMS = st.sampled_from([SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER])
ALGORITHMS = st.sampled_from(Algorithm)
SUM_LINE = b"x-amz-checksum-crc32:AAAAAA=="
LINES = (b"4\r\ntail\r\n", b"0\r\n", b"\r\n", b"\n", SUM_LINE + b"\r\n", SUM_LINE + b"\n", b"4", b";", b" ")
PART = b"Content-Disposition: form-data; name="
SNIPPETS = (b"--BoundaryOfForms", b"\r\n", b"--", PART + b'"file"', PART + b'"k"', b"x", b"\r\n\r\n")
WORDS = st.sampled_from(["eq", "starts-with", "$key", "content-length-range"])
NAMES = st.sampled_from(["key", "bucket", "acl", ""])


def upload_of(data: bytes, content: str, algorithm: Algorithm, **options: object) -> Upload:
    trailer = None if content == SIGNED else {f"x-amz-checksum-{algorithm.value}": checksum(algorithm, data)}
    return Upload(data, content=content, trailer=trailer, **options)  # type: ignore[arg-type]


@given(data=DATA, content=FORMS, algorithm=ALGORITHMS, chunk=st.integers(MIN_CHUNK_BYTES, 60_000), cuts=CUTS)
async def test_what_a_client_signs_is_read_back(
    data: bytes, content: str, algorithm: Algorithm, chunk: int, cuts: tuple[int, ...]
) -> None:
    headers, wire = upload_of(data, content, algorithm, chunk_bytes=chunk).wire()
    body = incoming_body(call_for("PUT", "/data/key", headers, wire, cuts=cuts))
    assert await read(body) == data
    assert dict(body.checksums()).get(algorithm.value) == (None if content == SIGNED else checksum(algorithm, data))


@given(
    data=DATA, content=FORMS, algorithm=ALGORITHMS, place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255),
    kind=st.sampled_from(["change", "drop", "insert", "cut"]),
)  # fmt: skip
async def test_one_byte_that_is_another(
    data: bytes, content: str, algorithm: Algorithm, place: float, change: int, kind: str
) -> None:
    """Whatever still passes is the very same object: a change may only hit the case of a digit or a name."""

    def tamper(wire: bytes) -> bytes:
        at = int(place * len(wire))
        if kind == "cut":
            return wire[:at]
        middle = {"change": bytes([wire[at] ^ change]), "drop": b"", "insert": bytes([change, wire[at]])}[kind]
        return wire[:at] + middle + wire[at + 1 :]

    headers, wire = upload_of(data, content, algorithm, tamper=tamper).wire()
    given = b""
    try:
        async for piece in incoming_body(call_for("PUT", "/data/key", headers, wire)):
            given += piece
    except S3Error:
        assert len(given) < max(len(data), 1)
    else:
        assert given == data


@given(wire=st.binary(max_size=400), length=st.integers(0, 50), cuts=st.lists(st.integers(0, 400), max_size=4))
@example(b"4\r\ntail\r\n0\r\n\r\n", 4, [])
def test_any_bytes_decode_alike_however_they_are_cut_or_are_refused(wire: bytes, length: int, cuts: list[int]) -> None:
    assert _outcome(wire, length, []) == _outcome(wire, length, cuts)


@given(
    lines=st.lists(
        st.sampled_from(LINES),
        max_size=8,
    ),
    cuts=st.lists(st.integers(0, 200), max_size=4),
)  # fmt: skip
def test_lines_in_any_order(lines: list[bytes], cuts: list[int]) -> None:
    """There is one body of four bytes with its trailer, in two spellings, and no other."""
    wire = b"".join(lines)
    found = _outcome(wire, 4, cuts)
    assert found == _outcome(wire, 4, [])
    right = [b"4\r\ntail\r\n0\r\n" + SUM_LINE + end + b"\r\n" for end in (b"\r\n", b"\n\r\n")]
    assert (found == b"tail") == (wire in right)


def _outcome(wire: bytes, length: int, cuts: list[int]) -> bytes | str:
    decoder = AwsChunkedDecoder(length, trailer=frozenset((b"x-amz-checksum-crc32",)))
    out = b""
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    try:
        for start, end in itertools.pairwise(places):
            out += b"".join(bytes(piece) for piece in decoder.feed(wire[start:end]))
        decoder.end()
    except S3Error as error:
        return error.code
    return out


@given(
    data=DATA,
    chunk=st.integers(MIN_CHUNK_BYTES, 60_000),
    algorithm=st.sampled_from([a for a in Algorithm if a is not Algorithm.MD5]),
)
def test_botocores_encoder_and_ours_write_the_same(data: bytes, chunk: int, algorithm: Algorithm) -> None:
    name = f"x-amz-checksum-{algorithm.value}"
    wrapper = AwsChunkedWrapper(io.BytesIO(data), _CHECKSUM_CLS[algorithm.value], name, chunk)
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    wire = wrapper.read()
    assert wire == framed(chunks, None, {name: checksum(algorithm, data)})
    decoder = AwsChunkedDecoder(len(data), trailer=frozenset((name.encode(),)))
    assert b"".join(decoder.feed(wire)) == data
    decoder.end()


FIELD_NAMES = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz-"), min_size=1, max_size=12).filter(lambda name: name != "file")
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60).filter(
    lambda text: "\r\n--BoundaryOfForms" not in text
)


@given(fields=st.dictionaries(FIELD_NAMES, VALUES, max_size=6), data=st.binary(max_size=3000), cuts=CUTS)
@example({"key": "\r\n--"}, b"\r\n--BoundaryOfForm\r\n--", (5, 50, 100))
def test_forms_are_read_back_however_they_are_cut(fields: dict[str, str], data: bytes, cuts: tuple[int, ...]) -> None:
    if b"\r\n--BoundaryOfForms" in b"\r\n" + data:
        return
    wire = form_body(fields, data)
    assert _form(wire, cuts) == (fields, data) == _form(wire, tuple(range(0, len(wire), 3)))


@given(
    wire=st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from(SNIPPETS),
            max_size=14,
        ).map(b"".join),
    ),
    cuts=CUTS,
)  # fmt: skip
def test_any_bytes_are_a_form_or_are_refused(wire: bytes, cuts: tuple[int, ...]) -> None:
    assert _kind(lambda: _form(wire, cuts)) == _kind(lambda: _form(wire, ()))


def _kind(work: Callable[[], object]) -> object:
    try:
        return work()
    except S3Error as error:
        return error.code


def _form(wire: bytes, cuts: tuple[int, ...]) -> tuple[dict[str, str], bytes] | None:
    fields, decoder = FieldsParser(b"BoundaryOfForms"), FileDecoder(b"BoundaryOfForms")
    out = b""
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    for start, end in itertools.pairwise(places):
        data = wire[start:end]
        if not fields.begun:
            fields.feed(data)
            data = fields.rest
        if fields.begun:
            out += b"".join(bytes(piece) for piece in decoder.feed(data))
    if not fields.begun:
        return None
    decoder.end()
    return fields.fields, out


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda raw: raw.decode("latin-1"))))
def test_any_text_is_a_boundary_a_policy_or_is_refused(text: str) -> None:
    for work in (lambda: boundary_of(b"multipart/form-data; " + text.encode()), lambda: read_policy(text)):
        try:
            work()
        except S3Error as error:
            assert error.status in (400, 412)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=2)),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300)
@given(
    conditions=st.lists(JSON, max_size=4),
    fields=st.dictionaries(st.sampled_from(["key", "bucket", "acl", "x-amz-meta-a"]), st.sampled_from(["", "a", "ab", "b"])),
)
def test_no_policy_lets_a_field_through_that_it_does_not_name(conditions: list[object], fields: dict[str, str]) -> None:
    text = b64encode(json.dumps({"expiration": "2036-01-01T00:00:00Z", "conditions": conditions}).encode()).decode()
    try:
        policy = read_policy(text)
        check_policy(policy, fields, 0.0, "analyst")
    except S3Error as error:
        assert error.code in ("InvalidPolicyDocument", "AccessDenied")
        return
    named = {condition.field for condition in policy.conditions}
    assert fields.keys() <= named
    for condition in policy.conditions:
        value = fields.get(condition.field, "")
        assert value.startswith(condition.value) if condition.prefix else value == condition.value


def test_nesting_that_is_too_deep() -> None:
    with pytest.raises(S3Error):
        read_policy(b64encode(b'{"expiration":' + b"[" * 100_000).decode())
