"""Attacks on authentication. Each refusal is right, and leaves a line for the audit."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.gateways.s3 import auth, streaming_auth
from headrace.gateways.s3.routes import METHODS, ROUTES, Level
from headrace.model.events import AccessRefused
from support.gateway import KEY_ID, RunningGateway, WarmStore, gateway, raw_request

BODY = b"0123456789" * 10


@pytest.fixture(scope="module")
def running() -> Iterator[RunningGateway]:
    store = WarmStore()
    store.put("key", BODY)
    with gateway({"/data": store}, writable=True) as found:
        yield found
        keys = [entry.key for entry in found.run(store.list()).entries]
        assert (keys, store.body("key")) == (["key"], BODY), "a refused request changed something"


@pytest.fixture(autouse=True)
def fresh(running: RunningGateway) -> None:
    running.clock.offset_s = 0.0
    running.events.clear()


def audited(running: RunningGateway) -> list[AccessRefused]:
    return [event for event in running.events if isinstance(event, AccessRefused)]


PLACES = {Level.SERVICE: "/", Level.BUCKET: "/data", Level.OBJECT: "/data/key"}
SUBRESOURCES = ("acl", "policy", "uploads", "delete", "cors", "lifecycle", "select", "restore", "versions", "nonsense")
VERBS = sorted(
    {(r.method, f"{PLACES[r.level]}{f'?{r.subresource}=2' if r.subresource else ''}") for r in ROUTES}
    | {(method, place) for method in METHODS for place in PLACES.values()}
    | {(method, f"{place}?{sub}") for method in METHODS for place in PLACES.values() for sub in SUBRESOURCES}
)
COPIES = sorted({(r.method, f"{PLACES[r.level]}{f'?{r.subresource}=2' if r.subresource else ''}") for r in ROUTES if r.header})
FORGED = re.compile(r"[0-9a-f]{64}$")


def forge(request: Any) -> None:
    request.headers.replace_header("Authorization", FORGED.sub("0" * 64, request.headers["Authorization"]))


def forge_query(request: Any) -> None:
    request.url = FORGED.sub("0" * 64, request.url)


@pytest.mark.parametrize("form", ["header", "presigned", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
                                  "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "UNSIGNED-PAYLOAD"])  # fmt: skip  # noqa: E501
@pytest.mark.parametrize(("method", "target"), VERBS)
def test_1_every_verb_refuses_a_forged_signature(running: RunningGateway, method: str, target: str, form: str) -> None:
    if form == "presigned":
        answer = running.ask(method, target, presign=600, tamper=forge_query)
    else:
        headers = {} if form == "header" else {"X-Amz-Content-SHA256": form}
        answer = running.ask(method, target, headers, tamper=forge)
    assert answer.status == 403
    assert method == "HEAD" or answer.code == "SignatureDoesNotMatch"
    assert [event.reason for event in audited(running)] == ["SignatureDoesNotMatch"]


@pytest.mark.parametrize(("method", "target"), COPIES)
def test_1_copies_refuse_a_forged_signature(running: RunningGateway, method: str, target: str) -> None:
    answer = running.ask(method, target, {"x-amz-copy-source": "data/key"}, tamper=forge)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert running.stores["/data"].body("key") == BODY  # type: ignore[attr-defined]


@pytest.mark.parametrize(("method", "target"), VERBS)
def test_1_nobody_may_do_anything_without_a_signature(running: RunningGateway, method: str, target: str) -> None:
    answer = running.talk(raw_request(method, target, "h", {}), heads=method == "HEAD")[0]
    assert answer.status == 403
    assert audited(running)


def test_3_both_header_and_query_credentials(running: RunningGateway) -> None:
    def add_header(request: Any) -> None:
        request.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature={'0' * 64}"
        )

    assert running.ask("GET", "/data/key", presign=600, tamper=add_header).status == 400


@pytest.mark.parametrize("name", ["x-amz-copy-source", "x-amz-acl", "x-amz-meta-a", "x-amz-tagging", "x-amz-date"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_4_unsigned_amz_headers_on_a_presigned_url(running: RunningGateway, name: str, method: str) -> None:
    def add(request: Any) -> None:
        request.headers[name] = "x"

    assert running.ask(method, "/data/key", presign=600).status == (200 if method == "GET" else 411)
    answer = running.ask(method, "/data/key", presign=600, tamper=add)
    assert (answer.status, answer.code) == (403, "AccessDenied")


@pytest.mark.parametrize(
    "added", ["versionId=null", "response-content-type=text%2Fhtml", "partNumber=1", "x-id=GetObject", "acl"]
)
def test_5_parameters_added_to_a_presigned_url(running: RunningGateway, added: str) -> None:
    def add(request: Any) -> None:
        request.url += "&" + added

    answer = running.ask("GET", "/data/key", presign=600, tamper=add)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    "signed",
    ["x-amz-content-sha256;x-amz-date", "host;host;x-amz-content-sha256;x-amz-date", "x-amz-date;host;x-amz-content-sha256", "",
     "Host;x-amz-content-sha256;x-amz-date", "host;;x-amz-date", "host;x-amz-content-sha256;x-amz-date;x-missing", "host"],
)  # fmt: skip
def test_6_signed_headers(running: RunningGateway, signed: str) -> None:
    def swap(request: Any) -> None:
        text = re.sub(r"SignedHeaders=[^,]*", f"SignedHeaders={signed}", request.headers["Authorization"])
        request.headers.replace_header("Authorization", text)

    assert running.ask("GET", "/data/key", tamper=swap).status in (400, 403)
    assert audited(running)

    def swap_query(request: Any) -> None:
        request.url = re.sub(r"SignedHeaders=[^&]*", f"SignedHeaders={signed.replace(';', '%3B')}", request.url)

    if signed != "host":
        assert running.ask("GET", "/data/key", presign=60, tamper=swap_query).status in (400, 403)


@pytest.mark.parametrize("offset_s", [-960.0, 960.0])
@pytest.mark.parametrize("presign", [0, 600])
def test_7_dates_outside_the_window(running: RunningGateway, offset_s: float, presign: int) -> None:
    running.clock.offset_s = offset_s
    answer = running.ask("GET", "/data/key", presign=presign)
    assert answer.status == 403
    if not presign:
        assert answer.code == "RequestTimeTooSkewed"


@pytest.mark.parametrize("expires", ["0", "-1", "604801", "", "1e3", "+5", "99999999999999999999"])
def test_7_senseless_expiries(running: RunningGateway, expires: str) -> None:
    def swap(request: Any) -> None:
        request.url = re.sub(r"X-Amz-Expires=\d+", f"X-Amz-Expires={expires}", request.url)

    answer = running.ask("GET", "/data/key", presign=600, tamper=swap)
    assert (answer.status, answer.code) == (400, "AuthorizationQueryParametersError")


def test_8_replay_of_a_captured_request(running: RunningGateway) -> None:
    captured = running.sign("GET", "/data/key")
    assert running.talk(captured)[0].body == BODY
    assert running.talk(captured)[0].body == BODY
    running.clock.offset_s = 961.0
    assert running.talk(captured)[0].code == "RequestTimeTooSkewed"


def test_8_a_presigned_url_dies_with_its_key() -> None:
    with gateway() as own:
        own.stores["/data"].put("key", BODY)  # type: ignore[attr-defined]
        captured = own.sign("GET", "/data/key", presign=600)
        assert own.talk(captured)[0].body == BODY
        own.keys.replace({"somebody": "else"})
        answer = own.talk(captured)[0]
        assert (answer.status, answer.code) == (403, "InvalidAccessKeyId")


@pytest.mark.parametrize(
    ("old", "new"),
    [("us-east-1", "eu-west-1"), ("/s3/", "/ec2/"), ("aws4_request", "aws4"), (r"Signature=([0-9a-f]+)", None),
     (r"Signature=([0-9a-f]+)", "Signature=\\1  "), ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), (r"/\d{8}/", "/20200101/")],
)  # fmt: skip
def test_9_scope_and_form(running: RunningGateway, old: str, new: str | None) -> None:
    def swap(request: Any) -> None:
        text = request.headers["Authorization"]
        text = re.sub(old, new, text) if new is not None else text[:-64] + text[-64:].upper()
        request.headers.replace_header("Authorization", text)

    assert running.ask("GET", "/data/key", tamper=swap).status in (400, 403)
    assert audited(running)


def test_9_lower_case_escapes_are_another_path_than_the_signed_one(running: RunningGateway) -> None:
    def swap(request: Any) -> None:
        request.url = request.url.replace("/data/key", "/data/k%65y%2f")

    assert running.ask("GET", "/data/key", tamper=swap).status == 403


def test_10_a_signed_body_that_was_altered(running: RunningGateway) -> None:
    data = running.sign("GET", "/data/key", body=b"as signed")
    assert running.talk(data)[0].status == 200
    answer = running.talk(data.replace(b"as signed", b"as forged"))[0]
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")


def test_14_signatures_are_compared_in_constant_time() -> None:
    for module, places in ((auth, 3), (streaming_auth, 1)):
        source = inspect.getsource(module)
        assert source.count("compare_digest(") == places
        assert not re.search(r"(claimed|signature)\s*[!=]=|[!=]=\s*(claimed|signature)", source)


def test_old_ways_of_signing_are_refused(running: RunningGateway) -> None:
    answer = running.talk(raw_request("GET", "/data/key", "h", {"Authorization": "AWS analyst:abc="}))[0]
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert running.talk(raw_request("GET", "/data/key?AWSAccessKeyId=a&Signature=b&Expires=1", "h", {}))[0].status == 400
    assert running.talk(raw_request("GET", "/data/key?x-amz-signature=a", "h", {}))[0].status == 400
