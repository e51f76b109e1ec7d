from __future__ import annotations

import http.client
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.console.guard import COOKIE, MAX_BODY_BYTES
from support.console import ServedConsole

Answer = tuple[int, dict[str, str], bytes]


def ask(console: ServedConsole, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def bearer(console: ServedConsole) -> str:
    return f"Bearer {console.plane.admin_token()}"


def test_health_says_nothing_but_ok(console: ServedConsole) -> None:
    assert ask(console, "GET", "/healthz")[::2] == (200, b"ok\n")
    assert ask(console, "GET", "/readyz")[::2] == (200, b"ok\n")
    console.node.serves = False
    assert ask(console, "GET", "/readyz")[::2] == (503, b"not ready\n")
    assert ask(console, "GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/api/v1/stats", "/api/v1/mounts", "/docs", "/openapi.json", "/static/console.js"]
)
def test_nothing_else_is_open(console: ServedConsole, path: str) -> None:
    status, headers, body = ask(console, "GET", path)
    assert status == 401
    assert headers["www-authenticate"] == "Bearer"
    assert b"sales" not in body


@pytest.mark.parametrize(
    "path", ["/docs", "/openapi.json", "/redoc", "/debug/pprof", "/static/../app.py", "/static/app.py", "/nowhere"]
)
def test_there_are_no_debug_routes_and_no_other_files(console: ServedConsole, path: str) -> None:
    assert ask(console, "GET", path, authorization=bearer(console))[0] == 404


def test_a_browser_logs_in_by_the_link_and_keeps_a_strict_cookie(console: ServedConsole) -> None:
    link = console.client.login_link.removeprefix(console.url)
    status, headers, _ = ask(console, "GET", link)
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    status, headers, body = ask(console, "GET", "/", cookie=cookie.partition(";")[0])
    assert status == 200
    assert cookie.startswith(COOKIE)
    assert b"s3://corp-sales/2026" in body
    for path in (link, "/"):
        assert console.plane.admin_token().encode() not in ask(console, "GET", path, cookie=cookie.partition(";")[0])[2]


@pytest.mark.parametrize("path", ["/", "/api/v1/stats", "/healthz", "/missing"])
def test_every_answer_forbids_framing_and_foreign_content(console: ServedConsole, path: str) -> None:
    for headers in ({"authorization": bearer(console)}, {}):
        got = ask(console, "GET", path, **headers)[1]
        assert "frame-ancestors 'none'" in got["content-security-policy"]
        assert "default-src 'none'" in got["content-security-policy"]
        assert got["x-frame-options"] == "DENY"
        assert got["x-content-type-options"] == "nosniff"
        assert got["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in got


def test_a_rebound_host_name_is_refused(console: ServedConsole) -> None:
    assert ask(console, "GET", "/api/v1/stats", authorization=bearer(console), host="evil.example")[0] == 403
    assert ask(console, "GET", "/api/v1/stats", authorization=bearer(console), host="console.example:9401")[0] == 200


def test_get_changes_nothing(console: ServedConsole) -> None:
    for path in ("/api/v1/load?path=/sales", "/api/v1/free?path=/sales", "/api/v1/pin?path=/sales", "/api/v1/jobs/x/cancel"):
        assert ask(console, "GET", path, authorization=bearer(console))[0] == 405
    assert not console.node.loads
    assert not console.node.freed


def test_a_body_that_is_too_long_or_wrong_is_refused(console: ServedConsole) -> None:
    json_type = {"authorization": bearer(console), "content_type": "application/json"}
    assert ask(console, "POST", "/api/v1/load", b"x" * (MAX_BODY_BYTES + 1), **json_type)[0] == 413
    for body in (b"{}", b"nonsense", b'{"path": 7}', b'{"path": "/a", "extra": 1}', b"\xff", b'{"path": "relative"}'):
        status, _, answer = ask(console, "POST", "/api/v1/load", body, **json_type)
        assert status == 400
        assert json.loads(answer)["kind"] == "SettingsError"
    assert not console.node.loads


def test_unknown_mount_options_are_refused(console: ServedConsole) -> None:
    body = b'{"path": "/a", "store": "s3://b", "exec": "rm -rf /"}'
    status, _, answer = ask(
        console, "POST", "/api/v1/mounts", body, authorization=bearer(console), content_type="application/json"
    )
    assert status == 400
    assert "exec" in json.loads(answer)["message"]
    assert console.node.tried == []


def test_metrics_are_prometheus_text(console: ServedConsole) -> None:
    status, headers, body = ask(console, "GET", "/metrics", authorization=bearer(console))
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    found = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert found["headrace_ready"].samples[0].value == 1
    assert found["headrace_tier_capacity_bytes"].samples[0].labels == {"tier": "disk"}
    healthy = {sample.labels["mount"]: sample.value for sample in found["headrace_mount_healthy"].samples}
    assert healthy == {"/sales": 1.0, "/down": 0.0}
    served = {sample.labels["served"]: sample.value for sample in found["headrace_reads"].samples}
    assert served["hit"] == 3
    assert all(family.documentation for family in found.values())


def test_a_refusal_leaves_a_line_and_no_secret(console: ServedConsole, caplog: pytest.LogCaptureFixture) -> None:
    ask(console, "GET", "/api/v1/stats?token=canary-guess", authorization="Bearer canary-guess")
    assert "refused 'GET' '/api/v1/stats' from 127.0.0.1" in caplog.text
    assert "canary-guess" not in caplog.text
