"""Signatures of a body's chunks, each made over the one before it, from the request's own on.

After "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks" and
"… Including Trailing Headers" of the Amazon S3 API Reference (Signature Version 4).
"""

from __future__ import annotations

import hashlib
from hmac import compare_digest

import msgspec

from headrace.gateways.s3.errors import refused
from headrace.model.reading import Buffer
from headrace.model.sigv4 import EMPTY_SHA256, Pair, canonical_headers, signature

_CHUNK = b"AWS4-HMAC-SHA256-PAYLOAD\n%b\n%b\n%b\n" + EMPTY_SHA256 + b"\n%b"
_TRAILER = b"AWS4-HMAC-SHA256-TRAILER\n%b\n%b\n%b\n%b"


class ChunkSeed(msgspec.Struct, frozen=True):
    """What the signatures of a body's chunks begin from. Its repr shows no key."""

    key: bytes
    """Of the day, region and service."""
    stamp: bytes
    scope: bytes
    signature: bytes
    """The request's own."""
    caller: str

    def __repr__(self) -> str:
        return f"ChunkSeed(scope={self.scope!r}, caller={self.caller!r})"


class ChunkSigner:
    """Checks one chunk after another. Every refusal is `SignatureDoesNotMatch` and ends the body."""

    def __init__(self, seed: ChunkSeed) -> None:
        self._seed = seed
        self._previous = seed.signature
        self._hash = hashlib.sha256()

    def update(self, data: Buffer) -> None:
        """Bytes of the chunk that runs."""
        self._hash.update(data)

    def end_chunk(self, claimed: bytes) -> None:
        """The chunk that ran is whole. Raises `S3Error` unless `claimed` is its signature."""
        seed = self._seed
        digest, self._hash = self._hash.hexdigest().encode(), hashlib.sha256()
        self._compare(_CHUNK % (seed.stamp, seed.scope, self._previous, digest), claimed, "a chunk")

    def end_trailer(self, trailer: list[Pair], claimed: bytes) -> None:
        """The same for what came behind the last chunk; names are lower case."""
        seed = self._seed
        lines, _ = canonical_headers(trailer)
        digest = hashlib.sha256(lines).hexdigest().encode()
        self._compare(_TRAILER % (seed.stamp, seed.scope, self._previous, digest), claimed, "the trailer")

    def _compare(self, text: bytes, claimed: bytes, what: str) -> None:
        expected = signature(self._seed.key, text)
        if not compare_digest(expected, claimed):
            raise refused(
                "SignatureDoesNotMatch",
                f"The signature that we calculated for {what} of the body does not match the signature you provided.",
                caller=self._seed.caller,
            )
        self._previous = expected
