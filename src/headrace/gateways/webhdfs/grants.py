"""What stands in a redirect for a caller who signed the request before it: good for that one operation, for some minutes.

HDFS puts a delegation token there. This is less: whoever reads the address in a log can do with it only what it says. No IO.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from headrace.gateways.webhdfs.errors import HdfsError
from headrace.gateways.webhdfs.tokens import KeyOf

PARAMETER = "grant"
GRANT_S = 600
_FORM = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})\.(.{1,256})", re.DOTALL)
_FREE = frozenset(("offset", "length", "buffersize"))
"""What Hadoop's client changes in an address that it keeps for seeking."""


class Grants:
    """Gives them out and checks them. `key_of` as for tokens."""

    def __init__(self, key_of: KeyOf) -> None:
        self._key_of = key_of

    def issue(self, caller: str, path: str, values: Mapping[str, str], now_s: float) -> str:
        """For a request with these parameters by `caller`, whose key is known."""
        key = self._key_of(caller)
        if key is None:
            raise _refused(caller)
        until = int(now_s) + GRANT_S
        return f"{until}.{_proof(key, until, path, values)}.{caller}"

    def check(self, grant: str, path: str, values: Mapping[str, str], now_s: float) -> str:
        """Who may do this. Raises `HdfsError`."""
        match = _FORM.fullmatch(grant)
        if match is None:
            raise _refused("")
        caller, until = match[3], int(match[1])
        key = self._key_of(caller)
        if key is None or not hmac.compare_digest(_proof(key, until, path, values), match[2]) or now_s > until:
            raise _refused(caller)
        return caller


def _proof(key: bytes, until: int, path: str, values: Mapping[str, str]) -> str:
    free = _FREE if values.get("op", "").upper() == "OPEN" else frozenset()
    bound = sorted((name, value) for name, value in values.items() if name != PARAMETER and name not in free)
    said = [b"webhdfs grant", str(until).encode(), path.encode()]
    said += [part.encode() for pair in bound for part in pair]
    return hmac.digest(key, b"".join([b"%d:%b," % (len(part), part) for part in said]), "sha256").hex()


def _refused(caller: str) -> HdfsError:
    return HdfsError(
        "AuthenticationException", "the grant of this address is for something else, or over: ask again without it",
        audited=True, caller=caller[:128],
    )  # fmt: skip
