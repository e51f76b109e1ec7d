"""Uploads by forms: what boto3 and AWS's own example sign is taken, what any hand changed behind the signer is not."""

from __future__ import annotations

import hashlib
import http.client
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config

from headrace.gateways.s3.auth import Authenticator, FormClaim
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.keys import KeyRing
from headrace.gateways.s3.post_form import PostUpload, answer_post, read_post
from headrace.model.checksums import Algorithm, checksum
from headrace.model.sigv4 import signing_key
from headrace.model.writing import PLAIN
from support.gateway import KEY_ID, SECRET
from support.uploads import NOW_S, REGION, Signer, call_for, door, form_body, form_fields, form_type, pieces_until_error, read

AUTHENTICATOR = Authenticator(KeyRing({KEY_ID: SECRET}), REGION)
SIGNER = Signer()
OPEN: list[object] = [
    {"bucket": "data"}, ["starts-with", "$key", "user/"], {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
    {"x-amz-credential": f"{KEY_ID}/{SIGNER.scope}"}, {"x-amz-date": SIGNER.stamp},
]  # fmt: skip
DATA = b"the file's bytes" * 5000


def policy(*more: object) -> dict[str, object]:
    return {"expiration": "2026-02-02T12:00:00.000Z", "conditions": [*OPEN, *more]}


async def post(fields: dict[str, str], data: bytes = DATA, *, target: str = "/data", **options: Any) -> PostUpload:
    wire = form_body(fields, data, **{name: options.pop(name) for name in ("filename", "behind") if name in options})
    cuts = tuple(range(0, len(wire), 4096))
    return await read_post(call_for("POST", target, form_type(), wire, cuts=cuts, **options), AUTHENTICATOR)


async def refusal(fields: dict[str, str], **options: Any) -> S3Error:
    with pytest.raises(S3Error) as caught:
        await post(fields, **options)
    return caught.value


async def test_a_form_that_was_signed() -> None:
    anything = [["starts-with", f"${name}", ""] for name in ("Content-Type", "x-amz-meta-a", "Content-Encoding", "tagging")]
    extra = {"Content-Type": "image/png", "X-Amz-Meta-A": "b", "Content-Encoding": "gzip", "tagging": "<Tagging/>"}
    upload = await post(form_fields(policy(*anything), **extra))
    assert (upload.identity.caller.key_id, upload.bucket, upload.key) == (KEY_ID, "data", "user/file")
    assert upload.attributes.content_type == "image/png"
    assert upload.attributes.headers == (("content-encoding", "gzip"),)
    assert upload.attributes.metadata == (("a", "b"),)
    assert (upload.tagging, upload.status, upload.redirect) == ("<Tagging/>", 204, "")
    assert upload.body.length is None
    assert await read(upload.body) == DATA


async def test_nobodys_form_has_no_policy() -> None:
    upload = await post({"key": "user/file"})
    assert upload.identity.caller.anonymous
    assert upload.attributes == PLAIN
    assert await read(upload.body) == DATA


@pytest.mark.parametrize("missing", ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "policy"])
async def test_half_a_signature_is_not_nobody(missing: str) -> None:
    fields = form_fields(policy())
    del fields[missing]
    error = await refusal(fields)
    assert (error.code, error.audited) == ("InvalidArgument", True)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"x-amz-signature": "0" * 64}, "SignatureDoesNotMatch"),
        ({"x-amz-signature": ""}, "SignatureDoesNotMatch"),
        ({"x-amz-signature": "ä" * 64}, "SignatureDoesNotMatch"),
        ({"x-amz-signature": form_fields(policy())["x-amz-signature"].upper()}, "SignatureDoesNotMatch"),
        ({"policy": b64encode(b"{}").decode()}, "SignatureDoesNotMatch"),
        ({"policy": form_fields(policy(["starts-with", "$acl", ""]))["policy"]}, "SignatureDoesNotMatch"),
        ({"x-amz-credential": f"stranger/{SIGNER.scope}"}, "InvalidAccessKeyId"),
        ({"x-amz-credential": f"{KEY_ID}/{SIGNER.scope}".replace("us-east-1", "us-west-2")}, "InvalidArgument"),
        ({"x-amz-credential": f"{KEY_ID}/{SIGNER.scope}".replace("s3", "iam")}, "InvalidArgument"),
        ({"x-amz-credential": f"{KEY_ID}/{SIGNER.scope}".replace("20260202", "20260201")}, "InvalidArgument"),
        ({"x-amz-credential": KEY_ID}, "InvalidArgument"),
        ({"x-amz-date": "20260201T000000Z"}, "InvalidArgument"),
        ({"x-amz-date": "yesterday"}, "InvalidArgument"),
        ({"x-amz-algorithm": "AWS4-HMAC-SHA1"}, "InvalidArgument"),
        ({"x-amz-security-token": "x"}, "InvalidToken"),
        ({"AWSAccessKeyId": "x"}, "InvalidRequest"),
        ({"Signature": "x"}, "InvalidRequest"),
        ({"key": "other/file"}, "AccessDenied"),
        ({"x-amz-meta-a": "b"}, "AccessDenied"),
        ({"acl": "private"}, "AccessDenied"),
        ({"success_action_redirect": "http://evil.example/"}, "AccessDenied"),
        ({"bucket": "other"}, "InvalidArgument"),
    ],
)
async def test_whatever_was_changed_behind_the_signer(change: dict[str, str], code: str) -> None:
    error = await refusal(form_fields(policy()) | change)
    assert error.code == code
    assert error.audited or code == "InvalidArgument"


async def test_a_form_signed_by_another_secret_or_for_another_time_or_bucket() -> None:
    assert (await refusal(form_fields(policy(), secret="other"))).code == "SignatureDoesNotMatch"
    assert (await refusal(form_fields(policy()), target="/other")).code == "AccessDenied"
    week, quarter = 7 * 24 * 3600, 900
    long = {"expiration": "2036-02-02T12:00:00.000Z", "conditions": OPEN}
    assert (await post(form_fields(long), now_s=NOW_S + week)).key == "user/file"
    for now_s in (NOW_S + week + 1, NOW_S - quarter - 1):
        assert (await refusal(form_fields(long), now_s=now_s)).code == "AccessDenied"
    assert "expired" in (await refusal(form_fields(policy()), now_s=NOW_S + 24 * 3600)).message


async def test_a_form_and_a_signature_in_the_header() -> None:
    headers = Signer().head("POST", "/data", form_type(), "UNSIGNED-PAYLOAD")
    made = call_for("POST", "/data", headers, form_body(form_fields(policy()), DATA))
    with pytest.raises(S3Error, match="Only one") as caught:
        await read_post(made, AUTHENTICATOR)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("filename", "key"),
    [
        ("a.txt", "user/a.txt"),
        ("/tmp/a.txt", "user/a.txt"),
        (r"C:\\dir\\a.txt", "user/a.txt"),
        ("", "user/"),
        ("ä", "user/ä"),
        ("..", "user/.."),
    ],
)
async def test_the_name_of_the_file(filename: str, key: str) -> None:
    upload = await post(form_fields(policy(), key="user/${filename}"), filename=filename)
    assert upload.key == key, "exactly this key: never another one"


async def test_the_policy_sees_the_name_put_in() -> None:
    fields = form_fields(policy(["eq", "$key", "user/a.txt"]), key="user/${filename}")
    assert (await post(fields, filename="a.txt")).key == "user/a.txt"
    assert (await refusal(fields, filename="b.txt")).code == "AccessDenied"


@pytest.mark.parametrize(
    ("key", "code"), [("", "InvalidArgument"), ("user/" + "x" * 1020, "KeyTooLongError"), ("${filename}", "InvalidArgument")]
)
async def test_keys_that_are_none(key: str, code: str) -> None:
    assert (await refusal({"key": key}, filename="")).code == code
    assert (await refusal({})).code == "InvalidArgument"


async def test_lengths_that_the_policy_allows() -> None:
    for low, high, code in (
        (0, len(DATA), ""),
        (len(DATA), len(DATA), ""),
        (0, len(DATA) - 1, "EntityTooLarge"),
        (len(DATA) + 1, 10**9, "EntityTooSmall"),
    ):
        upload = await post(form_fields(policy(["content-length-range", low, high])))
        if code:
            given, error = await pieces_until_error(upload.body)
            assert (error.code, error.status) == (code, 400)
            assert len(given) < len(DATA)
        else:
            assert await read(upload.body) == DATA


async def test_a_checksum_among_the_fields() -> None:
    name = "x-amz-checksum-crc32"
    for value, code in ((checksum(Algorithm.CRC32, DATA), ""), (checksum(Algorithm.CRC32, b""), "BadDigest")):
        upload = await post(form_fields(policy(["starts-with", f"${name}", ""]), **{name: value}))
        if code:
            assert (await pieces_until_error(upload.body))[1].code == code
        else:
            assert await read(upload.body) == DATA
            assert upload.body.checksums() == (("crc32", value), ("type", "FULL_OBJECT"))


@pytest.mark.parametrize("cut_at", [0, 100, 900, 20_000, 80_000])
async def test_a_form_that_ends_early(cut_at: int) -> None:
    with pytest.raises(S3Error) as caught:
        await read((await post(form_fields(policy()), cut_at=cut_at)).body)
    assert caught.value.code == "IncompleteBody"


async def test_a_file_without_its_end() -> None:
    wire = form_body(form_fields(policy()), DATA)
    upload = await read_post(call_for("POST", "/data", form_type(), wire[:-30]), AUTHENTICATOR)
    assert (await pieces_until_error(upload.body))[1].code == "IncompleteBody"
    fields_only = wire[: wire.index(b'--BoundaryOfForms\r\nContent-Disposition: form-data; name="file"')]
    with pytest.raises(S3Error, match="exactly one file"):
        await read_post(call_for("POST", "/data", form_type(), fields_only), AUTHENTICATOR)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"acl": "public-read"}, "NotImplemented"),
        ({"x-amz-storage-class": "GLACIER"}, "NotImplemented"),
        ({"x-amz-server-side-encryption": "AES256"}, "NotImplemented"),
        ({"x-amz-website-redirect-location": "/x"}, "NotImplemented"),
        ({"x-amz-meta-a": "x" * 2048}, "MetadataTooLarge"),
        ({"x-amz-meta-a": "b\r\nset-cookie: x"}, "InvalidArgument"),
        ({"Content-Type": "a/b\r\nx: y"}, "InvalidArgument"),
        ({"Cache-Control": "a\x1b"}, "InvalidArgument"),
        ({"x-amz-meta-": "b"}, "InvalidArgument"),
        ({"x-amz-meta-a b": "b"}, "InvalidArgument"),
        ({"x-amz-checksum-crc32": "nonsense"}, "InvalidRequest"),
    ],
)
async def test_fields_that_nothing_is_done_for_are_not_ignored(fields: dict[str, str], code: str) -> None:
    assert (await refusal({"key": "user/file", **fields})).code == code


async def test_what_is_no_form() -> None:
    for headers, body, target, code in (
        ({"host": "x"}, b"x", "/data", "PreconditionFailed"),
        (form_type(), b"", "/data", "MissingContentLength"),
        (form_type(), form_body({"key": "a"}, b""), "/data/key", "MethodNotAllowed"),
    ):
        with pytest.raises(S3Error) as caught:
            await read_post(call_for("POST", target, headers, body), AUTHENTICATOR)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("status", "sent"), [("200", 200), ("201", 201), ("204", 204), ("", 204), ("404", 204), ("302", 204), ("0201", 204)]
)
async def test_the_answer_that_was_asked_for(status: str, sent: int) -> None:
    upload = await post({"key": "user/<a>", "success_action_status": status})
    answer = answer_post(upload, "etag", "http://s3/data/user/%3Ca%3E")
    assert answer.status == sent
    assert b'etag: "etag"\r\n' in answer.fields
    assert b"location: http://s3/data/user/%3Ca%3E\r\n" in answer.fields
    if sent == 201:
        assert b"<Key>user/&lt;a&gt;</Key>" in bytes(answer.body)  # type: ignore[arg-type]
    else:
        assert answer.body == b""


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("http://x.example/ok", "http://x.example/ok?bucket=data&key=user%2Fa%20%26%C3%A4&etag=%22etag%22"),
        ("https://x.example/ok?a=b", "https://x.example/ok?a=b&bucket=data&key=user%2Fa%20%26%C3%A4&etag=%22etag%22"),
        ("javascript:alert(1)", None),
        ("//x.example", None),
        ("http://x.example/\r\nset-cookie: x", None),
        ("http://x.example/ü", None),
        ("http://", None),
    ],
)
async def test_the_page_to_go_on_to(url: str, location: str | None) -> None:
    answer = answer_post(await post({"key": "user/a &ä", "success_action_redirect": url}), "etag", "http://s3/")
    assert answer.status == (204 if location is None else 303)
    assert b"set-cookie" not in answer.fields
    if location is not None:
        assert f"location: {location}\r\n".encode() in answer.fields


def test_boto3s_forms_over_a_connection() -> None:
    with door() as (taking, port):
        client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET,
            region_name=REGION, config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )  # fmt: skip
        data = bytes(range(256)) * 20_000
        conditions = [["starts-with", "$Content-Type", "a/"], {"success_action_status": "201"}]
        form = client.generate_presigned_post(
            "data", "user/${filename}", Fields={"Content-Type": "a/b", "success_action_status": "201"},
            Conditions=[*conditions, ["content-length-range", 1, len(data)]],
        )  # fmt: skip
        assert form["url"] == f"http://127.0.0.1:{port}/data"

        def send(fields: dict[str, str], body: bytes) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/data", form_body(fields, body, filename="a.bin"), form_type())
            answer = connection.getresponse()
            found = answer.status, answer.read()
            connection.close()
            return found

        status, text = send(form["fields"], data)
        etag = hashlib.md5(data).hexdigest()
        assert status == 201
        assert f"<Key>user/a.bin</Key><ETag>&quot;{etag}&quot;</ETag>".encode() in text
        assert taking.objects == {"/data/user/a.bin": (data, {})}
        assert send(form["fields"], data + b"x")[0] == 400
        assert send({**form["fields"], "Content-Type": "text/html"}, data)[0] == 403
        assert [error.code for error in taking.refusals] == ["EntityTooLarge", "AccessDenied"]
        assert len(taking.objects) == 1


def test_awss_published_form() -> None:
    """The policy text lies in AWS's page in base64; its signature is published with it."""
    key = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20151229", "us-east-1")
    assert len(key) == 32
    claim = FormClaim(
        b"AWS4-HMAC-SHA256", b"AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request", b"20151229T000000Z", PUBLISHED_POLICY,
        b"8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
    )  # fmt: skip
    authenticator = Authenticator(KeyRing({"AKIAIOSFODNN7EXAMPLE": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}), "us-east-1")
    now_s = datetime(2015, 12, 30, tzinfo=UTC).timestamp()
    assert authenticator.identify_form(claim, now_s).caller.key_id == "AKIAIOSFODNN7EXAMPLE"


_LINES = (
    '{ "expiration": "2015-12-30T12:00:00.000Z",',
    '  "conditions": [',
    '    {"bucket": "sigv4examplebucket"},',
    '    ["starts-with", "$key", "user/user1/"],',
    '    {"acl": "public-read"},',
    '    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},',
    '    ["starts-with", "$Content-Type", "image/"],',
    '    {"x-amz-meta-uuid": "14365123651274"},',
    '    {"x-amz-server-side-encryption": "AES256"},',
    '    ["starts-with", "$x-amz-meta-tag", ""],',
    "",
    '    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},',
    '    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},',
    '    {"x-amz-date": "20151229T000000Z" }',
    "  ]",
    "}",
)
PUBLISHED_POLICY = b64encode("\r\n".join(_LINES).encode())
