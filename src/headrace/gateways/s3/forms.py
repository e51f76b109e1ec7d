"""Forms of signed reads: what a client that signed rightly before sends again, all but its values.

A form stands for what `Authenticator.identify` found good about a head and what depends on its
header names and credential alone. The signature of every request is computed and compared anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import itemgetter

import msgspec

from headrace.gateways.http.forms import PATH, compile_form, header_names
from headrace.gateways.http.messages import Request
from headrace.gateways.s3.auth import Authenticator, Identity, Signer, canonical_path_kept
from headrace.model.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD

_MAX_FORMS = 256
_MAX_SEEN = 1024
_RENEW_S = 60.0
_SIGNATURE_BYTES = 64
_CANONICAL = rb"[!-~]+(?: [!-~]+)*"
"""Signed values that are signed as they stand: looking for runs of spaces afterwards costs as much as hashing."""
_RANGE = rb"bytes=\d{1,18}-\d{0,18}"
_CONTENT = EMPTY_SHA256 + b"|" + re.escape(UNSIGNED_PAYLOAD)

Groups = tuple[bytes, ...]


class SignedForm(msgspec.Struct, frozen=True):
    """One client's way of asking: numbers are places in the groups of a match."""

    read: Callable[[bytes], re.Match[bytes] | None]
    signer: Signer
    generation: int
    method: bytes
    signed: Callable[[Groups], Groups]
    """What the canonical request is filled with."""
    stamp: int
    claimed: int
    host: int
    range: int
    """0: whole objects."""

    def identify(self, groups: Groups, now_s: float) -> Identity | None:
        """The caller when the signature is right for now, else None."""
        canonical = self.signer.template % (self.method, canonical_path_kept(groups[PATH]), *self.signed(groups))
        return self.signer.check(groups[self.stamp], canonical, groups[self.claimed][-_SIGNATURE_BYTES:], now_s)


class Forms:
    """The forms in use. Making one is dear, so it is done for what comes again, and seldom for what changes all the time."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._known: dict[tuple[object, ...], SignedForm | None] = {}
        self._seen: set[tuple[object, ...]] = set()
        self._cleared_s = float("-inf")

    def of(self, request: Request, head: bytes, now_s: float) -> SignedForm | None:
        """The form of a head whose signature was just found right; None when it has none, or none yet."""
        found = self._authenticator.signer(request)
        if found is None:
            return None
        before, signer = found
        names = header_names(head)
        key = (self._authenticator.generation, before, names, request.headers.get(b"connection"))
        if key in self._known:
            return self._known[key]
        if key not in self._seen:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen.add(key)
            return None
        if len(self._known) >= _MAX_FORMS:
            if now_s - self._cleared_s < _RENEW_S:
                return None
            self._known.clear()
            self._cleared_s = now_s
        form = self._known[key] = _make(request, names, before, signer, self._authenticator.generation)
        return form


def _make(request: Request, names: tuple[bytes, ...], before: bytes, signer: Signer, generation: int) -> SignedForm | None:
    pattern = compile_form(
        request,
        names,
        {
            **dict.fromkeys(signer.names, _CANONICAL),
            b"authorization": re.escape(before + b"Signature=") + rb"[0-9a-f]{64}",
            b"x-amz-date": re.escape(signer.date) + rb"T\d{6}Z",
            b"x-amz-content-sha256": _CONTENT,
            b"range": _RANGE,
        },
    )
    if pattern is None:
        return None
    place = {name.lower(): number for number, name in enumerate(names, PATH + 1)}
    numbers = (*(place[name] for name in signer.names), place[b"x-amz-content-sha256"])
    return SignedForm(
        pattern.fullmatch, signer, generation, request.method, itemgetter(*numbers), stamp=place[b"x-amz-date"],
        claimed=place[b"authorization"], host=place[b"host"], range=place.get(b"range", 0),
    )  # fmt: skip
