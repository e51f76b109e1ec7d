"""Attacks on the WebHDFS door: names that are not proved, redirects that lead away, and paths that mean two things."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from headrace.gateways.webhdfs.operations import NOT_OFFERED, OPERATIONS, Need
from headrace.gateways.webhdfs.settings import WebHdfsSettings
from headrace.model.events import AccessRefused
from headrace.policy.rules import Action, Policy, Rule
from headrace.stores.memory import MemoryStore
from support.gateway import KEY_ID, RunningGateway, WarmStore, signed_request
from support.webhdfs import Client, Told, webhdfs

DENIED = Policy((Rule("/data/secret", effect="deny", actions=(Action.READ, Action.LIST, Action.WRITE)),))


def filled() -> WarmStore:
    store = WarmStore()
    for key in ("f", "secret/x", "a/b"):
        store.put(key, key.encode())
    return store


@pytest.fixture(scope="module")
def strict() -> Iterator[tuple[RunningGateway, Client]]:
    """Nobody's word is believed; `/public` may be read by all."""
    stores = {"/data": filled(), "/public": filled()}
    with webhdfs(stores, settings=WebHdfsSettings(), anonymous=("/public",), policy=DENIED) as found:
        yield found


@pytest.fixture(scope="module")
def trusting() -> Iterator[tuple[RunningGateway, Client]]:
    with webhdfs({"/data": filled(), "/other": filled()}, policy=DENIED) as found:
        yield found


def told_of(running: RunningGateway, data: bytes) -> Told:
    answer = running.talk(data)[0]
    return Told(answer.status, answer.headers, answer.body)


def signed(running: RunningGateway, method: str, target: str, body: bytes = b"", **options: object) -> Told:
    return told_of(running, signed_request(running.endpoint, method, target, body=body, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
@pytest.mark.parametrize("user", ["", "root", KEY_ID])
def test_a_name_alone_counts_for_nothing(strict: tuple[RunningGateway, Client], operation: object, user: str) -> None:
    running, _ = strict
    assert isinstance(operation, type(OPERATIONS[0]))
    running.events.clear()
    told = Client(running.host, running.port, user).ask(operation.method, "/data/f", operation.name)
    if operation.need is Need.NOTHING and "DELEGATION" not in operation.name:
        assert told.status == 200
        return
    assert (told.status, told.exception) == (403, "AuthenticationException")
    refusal = next(event for event in running.events if isinstance(event, AccessRefused))
    assert (refusal.caller, refusal.path, refusal.reason) == ("", "/data/f", "AuthenticationException")
    if "DELEGATION" not in operation.name:
        assert 'trust_user_name_from = ["127.0.0.1"]' in told.message
        assert "anonymous = true" in told.message


def test_everybody_may_read_what_a_mount_gives_to_all_and_change_nothing(strict: tuple[RunningGateway, Client]) -> None:
    running, _ = strict
    for user in ("", "anyone"):
        client = Client(running.host, running.port, user)
        assert client.read("/public/f").body == b"f"
        assert client.names("/public") == ["a", "f", "secret"]
        assert client.create("/public/g", b"x").exception == "AuthenticationException"
        assert client.ask("DELETE", "/public/f", "DELETE").exception == "AuthenticationException"
        assert client.ask("GET", "/", "LISTSTATUS").exception == "AuthenticationException"


def test_a_signed_request_is_its_keys(strict: tuple[RunningGateway, Client]) -> None:
    running, client = strict
    first = signed(running, "GET", "/webhdfs/v1/data/f?op=OPEN")
    assert first.status == 307
    place = urlsplit(first.headers["location"])
    assert client.raw("GET", f"{place.path}?{place.query}").body == b"f"
    assert signed(running, "GET", "/webhdfs/v1/data/secret/x?op=OPEN").exception == "AccessControlException"
    assert signed(running, "GET", "/webhdfs/v1/data/f?op=OPEN&data=true").body == b"f"
    assert signed(running, "GET", "/webhdfs/v1/data/f?op=OPEN&data=true", presign=60).body == b"f"
    assert signed(running, "PUT", "/webhdfs/v1/data/new?op=CREATE&data=true", b"body").status == 201


@pytest.mark.parametrize("options", [{"secret": "wrong"}, {"key_id": "nobody"}, {"region": "eu-west-9"}])
@pytest.mark.parametrize("presign", [0, 60])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_a_forged_signature_is_nobodys(
    strict: tuple[RunningGateway, Client], operation: object, presign: int, options: dict[str, str]
) -> None:
    assert isinstance(operation, type(OPERATIONS[0]))
    told = signed(strict[0], operation.method, f"/webhdfs/v1/public/f?op={operation.name}", presign=presign, **options)
    assert (told.status, told.exception) == (403, "AuthenticationException")


def test_a_body_that_was_not_signed_is_not_taken(strict: tuple[RunningGateway, Client]) -> None:
    running, client = strict
    request = signed_request(running.endpoint, "PUT", "/webhdfs/v1/data/altered?op=CREATE&data=true", body=b"mine")
    assert told_of(running, request.replace(b"\r\n\r\nmine", b"\r\n\r\nyour")).status == 400
    request = signed_request(running.endpoint, "PUT", "/webhdfs/v1/data/altered?op=MKDIRS", body=b"mine")
    assert told_of(running, request.replace(b"\r\n\r\nmine", b"\r\n\r\nyour")).exception == "AuthenticationException"
    assert signed(running, "GET", "/webhdfs/v1/data/altered?op=GETFILESTATUS").status == 404
    assert client.ask("GET", "/data/altered", "GETFILESTATUS").status == 403


def test_a_plus_is_not_signed_for_two_meanings(strict: tuple[RunningGateway, Client]) -> None:
    running, _ = strict
    request = signed_request(running.endpoint, "PUT", "/webhdfs/v1/data/f?destination=%2Fdata%2Fa%2Bb&op=RENAME")
    assert told_of(running, request.replace(b"%2Bb", b"+b")).exception == "IllegalArgumentException"


def test_a_token_speaks_for_its_owner_until_it_is_cancelled(strict: tuple[RunningGateway, Client]) -> None:
    running, client = strict
    token = signed(running, "GET", "/webhdfs/v1/?op=GETDELEGATIONTOKEN").json["Token"]["urlString"]
    bearer = Client(running.host, running.port, "")
    assert bearer.read("/data/f", delegation=token).body == b"f"
    assert bearer.ask("GET", "/data/secret/x", "OPEN", delegation=token).exception == "AccessControlException"
    assert bearer.ask("GET", "/", "GETDELEGATIONTOKEN", delegation=token).exception == "AuthenticationException"
    assert signed(running, "GET", f"/webhdfs/v1/data/f?delegation={token}&op=OPEN").status == 400
    renewed = signed(running, "PUT", f"/webhdfs/v1/?op=RENEWDELEGATIONTOKEN&token={token}").json["long"]
    assert 86_000 < renewed / 1000 - running.clock.time() <= 86_400
    assert signed(running, "PUT", f"/webhdfs/v1/?op=CANCELDELEGATIONTOKEN&token={token}").status == 200
    assert bearer.read("/data/f", delegation=token).exception == "InvalidToken"
    for forged in ("", "x", token[:-4] + "AAAA", "null"):
        told = client.ask("GET", "/data/f", "GETFILESTATUS", delegation=forged)
        assert (told.status, told.exception) == (403, "AuthenticationException" if forged == "null" else "InvalidToken")


def test_a_grant_is_for_the_request_that_it_was_given_to(strict: tuple[RunningGateway, Client]) -> None:
    running, client = strict
    place = (
        signed(running, "PUT", "/webhdfs/v1/data/granted?op=CREATE&overwrite=false")
        .headers["location"]
        .partition(str(client.port))[2]
    )
    for forged in (
        place.replace("/granted", "/f"), place.replace("overwrite=false", "overwrite=true"), place.replace("op=CREATE",
        "op=MKDIRS"),
        place.replace("/data/granted", "/data/secret/x"), place + "&permission=777", place.replace(KEY_ID, "root"),
    ):  # fmt: skip
        assert forged != place
        assert client.raw("PUT", forged, b"x").exception == "AuthenticationException"
    assert client.raw("PUT", place, b"x", {"authorization": "AWS4-HMAC-SHA256 Credential=other/x"}).status == 400
    running.clock.offset_s = 601
    try:
        assert client.raw("PUT", place, b"x").exception == "AuthenticationException"
    finally:
        running.clock.offset_s = 0
    assert client.raw("PUT", place, b"x").status == 201


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "a b", "evil\t", "[::1]", "127.0.0.1@evil.example"]
)
def test_21_no_host_of_the_clients_gets_into_a_redirect(trusting: tuple[RunningGateway, Client], host: str) -> None:
    running, _ = trusting
    for method, op in (("GET", "OPEN"), ("PUT", "CREATE"), ("POST", "APPEND"), ("GET", "GETFILECHECKSUM")):
        path = "/new" if op == "CREATE" else "/f"
        head = f"{method} /webhdfs/v1/data{path}?op={op}&user.name=etl HTTP/1.1\r\nhost: {host}\r\n"
        head += "x-forwarded-host: evil.example\r\n"
        told = told_of(running, head.encode() + b"connection: close\r\n\r\n")
        assert "evil" not in told.headers.get("location", "")
        if told.status == 307:
            assert urlsplit(told.headers["location"]).netloc == f"{running.host}:{running.port}"
        else:
            assert told.exception == "AuthenticationException"


@pytest.mark.parametrize("host", ["evil.example", "rebound.example:9400", "10.evil.example", ""])
def test_a_name_is_not_believed_under_a_host_that_is_not_this_node(trusting: tuple[RunningGateway, Client], host: str) -> None:
    _, client = trusting
    told = client.raw("GET", "/webhdfs/v1/data/f?op=GETFILESTATUS&user.name=etl", headers={"host": host})
    assert told.exception == "AuthenticationException"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", ""])
def test_a_browsers_page_speaks_for_nobody(trusting: tuple[RunningGateway, Client], origin: str) -> None:
    _, client = trusting
    for method, op in (("POST", "APPEND"), ("GET", "OPEN"), ("DELETE", "DELETE")):
        told = client.raw(method, f"/webhdfs/v1/data/f?op={op}&user.name=etl", headers={"origin": origin})
        assert told.exception == "AuthenticationException"
        assert "access-control-allow-origin" not in told.headers


def test_a_name_is_believed_from_the_networks_that_are_named_alone() -> None:
    settings = WebHdfsSettings(trust_user_name_from=("10.0.0.0/8", "::1/128"))
    with webhdfs({"/data": filled()}, settings=settings) as (_, client):
        assert client.ask("GET", "/data/f", "GETFILESTATUS").exception == "AuthenticationException"


@pytest.mark.parametrize("user", ["a\r\nb", "a b", "../x", "<script>", "x" * 100, "$(id)", "é"])
def test_a_name_is_a_name(trusting: tuple[RunningGateway, Client], user: str) -> None:
    running, _ = trusting
    told = Client(running.host, running.port, user).ask("GET", "/data/f", "OPEN")
    assert (told.status, told.exception) == (400, "IllegalArgumentException")


def test_nobody_acts_for_another(trusting: tuple[RunningGateway, Client]) -> None:
    _, client = trusting
    assert client.ask("GET", "/data/f", "GETFILESTATUS", doas="root").exception == "UnsupportedOperationException"


ODD = ["/data/../other/f", "/data/%2e%2e/other/f", "/data/..%2Fother%2Ff", "//data/f", "/data//f", "/data/./f", "/./data/f",
       "/data/%00", "/data/%ff", "/data/%c0%ae%c0%ae/f", "/data/%", "/data/%zz", "/../other/f", "/%2e%2e/x"]  # fmt: skip


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize(
    ("method", "op"), [("GET", "OPEN"), ("GET", "LISTSTATUS"), ("PUT", "CREATE"), ("DELETE", "DELETE"), ("PUT", "MKDIRS")]
)
def test_16_a_path_that_could_climb_is_refused(trusting: tuple[RunningGateway, Client], path: str, method: str, op: str) -> None:
    _, client = trusting
    told = client.raw(method, f"/webhdfs/v1{path}?op={op}&user.name=etl")
    assert told.status == 400
    assert client.names("/other") == ["a", "f", "secret"]


@pytest.mark.parametrize("path", ODD)
def test_16_so_is_a_destination_and_a_source(trusting: tuple[RunningGateway, Client], path: str) -> None:
    _, client = trusting
    assert client.raw("PUT", f"/webhdfs/v1/data/f?op=RENAME&user.name=etl&destination={path}").status == 400
    assert client.raw("POST", f"/webhdfs/v1/data/f?op=CONCAT&user.name=etl&sources={path}").status == 400
    assert client.read("/data/f").body == b"f"


@pytest.mark.parametrize(
    "key",
    ["a\\..\\b", ";x", "a?b", "a#b", "%2e%2e%2f", "%252e", "+", " ", "\r\n", "\x01", "é", "e\u0301", "$(id)", "a&op=DELETE"],
)
def test_15_odd_names_are_literal(trusting: tuple[RunningGateway, Client], key: str) -> None:
    _, client = trusting
    path = f"/data/odd/{key}"
    made = client.create(path, key.encode())
    assert made.status == 201
    assert client.read(path).body == key.encode()
    assert client.names("/data/odd") == [key]
    assert client.ask("PUT", path, "RENAME", destination=path + "2").json == {"boolean": True}
    assert client.ask("DELETE", path + "2", "DELETE").json == {"boolean": True}


def test_35_no_name_splits_an_answer(trusting: tuple[RunningGateway, Client]) -> None:
    _, client = trusting
    for path in ("/data/%0d%0aset-cookie:%20x", "/data/none%0d%0a%0d%0a<html>"):
        for method, op in (("PUT", "CREATE"), ("GET", "OPEN")):
            told = client.raw(method, f"/webhdfs/v1{path}?op={op}&user.name=etl&x=%0d%0ay:%20z")
            assert not {"set-cookie", "y"} & set(told.headers)
            assert "\n" not in told.headers.get("location", "")


@pytest.mark.parametrize("path", ["/data/secret/x", "/data/secret%2Fx", "/data/%73ecret/x", "/data%2Fsecret/x"])
@pytest.mark.parametrize("op", ["OPEN", "GETFILESTATUS", "LISTSTATUS", "GETFILECHECKSUM", "GETXATTRS", "GETCONTENTSUMMARY"])
def test_17_the_decided_path_is_the_fetched_path(trusting: tuple[RunningGateway, Client], path: str, op: str) -> None:
    running, client = trusting
    running.events.clear()
    for step in ("", "&data=true"):
        told = client.raw("GET", f"/webhdfs/v1{path}?op={op}&user.name=etl{step}")
        assert (told.status, told.exception) == (403, "AccessControlException")
    refusal = next(event for event in running.events if isinstance(event, AccessRefused))
    assert (refusal.caller, refusal.path) == ("etl", "/data/secret/x")


def test_19_a_bucket_named_webhdfs_is_a_bucket() -> None:
    store = MemoryStore()
    store.put("v1/x", b"s3")
    with webhdfs({"/webhdfs": store}) as (running, client):
        assert running.ask("GET", "/webhdfs/v1/x").body == b"s3"
        assert running.ask("GET", "/webhdfs?list-type=2").status == 200
        assert client.read("/webhdfs/v1/x").body == b"s3"


def test_what_is_advertised_is_where_redirects_lead() -> None:
    for advertise, origin in (("gw.corp:9400", "http://gw.corp:9400"), ("https://gw.corp", "https://gw.corp")):
        settings = WebHdfsSettings(trust_user_name_from=("127.0.0.0/8",), advertise=advertise)
        with webhdfs({"/data": filled()}, settings=settings) as (_, client):
            assert client.ask("GET", "/data/f", "OPEN").headers["location"].startswith(f"{origin}/webhdfs/v1/data/f?")
            told = client.raw("GET", "/webhdfs/v1/data/f?op=GETFILESTATUS&user.name=etl", headers={"host": "gw.corp:9400"})
            assert told.status == 200


@pytest.mark.parametrize(
    "settings", [{"trust_user_name_from": ("everywhere",)}, {"trust_user_name_from": ("10.0.0.1/8",)}, {"advertise": "http://a/b"},
                 {"advertise": "a\r\nb"}, {"token_renew_s": 0}, {"token_max_s": 10}],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        WebHdfsSettings(**settings)  # type: ignore[arg-type]


def test_no_operation_is_both_offered_and_refused() -> None:
    assert not {one.name for one in OPERATIONS} & set(NOT_OFFERED)
