"""Logins by reference, for stores that ask for a name and a password or a token: settings never hold the secret itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from headrace.model.errors import SettingsError
from headrace.stores.credentials import read_credentials_file


class Login(msgspec.Struct, frozen=True):
    """Who asks. Neither repr nor str shows a secret."""

    user: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


def login_of(reference: str, environ: Mapping[str, str]) -> Login:
    """What `env:PREFIX` (PREFIX_USERNAME and PREFIX_PASSWORD, or PREFIX_TOKEN) or `file:PATH` (two lines) refer to.

    Empty or `anonymous`: an empty login. Raises `SettingsError` naming what is missing.
    """
    kind, _, argument = reference.partition(":")
    if reference in ("", "anonymous"):
        return Login()
    if kind == "file" and argument:
        found = read_credentials_file(Path(argument))
        return Login(found.key_id, found.secret)
    if kind != "env" or not argument:
        raise SettingsError(
            "credentials: write env:PREFIX, file:PATH (two lines: name, password) or anonymous, never a secret itself"
        )
    if token := environ.get(f"{argument}_TOKEN"):
        return Login(token=token)
    user, password = environ.get(f"{argument}_USERNAME", ""), environ.get(f"{argument}_PASSWORD", "")
    if not user:
        raise SettingsError(
            f"credentials env:{argument}: neither {argument}_USERNAME nor {argument}_TOKEN is set in the environment"
        )
    return Login(user, password)
