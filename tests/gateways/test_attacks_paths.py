"""Attacks by path: one decoded path decides and is fetched, and no name reaches another bucket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from headrace.gateways.s3.target import host_bucket
from headrace.gateways.settings import GatewaySettings
from headrace.model.events import AccessRefused
from headrace.policy.rules import Policy, Rule
from support.gateway import KEY_ID, Answer, RunningGateway, WarmStore, gateway

ODD = ["../x", "a/../../other/x", ".", "..", "//", "/", "a//b", "%2e%2e%2f", "%252e", "a\\..\\b", ";x", "a?b", "a#b", "é", "e\u0301",  # noqa: E501
       "+", " ", "\r\n", "\x01", "x" * 1024]  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[RunningGateway]:
    data, other = WarmStore(), WarmStore()
    for key in ODD:
        data.put(key, b"data:" + key.encode())
    other.put("x", b"other")
    for key in ("a/secret/x", "a//secret/x", "A/secret/x", "a/open", "\u00f1/x", "n\u0303/x"):
        data.put(key, b"data:" + key.encode())
    policy = Policy((Rule("/data/a/secret", effect="deny"), Rule("/data/\u00f1", effect="deny")))
    with gateway({"/data": data, "/other": other, "/healthz": data, "/metrics": data, "/api": data}, policy=policy,
                 settings=GatewaySettings(sweep_s=0.05, domain="s3.local")) as found:  # fmt: skip
        yield found


@pytest.mark.parametrize("key", ODD)
def test_15_odd_keys_are_literal(running: RunningGateway, key: str) -> None:
    answer = running.ask("GET", f"/data/{quote(key, safe='/')}")
    assert (answer.status, answer.body) == (200, b"data:" + key.encode())
    listed = running.ask("GET", f"/data?list-type=2&prefix={quote(key, safe='')}&encoding-type=url")
    assert listed.status == 200
    assert quote(key, safe="/-._~*").encode() in listed.body


@pytest.mark.parametrize("path", ["/data/%00", "/data/%c0%ae%c0%ae/", "/data/%ff", "/data/%", "/data/%zz", "/data/" + "x" * 1025,
                                  "/../other/x", "/%2e%2e/other/x", "//other/x", "/./x"])  # fmt: skip
def test_15_what_is_no_key_is_refused(running: RunningGateway, path: str) -> None:
    assert running.ask("GET", path).status == 400


def respelled(running: RunningGateway, method: str, plain: str, path: str, headers: dict[str, str] | None = None) -> Answer:
    """Rightly signed for `plain`, sent as `path`: another spelling of the same bytes."""

    def respell(request: Any) -> None:
        request.url = request.url.replace(plain, path)

    return running.ask(method, plain, headers, tamper=respell)


@pytest.mark.parametrize("path", ["/data/../other/x", "/data/%2e%2e/other/x", "/data/..%2Fother%2Fx"])
def test_15_dots_do_not_climb(running: RunningGateway, path: str) -> None:
    assert respelled(running, "GET", "/data/../other/x", path).code == "NoSuchKey"


@pytest.mark.parametrize(
    "path", ["/data/a/secret/x", "/data/a%2Fsecret%2Fx", "/data/a%2fsecret/x", "/data/%61/secret/x", "/data%2Fa/secret/x"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_17_the_decided_path_is_the_fetched_path(running: RunningGateway, path: str, method: str) -> None:
    for headers in ({}, {"Range": "bytes=0-0"}, {"If-None-Match": "*"}):
        running.events.clear()
        assert respelled(running, method, "/data/a/secret/x", path, headers).status == 403
        refusal = next(event for event in running.events if isinstance(event, AccessRefused))
        assert (refusal.reason, refusal.caller, refusal.path) == ("AccessDenied", KEY_ID, "/data/a/secret/x")


def test_17_other_spellings_are_other_keys(running: RunningGateway) -> None:
    assert running.ask("GET", "/data/a//secret/x").body == b"data:a//secret/x"
    assert running.ask("GET", "/data/A/secret/x").body == b"data:A/secret/x"
    assert running.ask("GET", "/data/" + quote("\u00f1/x")).status == 403
    assert running.ask("GET", "/data/" + quote("n\u0303/x")).body == "data:n\u0303/x".encode()


def test_17_listings_hide_what_may_not_be_seen(running: RunningGateway) -> None:
    listed = running.ask("GET", "/data?list-type=2&prefix=a%2F").body
    assert b"a/open" in listed
    assert b"<Key>a/secret" not in listed
    assert running.ask("GET", "/data?list-type=2&prefix=a%2Fsecret%2F").status == 403
    rolled = running.ask("GET", "/data?list-type=2&prefix=a%2F&delimiter=%2F").body
    assert b"<Prefix>a/secret/</Prefix>" not in rolled


@pytest.mark.parametrize("bucket", ["healthz", "metrics", "api"])
def test_19_no_bucket_is_shadowed(running: RunningGateway, bucket: str) -> None:
    assert running.ask("GET", f"/{bucket}/a/open").body == b"data:a/open"


def test_19_host_style_takes_the_bucket_from_the_name_alone(running: RunningGateway) -> None:
    assert running.ask("GET", "/a/open", host="data.s3.local").body == b"data:a/open"
    assert host_bucket(b"DATA.S3.local:9400", "s3.local") == "data"
    assert running.ask("GET", "/a/open", host="my.data.s3.local").code == "NoSuchBucket"
    assert running.ask("GET", "/a/secret/x", host="data.s3.local").status == 403
    assert running.ask("GET", "/../other/x", host="data.s3.local").status == 404
    assert running.ask("GET", "/data/a/open", host="s3.local").body == b"data:a/open"
    assert running.ask("GET", "/data/a/open", host="evil-s3.local").body == b"data:a/open"


def test_35_metadata_cannot_split_an_answer() -> None:
    store = WarmStore()
    store.put(
        "key", b"x", metadata=(("a", "1\r\nset-cookie: x"), ("b\r\nc", "2"), ("n", "é\0")), content_type="text/plain\r\nx: y"
    )
    with gateway({"/data": store}) as own:
        answer = own.ask("GET", "/data/key")
        assert answer.status == 200
        assert "set-cookie" not in answer.headers
        assert "x" not in answer.headers
        assert own.ask("GET", "/data/key?response-content-type=a%0D%0Ax%3A%20y").status == 400
