"""Which delegation tokens are in force: a folder with one empty file for each, whose time is when the token ends.

Every process of the node sees the same folder, so a token that one of them gives out, renews or cancels is so for all of them
at once, and after a restart.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from headrace.gateways.webhdfs.errors import HdfsError
from headrace.gateways.webhdfs.settings import WebHdfsSettings
from headrace.gateways.webhdfs.tokens import (
    KeyOf,
    Token,
    TokenIdentifier,
    is_proved,
    proof,
    read_identifier,
    read_token,
    write_identifier,
    write_token,
)

MOST_TOKENS = 10_000


class TokenBook:
    """The tokens of one node. `key_of` gives the secret that an owner's tokens are proved with, so they end with the key."""

    def __init__(self, folder: Path, key_of: KeyOf, settings: WebHdfsSettings) -> None:
        self._folder = folder
        self._key_of = key_of
        self._settings = settings

    def issue(self, owner: str, renewer: str, now_s: float) -> str:
        """A new token, in the form that clients carry. Raises `HdfsError` when too many are in force."""
        key = self._key_of(owner)
        if key is None:
            raise HdfsError("InvalidToken", f"{owner[:128]} has no key that a token could be proved with", audited=True)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._sweep(now_s) >= MOST_TOKENS:
            raise HdfsError("IOException", f"{MOST_TOKENS} delegation tokens are in force here: cancel some")
        most_s = now_s + self._settings.token_max_s
        made = TokenIdentifier(owner, renewer or owner, int(now_s * 1000), int(most_s * 1000), secrets.randbelow(2**31))
        identifier = write_identifier(made)
        place = self._place(identifier)
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._set_end(place, min(now_s + self._settings.token_renew_s, most_s))
        return write_token(Token(identifier, proof(key, identifier)))

    def check(self, text: str, now_s: float) -> TokenIdentifier:
        """What a token in force says. Raises `HdfsError`."""
        return self._checked(text, now_s)[0]

    def renew(self, text: str, caller: str, now_s: float) -> int:
        """The millisecond at which the token ends now. Raises `HdfsError` unless `caller` is its renewer."""
        said, place = self._checked(text, now_s)
        if caller != said.renewer:
            raise _not_yours(caller, "renew")
        end_s = min(now_s + self._settings.token_renew_s, said.max_ms / 1000)
        try:
            self._set_end(place, end_s)
        except FileNotFoundError:
            raise _ended(said.owner) from None
        return int(end_s * 1000)

    def cancel(self, text: str, caller: str, now_s: float) -> None:
        """Raises `HdfsError` unless `caller` is its owner or its renewer."""
        said, place = self._checked(text, now_s)
        if caller not in (said.owner, said.renewer):
            raise _not_yours(caller, "cancel")
        place.unlink(missing_ok=True)

    def _checked(self, text: str, now_s: float) -> tuple[TokenIdentifier, Path]:
        token = read_token(text)
        said = read_identifier(token.identifier)
        key = self._key_of(said.owner)
        if key is None or not is_proved(token, key):
            raise HdfsError("InvalidToken", "the delegation token was not given out here", audited=True, caller=said.owner[:128])
        place = self._place(token.identifier)
        try:
            end_s = place.stat().st_mtime
        except FileNotFoundError:
            raise _ended(said.owner) from None
        if now_s >= min(end_s, said.max_ms / 1000):
            raise _ended(said.owner)
        return said, place

    def _place(self, identifier: bytes) -> Path:
        return self._folder / hashlib.sha256(identifier).hexdigest()[:40]

    def _set_end(self, place: Path, end_s: float) -> None:
        os.utime(place, (time.time(), end_s))

    def _sweep(self, now_s: float) -> int:
        """Remove what has ended; how many are left."""
        left = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.stat().st_mtime <= now_s:
                        Path(entry.path).unlink()
                    else:
                        left += 1
        return left


def _ended(owner: str) -> HdfsError:
    return HdfsError("InvalidToken", "the delegation token has expired or was cancelled", audited=True, caller=owner[:128])


def _not_yours(caller: str, verb: str) -> HdfsError:
    return HdfsError("AccessControlException", f"{caller} may not {verb} this token", audited=True, caller=caller)
