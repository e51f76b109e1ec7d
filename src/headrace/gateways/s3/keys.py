"""The keys that callers sign with, held so that no repr, log or error shows a secret."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from headrace.model.sigv4 import signing_key

_MAX_DAY_KEYS = 4096


class KeyRing:
    """Key ids and their secrets; `replace` takes effect with the next request."""

    __slots__ = ("_day_keys", "_secrets", "generation")

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._secrets: dict[bytes, str] = {}
        self._day_keys: dict[tuple[bytes, bytes, bytes], bytes] = {}
        self.generation = 0
        """Grows with every change: what was learnt of an older one is void."""
        self.replace(secrets or {})

    def __repr__(self) -> str:
        return f"KeyRing({len(self._secrets)} keys)"

    def __len__(self) -> int:
        return len(self._secrets)

    def replace(self, secrets: Mapping[str, str]) -> None:
        """From now on exactly these keys are known. Requests already admitted go on."""
        self._secrets = {key_id.encode(): secret for key_id, secret in secrets.items()}
        self._day_keys = {}
        self.generation += 1

    def token_key(self, key_id: str) -> bytes | None:
        """What tokens and grants of a key's owner are proved with; another use of the key never makes it."""
        secret = self._secrets.get(key_id.encode())
        return None if secret is None else hmac.digest(secret.encode(), b"headrace webhdfs", "sha256")

    def day_key(self, key_id: bytes, date: bytes, region: bytes) -> bytes | None:
        """The signing key of `key_id` for a day and region, or None for an unknown key.

        Call it only with a date and region that were checked: each pair is remembered.
        """
        found = self._day_keys.get((key_id, date, region))
        if found is not None:
            return found
        secret = self._secrets.get(key_id)
        if secret is None:
            return None
        if len(self._day_keys) >= _MAX_DAY_KEYS:
            self._day_keys.clear()
        key = signing_key(secret, date.decode(), region.decode())
        self._day_keys[key_id, date, region] = key
        return key
