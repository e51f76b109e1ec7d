from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.ledger.secrets import SecretBox, private_text
from headrace.model.errors import CorruptData, SettingsError


def test_a_private_file_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "run" / "token"
    assert private_text(path, lambda: "first") == "first"
    assert private_text(path, lambda: "second") == "first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["token"]


def test_two_that_start_at_once_get_the_same_text(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda n: private_text(tmp_path / "token", lambda: f"text {n}"), range(32)))
    assert len(found) == 1


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret")
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        private_text(path, lambda: "x")


def test_what_was_sealed_opens_again(tmp_path: Path) -> None:
    sealed = SecretBox(tmp_path / "key").seal("geheim ÄÖ")
    assert "geheim" not in sealed
    assert SecretBox(tmp_path / "key").open(sealed) == "geheim ÄÖ"


def test_a_key_file_that_is_no_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("not a key")
    path.chmod(0o600)
    with pytest.raises(CorruptData, match="is not a key"):
        SecretBox(path).seal("x")
