"""Credentials by reference: found where they are named, missing ones named, secrets never shown."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.clock import SystemClock
from headrace.model.errors import SettingsError, Unavailable
from headrace.stores.credentials import (
    Credentials,
    CredentialsProvider,
    credentials_provider,
    parse_instance_document,
)
from support.scripted import Answer, http_answer, scripted

SECRET = "s3cr3t%value"


class HandClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


def provider(reference: str, **environ: str) -> CredentialsProvider:
    return credentials_provider(reference, environ=environ, clock=SystemClock())


async def test_env_names_a_prefix() -> None:
    found = await provider("env:CORP", CORP_ACCESS_KEY_ID="id", CORP_SECRET_ACCESS_KEY=SECRET, CORP_SESSION_TOKEN="t").get()
    assert found == Credentials("id", SECRET, "t")


async def test_nothing_named_is_the_usual_environment() -> None:
    assert await provider("", AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY=SECRET).get() == Credentials("id", SECRET)


async def test_anonymous_signs_nothing() -> None:
    assert await provider("anonymous").get() is None


@pytest.mark.parametrize(
    ("reference", "environ", "named"),
    [
        ("env:CORP", {"CORP_ACCESS_KEY_ID": "id"}, "CORP_SECRET_ACCESS_KEY"),
        ("env:CORP", {}, "CORP_ACCESS_KEY_ID and CORP_SECRET_ACCESS_KEY"),
        ("", {}, "AWS_ACCESS_KEY_ID"),
        ("", {"AWS_ACCESS_KEY_ID": "id"}, "AWS_SECRET_ACCESS_KEY"),
        ("file:/absent/credentials", {}, "/absent/credentials"),
        ("profile:dev", {"AWS_SHARED_CREDENTIALS_FILE": "/absent/aws"}, "/absent/aws"),
        ("AKIA:literal-secret", {}, "env:PREFIX"),
    ],
)
def test_what_is_missing_is_named(reference: str, environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named) as caught:
        provider(reference, **environ)
    assert "literal-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"id\n{SECRET}\n",
        f"# comment\n\nid\n{SECRET}",
        f"[default]\naws_access_key_id = id\naws_secret_access_key = {SECRET}\n",
        f"[only]\naccess_key_id=id\nsecret_access_key={SECRET}\n",
        f"aws_access_key_id=id\naws_secret_access_key={SECRET}\n",
        f"access_key_id = id\nsecret_access_key = {SECRET}\n",
    ],
)
async def test_a_file_holds_two_lines_or_sections(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(0o600)
    assert await provider(f"file:{path}").get() == Credentials("id", SECRET)


async def test_a_profile_is_a_section(tmp_path: Path) -> None:
    path = tmp_path / "aws"
    path.write_text(
        f"[a]\naws_access_key_id=x\naws_secret_access_key=y\n[dev]\naws_access_key_id=id\naws_secret_access_key={SECRET}\n"
    )
    path.chmod(0o600)
    assert await provider("profile:dev", AWS_SHARED_CREDENTIALS_FILE=str(path)).get() == Credentials("id", SECRET)
    with pytest.raises(SettingsError, match=r"\[gone\]"):
        provider("profile:gone", AWS_SHARED_CREDENTIALS_FILE=str(path))


@settings(deadline=None)
@given(st.text(max_size=80))
def test_a_broken_file_is_an_error_that_shows_nothing_of_it(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "broken"
    path.write_text("[default]\n" + text + "\nPLANTED-SECRET line without a sign\n[x", encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(SettingsError) as caught:
        provider(f"file:{path}")
    assert "PLANTED" not in str(caught.value)
    assert caught.value.__cause__ is None or "PLANTED" not in str(caught.value.__cause__)


async def test_a_file_that_others_can_read_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys"
    path.write_text(f"id\n{SECRET}\n")
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        provider(f"file:{path}")
    assert "chmod 600" in caplog.text
    assert SECRET not in caplog.text


async def test_a_rotated_file_is_taken_up_and_a_vanished_one_survived(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("id\nold\n")
    path.chmod(0o600)
    clock = HandClock()
    found = credentials_provider(f"file:{path}", environ={}, clock=clock)
    path.write_text("id\nnew\n")
    assert await found.get() == Credentials("id", "old")
    clock.now += 61
    assert await found.get() == Credentials("id", "new")
    path.unlink()
    clock.now += 61
    assert await found.get() == Credentials("id", "new")


def metadata_service(expirations: list[str]) -> Answer:
    def answer(first: str, headers: dict[str, str]) -> bytes:
        method, target, _ = first.split(" ")
        if method == "PUT" and target == "/latest/api/token" and "x-aws-ec2-metadata-token-ttl-seconds" in headers:
            return http_answer(200, b"TOKEN")
        if headers.get("x-aws-ec2-metadata-token") != "TOKEN":
            return http_answer(401)
        if target.endswith("/security-credentials/"):
            return http_answer(200, b"reader-role")
        if not expirations:
            return http_answer(500)
        document = {"AccessKeyId": "id", "SecretAccessKey": SECRET, "Token": "t", "Expiration": expirations.pop(0)}
        return http_answer(200, json.dumps(document).encode())

    return answer


async def test_instance_credentials_are_fetched_once_and_refreshed_before_they_expire() -> None:
    clock = HandClock()
    expirations = ["1970-01-12T15:46:40Z", "1970-01-12T17:46:40Z"]  # 2,000 and 9,200 seconds after the clock's start
    async with scripted(metadata_service(expirations)) as server:
        found = credentials_provider("instance", environ={}, clock=clock, instance_endpoint=server.endpoint)
        first = await found.get()
        assert first is not None
        assert (first.key_id, first.secret, first.session_token) == ("id", SECRET, "t")
        assert await found.get() is first
        asked = len(server.requests)
        clock.now = first.expires_s - 200
        second = await found.get()
        assert second is not None
        assert second.expires_s == first.expires_s + 7200
        assert len(server.requests) == asked + 3
        clock.now = second.expires_s - 200
        assert await found.get() is second, "a failed refresh leaves good credentials in use"
        clock.now = second.expires_s + 1
        with pytest.raises(Unavailable, match="no instance credentials"):
            await found.get()
        await found.close()


@settings(deadline=None)
@given(st.text(max_size=60))
def test_an_instance_document_is_credentials_or_unavailable(text: str) -> None:
    with pytest.raises(Unavailable):
        parse_instance_document(text)


def test_no_secret_is_shown() -> None:
    credentials = Credentials("id", SECRET, "token-value")
    shown = f"{credentials!r} {credentials} {[credentials]}"
    assert SECRET not in shown
    assert "token-value" not in shown
