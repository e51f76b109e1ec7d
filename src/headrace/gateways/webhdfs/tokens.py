"""Delegation tokens in Hadoop's own form: what is said, how it is written, and the proof that we said it.

After `AbstractDelegationTokenIdentifier`, `Token` and `WritableUtils` of Hadoop. No IO, no clock.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable

import msgspec

from headrace.gateways.webhdfs.errors import HdfsError

KIND = "WEBHDFS delegation"
_VERSION = 0
_MOST_TEXT_BYTES = 1024
_MOST_TOKEN_CHARS = 4096


class TokenIdentifier(msgspec.Struct, frozen=True):
    """Who may do what the token's bearer asks, and until when at most. Times in milliseconds since 1970."""

    owner: str
    renewer: str
    issued_ms: int
    max_ms: int
    number: int
    real_user: str = ""
    master_key: int = 0


class Token(msgspec.Struct, frozen=True):
    """An identifier as it was written, and its proof."""

    identifier: bytes
    password: bytes
    kind: str = KIND
    service: str = ""

    def __repr__(self) -> str:
        return f"Token(kind={self.kind!r}, service={self.service!r})"


def write_identifier(one: TokenIdentifier) -> bytes:
    texts = b"".join([_text(text) for text in (one.owner, one.renewer, one.real_user)])
    numbers = b"".join([write_vlong(number) for number in (one.issued_ms, one.max_ms, one.number, one.master_key)])
    return bytes((_VERSION,)) + texts + numbers


def read_identifier(raw: bytes) -> TokenIdentifier:
    """Raises `HdfsError` for bytes that are none."""
    reader = _Reader(raw)
    if reader.byte() != _VERSION:
        raise _malformed()
    owner, renewer, real_user = reader.text(), reader.text(), reader.text()
    issued, most, number, master_key = (reader.vlong() for _ in range(4))
    reader.end()
    return TokenIdentifier(owner, renewer, issued, most, number, real_user, master_key)


def write_token(token: Token) -> str:
    """The text that Hadoop's clients carry in `delegation=`."""
    parts = [write_vlong(len(token.identifier)), token.identifier, write_vlong(len(token.password)), token.password]
    packed = b"".join([*parts, _text(token.kind), _text(token.service)])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def read_token(text: str) -> Token:
    """Raises `HdfsError` for text that is none."""
    if len(text) > _MOST_TOKEN_CHARS:
        raise _malformed()
    try:
        plain = text.rstrip("=").encode("ascii")
        raw = base64.b64decode(plain + b"=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise _malformed() from None
    reader = _Reader(raw)
    token = Token(reader.counted(), reader.counted(), reader.text(), reader.text())
    reader.end()
    return token


def proof(key: bytes, identifier: bytes) -> bytes:
    """The password of a token."""
    return hmac.digest(key, b"webhdfs token\0" + identifier, "sha256")


def is_proved(token: Token, key: bytes) -> bool:
    """Whether we made it. In constant time."""
    return hmac.compare_digest(proof(key, token.identifier), token.password)


def write_vlong(number: int) -> bytes:
    """A number as `WritableUtils.writeVLong` writes it."""
    if -112 <= number <= 127:
        return bytes((number & 0xFF,))
    first, left = (-120, ~number) if number < 0 else (-112, number)
    size = (left.bit_length() + 7) // 8
    return bytes(((first - size) & 0xFF,)) + left.to_bytes(size, "big")


def _text(text: str) -> bytes:
    raw = text.encode()
    return write_vlong(len(raw)) + raw


def _malformed() -> HdfsError:
    return HdfsError("InvalidToken", "the delegation token is malformed", audited=True)


class _Reader:
    """Takes bytes apart. Raises `HdfsError` where they end early."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def byte(self) -> int:
        return self._take(1)[0]

    def vlong(self) -> int:
        first = self.byte()
        first = first - 256 if first > 127 else first
        if first >= -112:
            return first
        negative = first < -120
        size = -(first + 120) if negative else -(first + 112)
        left = int.from_bytes(self._take(size), "big")
        number = ~left if negative else left
        if write_vlong(number) != self._raw[self._at - size - 1 : self._at]:
            raise _malformed()  # another spelling of the same number would be another token with the same meaning
        return number

    def counted(self) -> bytes:
        size = self.vlong()
        if not 0 <= size <= _MOST_TEXT_BYTES * 4:
            raise _malformed()
        return self._take(size)

    def text(self) -> str:
        raw = self.counted()
        if len(raw) > _MOST_TEXT_BYTES:
            raise _malformed()
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise _malformed() from None

    def end(self) -> None:
        if self._at != len(self._raw):
            raise _malformed()

    def _take(self, size: int) -> bytes:
        taken = self._raw[self._at : self._at + size]
        if len(taken) != size:
            raise _malformed()
        self._at += size
        return taken


KeyOf = Callable[[str], bytes | None]
"""What an owner's tokens are proved with; None for nobody that is known (any more)."""
