"""Delegation tokens: Hadoop's form, our proof, and when they end."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateways.webhdfs.errors import HdfsError
from headrace.gateways.webhdfs.grants import GRANT_S, Grants
from headrace.gateways.webhdfs.settings import WebHdfsSettings
from headrace.gateways.webhdfs.tokenbook import TokenBook
from headrace.gateways.webhdfs.tokens import (
    Token,
    TokenIdentifier,
    read_identifier,
    read_token,
    write_identifier,
    write_token,
    write_vlong,
)

KEYS = {"ann": b"a" * 32, "bob": b"b" * 32}
NOW_S = 1_800_000_000.0
SETTINGS = WebHdfsSettings(token_renew_s=100, token_max_s=250)
NAMES = st.text(st.characters(blacklist_categories=("Cs",)), max_size=100)
NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(st.builds(TokenIdentifier, NAMES, NAMES, NUMBERS, NUMBERS, NUMBERS, NAMES, NUMBERS))
def test_an_identifier_is_read_as_it_was_written(made: TokenIdentifier) -> None:
    assert read_identifier(write_identifier(made)) == made


@given(st.binary(max_size=200), st.binary(max_size=64), NAMES, NAMES)
def test_a_token_is_read_as_it_was_written(identifier: bytes, password: bytes, kind: str, service: str) -> None:
    made = Token(identifier, password, kind, service)
    assert read_token(write_token(made)) == made
    assert read_token(write_token(made) + "==") == made


@given(st.text(max_size=120))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        token = read_token(text)
    except HdfsError as error:
        assert error.exception == "InvalidToken"
    else:
        assert read_token(write_token(token)) == token


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, "00"), (127, "7f"), (128, "8f80"), (-112, "90"), (-113, "8770"), (255, "8fff"), (256, "8e0100"), (2**31, "8c80000000"),
     (2**63 - 1, "887fffffffffffffff"), (-(2**63), "807fffffffffffffff")],
)  # fmt: skip
def test_numbers_are_written_as_hadoop_writes_them(number: int, written: str) -> None:
    assert write_vlong(number).hex() == written


def book(folder: Path, keys: dict[str, bytes] = KEYS) -> TokenBook:
    return TokenBook(folder / "tokens", keys.get, SETTINGS)


def test_a_token_is_good_in_every_process_until_it_ends(tmp_path: Path) -> None:
    token = book(tmp_path).issue("ann", "bob", NOW_S)
    assert book(tmp_path).check(token, NOW_S + 99).owner == "ann"
    with pytest.raises(HdfsError, match="expired"):
        book(tmp_path).check(token, NOW_S + 100)
    assert oct((tmp_path / "tokens").stat().st_mode)[-3:] == "700"


def test_its_renewer_alone_makes_it_last_but_not_for_ever(tmp_path: Path) -> None:
    tokens = book(tmp_path)
    token = tokens.issue("ann", "bob", NOW_S)
    with pytest.raises(HdfsError, match="may not renew"):
        tokens.renew(token, "ann", NOW_S + 50)
    assert tokens.renew(token, "bob", NOW_S + 90) == (NOW_S + 190) * 1000
    assert tokens.check(token, NOW_S + 150).renewer == "bob"
    assert tokens.renew(token, "bob", NOW_S + 180) == (NOW_S + 250) * 1000
    with pytest.raises(HdfsError, match="expired"):
        tokens.renew(token, "bob", NOW_S + 250)


def test_a_cancelled_token_is_over_at_once(tmp_path: Path) -> None:
    tokens = book(tmp_path)
    token = tokens.issue("ann", "", NOW_S)
    with pytest.raises(HdfsError, match="may not cancel"):
        tokens.cancel(token, "bob", NOW_S)
    book(tmp_path).cancel(token, "ann", NOW_S)
    for use in (lambda: tokens.check(token, NOW_S), lambda: tokens.renew(token, "ann", NOW_S)):
        with pytest.raises(HdfsError, match="cancelled"):
            use()


def test_a_token_ends_with_its_owners_secret(tmp_path: Path) -> None:
    token = book(tmp_path).issue("ann", "", NOW_S)
    for keys in ({"bob": KEYS["bob"]}, {"ann": b"another" * 5}):
        with pytest.raises(HdfsError, match="not given out here"):
            book(tmp_path, keys).check(token, NOW_S)


def test_no_changed_byte_of_a_token_is_taken(tmp_path: Path) -> None:
    tokens = book(tmp_path)
    raw = base64.urlsafe_b64decode(tokens.issue("ann", "bob", NOW_S) + "==")
    parts = read_token(base64.urlsafe_b64encode(raw).decode())
    for place in range(2 + len(parts.identifier) + len(parts.password)):
        forged = bytearray(raw)
        forged[place] ^= 1
        with pytest.raises(HdfsError):
            tokens.check(base64.urlsafe_b64encode(forged).decode(), NOW_S)


def test_tokens_that_ended_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.gateways.webhdfs.tokenbook.MOST_TOKENS", 3)
    tokens = book(tmp_path)
    for _ in range(3):
        tokens.issue("ann", "", NOW_S)
    with pytest.raises(HdfsError, match="cancel some"):
        tokens.issue("ann", "", NOW_S + 1)
    tokens.issue("ann", "", NOW_S + 101)
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_a_grant_is_good_for_one_operation_at_one_path_for_a_while() -> None:
    grants = Grants(KEYS.get)
    values = {"op": "CREATE", "overwrite": "false"}
    grant = grants.issue("ann", "/data/a", values, NOW_S)
    assert grants.check(grant, "/data/a", {**values, "grant": grant}, NOW_S + GRANT_S) == "ann"
    for path, asked, at_s in (
        ("/data/b", values, NOW_S),
        ("/data/a", {**values, "overwrite": "true"}, NOW_S),
        ("/data/a", {**values, "op": "APPEND"}, NOW_S),
        ("/data/a", {**values, "permission": "777"}, NOW_S),
        ("/data/a", values, NOW_S + GRANT_S + 1),
    ):
        with pytest.raises(HdfsError, match="ask again"):
            grants.check(grant, path, asked, at_s)
    with pytest.raises(HdfsError):
        grants.check(grant.replace(".ann", ".bob"), "/data/a", values, NOW_S)
    with pytest.raises(HdfsError):
        Grants({}.get).check(grant, "/data/a", values, NOW_S)


def test_a_reader_may_seek_under_one_grant() -> None:
    grants = Grants(KEYS.get)
    grant = grants.issue("ann", "/data/a", {"op": "OPEN", "offset": "5"}, NOW_S)
    assert grants.check(grant, "/data/a", {"op": "OPEN", "offset": "9", "length": "1"}, NOW_S) == "ann"


@given(st.text(max_size=100))
def test_any_text_is_no_grant(text: str) -> None:
    with pytest.raises(HdfsError):
        Grants(KEYS.get).check(text, "/a", {"op": "OPEN"}, NOW_S)
