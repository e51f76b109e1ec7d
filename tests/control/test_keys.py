from __future__ import annotations

import stat
from pathlib import Path

import pytest

from headrace.control.keys import owner_file, owner_key, resolve_keys
from headrace.control.settings import KeySpec
from headrace.model.errors import SettingsError


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("from-a-file-0123\n")
    specs = (KeySpec("a", "env:NAME"), KeySpec("b", f"file:{tmp_path / 's'}"))
    found = resolve_keys(specs, {"NAME": "from-the-env-0123"})
    assert [(key.id, key.secret) for key in found] == [("a", "from-the-env-0123"), ("b", "from-a-file-0123")]
    assert "0123" not in repr(found)


def test_a_literal_works_with_a_warning_that_does_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve_keys((KeySpec("a", "litera1-secret"),), {})[0].secret == "litera1-secret"
    assert "env:NAME" in caplog.text
    assert "litera1-secret" not in caplog.text


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "short",
        "secret",
        "password",
        "Password123",
        "minioadmin",
        "changeme",
        "change-me",
        "CHANGE_ME_1",
        "my-secret-key",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aaaaaaaaaaaaaaaa",
        "<your-secret>",
    ],
)
def test_empty_default_and_example_secrets_refuse_to_start_without_being_shown(secret: str) -> None:
    with pytest.raises(SettingsError, match="openssl rand") as caught:
        resolve_keys((KeySpec("k1", secret),), {})
    assert len(secret) < 6 or secret == "secret" or secret not in str(caught.value)


def test_a_good_secret_is_taken() -> None:
    secret = "9f8c1b7a6d5e4f3a2b1c0d9e8f7a6b5c"
    assert [key.secret for key in resolve_keys((KeySpec("k1", secret),), {})] == [secret]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (KeySpec("a", "env:MISSING"), "MISSING is not set"),
        (KeySpec("a", "file:/nowhere/at/all"), "cannot read the secret"),
        (KeySpec("a b", "env:X"), "key id"),
        (KeySpec("", "env:X"), "key id"),
    ],
)
def test_what_is_wrong_with_a_key_is_named(spec: KeySpec, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        resolve_keys((spec,), {"X": "good-secret-0123"})


def test_a_key_may_not_be_written_twice() -> None:
    with pytest.raises(SettingsError, match="twice"):
        resolve_keys((KeySpec("a", "env:X"), KeySpec("a", "env:X")), {"X": "good-secret-0123"})


def test_the_owner_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = owner_key(tmp_path)
    assert owner_key(tmp_path) == first
    assert stat.S_IMODE(owner_file(tmp_path).stat().st_mode) == 0o600
    assert first.id.startswith("HR")
    assert len(first.secret) >= 40


def test_a_credentials_file_without_a_key_is_named(tmp_path: Path) -> None:
    owner_file(tmp_path).write_text("nonsense\n")
    owner_file(tmp_path).chmod(0o600)
    with pytest.raises(SettingsError, match="remove it"):
        owner_key(tmp_path)
