"""Encryption of secrets at rest, with a key file that only the owner can read."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from headrace.model.errors import CorruptData, SettingsError


class SecretBox:
    """Encrypts with the key in `key_file`, which is made at first use with mode 0600."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file
        self._fernet: Fernet | None = None

    def seal(self, secret: str) -> str:
        return self._cipher().encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """The secret. Raises `CorruptData` when it was sealed with another key."""
        try:
            return self._cipher().decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise CorruptData(
                f"{self._key_file} does not open the secrets in the ledger: put the key file back that they were written with"
            ) from error

    def _cipher(self) -> Fernet:
        if self._fernet is None:
            text = private_text(self._key_file, lambda: Fernet.generate_key().decode())
            try:
                self._fernet = Fernet(text.strip().encode())
            except ValueError as error:
                raise CorruptData(f"{self._key_file} is not a key: restore it from a backup") from error
        return self._fernet


def private_text(path: Path, make: Callable[[], str]) -> str:
    """The text of a file that only its owner may read; made whole from `make` when it is absent.

    Two processes that start at once get the same text. Raises `SettingsError` when others may read the file.
    """
    try:
        return _read_private(path)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()
    return _read_private(path)


def _read_private(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(fd, encoding="utf-8") as file:
        if os.fstat(fd).st_mode & 0o077:
            raise SettingsError(f"{path} can be read by others: run `chmod 600 {path}`, and replace what is in it if they did")
        return file.read()
