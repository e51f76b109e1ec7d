"""Logins come by reference, and nothing shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.model.errors import SettingsError
from headrace.stores.login import Login, login_of


def test_logins_are_found_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "login").write_text("ann\npa ss\n")
    (tmp_path / "login").chmod(0o600)
    environ = {"W_USERNAME": "ann", "W_PASSWORD": "p", "T_TOKEN": "t", "N_USERNAME": "only"}
    assert login_of("env:W", environ) == Login("ann", "p")
    assert login_of("env:T", environ) == Login(token="t")
    assert login_of("env:N", environ) == Login("only")
    assert login_of(f"file:{tmp_path / 'login'}", environ) == Login("ann", "pa ss")
    for nobody in ("", "anonymous"):
        assert login_of(nobody, environ) == Login()


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:X", "X_USERNAME nor X_TOKEN"),
        ("env:", "never a secret itself"),
        ("PLANTED", "never a secret itself"),
        ("file:/absent", "/absent"),
    ],
)
def test_what_is_missing_is_named(reference: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        login_of(reference, {"X_PASSWORD": "PLANTED"})
    assert "PLANTED" not in str(caught.value)


def test_a_login_is_never_shown() -> None:
    assert "PLANTED" not in f"{Login('ann', 'PLANTED', 'PLANTED')!r} {Login('ann', 'PLANTED')}"
