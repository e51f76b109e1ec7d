"""From what a client sends to the body of a write: framing taken off, and everything promised about it proved.

After "Authenticating Requests: Using the Authorization Header" (the values of `x-amz-content-sha256`) and PutObject
of the Amazon S3 API Reference.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Protocol

from headrace.gateways.http.messages import BadFraming
from headrace.gateways.http.messages import Body as RequestBody
from headrace.gateways.s3.accepted import PLAIN_HEADERS
from headrace.gateways.s3.aws_chunked import AwsChunkedDecoder
from headrace.gateways.s3.checksums import Headers, content_md5, declared_checksum, trailing_checksum
from headrace.gateways.s3.context import Call
from headrace.gateways.s3.errors import S3Error, refused
from headrace.gateways.s3.hoisted import request_headers
from headrace.gateways.s3.proofs import Proofs
from headrace.gateways.s3.streaming_auth import ChunkSigner
from headrace.model.reading import Buffer
from headrace.model.sigv4 import UNSIGNED_PAYLOAD
from headrace.model.writing import Body, Pairs

MAX_LENGTH = 2**63 - 1
SIGNED_CHUNKS = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_FRAMING_ALLOWANCE = 2
_LENGTH = re.compile(rb"[0-9]{1,19}")
_SHA256 = re.compile(rb"[0-9a-f]{64}")


class Decoder(Protocol):
    """Takes framing off: a state machine without IO."""

    @property
    def trailer(self) -> Mapping[bytes, bytes]:
        """What came behind the body; whole when `end` has passed."""

    def feed(self, data: bytes) -> list[Buffer]:
        """The body's bytes among `data`."""

    def end(self) -> None:
        """No more will come. Raises `S3Error` unless the body is whole."""


class IncomingWrite(Body):
    """A request's body as a write wants it. The last piece is kept back until all that was promised has been proved."""

    def __init__(
        self, source: AsyncIterable[bytes] | None, length: int | None, proofs: Proofs, decoder: Decoder | None = None
    ) -> None:
        self.length = length
        self._source = source
        self._proofs = proofs
        self._decoder = decoder

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[Buffer]:
        last: Buffer = b""
        decoder = self._decoder
        try:
            if self._source is not None:
                async for data in self._source:
                    for piece in (data,) if decoder is None else decoder.feed(data):
                        self._proofs.update(piece)
                        if last:
                            yield last
                        last = piece
        except BadFraming as error:
            raise broken(error) from error
        if decoder is not None:
            decoder.end()
        self._proofs.end({} if decoder is None else decoder.trailer)
        if last:
            yield last

    def checksums(self) -> Pairs:
        return self._proofs.checksums()


class PlainWrite(IncomingWrite):
    """A body that is sent as it is: when all of it has come before it is asked for, it is there at once."""

    def __init__(self, source: RequestBody, length: int | None, proofs: Proofs) -> None:
        super().__init__(source, length, proofs)
        self._whole = source

    def at_hand(self) -> Buffer | None:
        try:
            data = self._whole.at_hand()
        except BadFraming as error:
            raise broken(error) from error
        if data is not None:
            self._proofs.update(data)
            self._proofs.end({})
        return data


def incoming_body(call: Call) -> Body:
    """The body of an upload. Nothing of it has been asked for yet: that begins with its iteration.

    Raises `S3Error` when the headers alone show that it cannot be right, and so does the iteration for what
    the bytes show: wrong lengths, digests, signatures, framing, or an end that comes too early.
    """
    headers = call.request.headers
    if call.request.body is None and b"content-length" not in headers:
        raise S3Error("MissingContentLength", "You must provide the Content-Length HTTP header.")
    body = _body(call)
    if call.request.body is not None:
        call.request.body.allow(None)
    return body


async def buffered(call: Call, limit_bytes: int) -> bytes:
    """The whole body of a request that carries a document, proved like an upload's; empty when there is none.

    Raises `S3Error`, also when it is longer than `limit_bytes`.
    """
    body = _body(call)
    if body.length is not None and body.length > limit_bytes:
        raise _too_long(limit_bytes)
    if call.request.body is not None:
        call.request.body.allow(limit_bytes * _FRAMING_ALLOWANCE + 65536)
    whole = bytearray()
    async for piece in body:
        whole += piece
        if len(whole) > limit_bytes:
            raise _too_long(limit_bytes)
    return bytes(whole)


def stored_encoding(headers: Headers) -> str:
    """The `content-encoding` that is kept with the object: `aws-chunked` belongs to the way here alone."""
    codings = headers.get(b"content-encoding", b"").decode("latin-1").split(",")
    return ", ".join(coding.strip(" \t") for coding in codings if coding.strip(" \t").lower() not in ("aws-chunked", ""))


def broken(error: BadFraming) -> S3Error:
    """A body that the engine could not take in whole, as S3 says it."""
    if error.status == 408:
        return S3Error(
            "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period."
        )
    if error.status == 413:
        return S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
    return S3Error("IncompleteBody", f"The request body terminated unexpectedly: {error.reason}.")


def _body(call: Call) -> IncomingWrite:
    headers, source = request_headers(call), call.request.body
    content = _content(call)
    if source is not None and headers.keys() <= PLAIN_HEADERS and not content.startswith(b"STREAMING-"):
        sha256 = None if content == UNSIGNED_PAYLOAD else content
        return PlainWrite(source, source.length, Proofs(sha256=sha256, length=source.length))
    if content.startswith(b"STREAMING-"):
        return _framed(call, headers, content)
    if trailing_checksum(headers) is not None:
        raise S3Error(
            "InvalidRequest", "x-amz-trailer can only be used with a streamed body, as x-amz-content-sha256 must then say."
        )
    sha256 = None if content == UNSIGNED_PAYLOAD else content
    length = 0 if source is None else source.length
    if length is None and b"x-amz-decoded-content-length" in headers:
        length = _decoded_length(headers)
    proofs = Proofs(declared_checksum(headers), md5=content_md5(headers), sha256=sha256, length=length)
    return IncomingWrite(None, length, proofs) if source is None else PlainWrite(source, length, proofs)


def _framed(call: Call, headers: Headers, content: bytes) -> IncomingWrite:
    seed = call.identity.chunk_seed
    if content not in (SIGNED_CHUNKS, SIGNED_TRAILER, UNSIGNED_TRAILER):
        raise S3Error("NotImplemented", f"Bodies of the form {content[:80].decode()} are not taken here.")
    if content != UNSIGNED_TRAILER and seed is None:
        raise refused("AccessDenied", "A body with signed chunks needs a request that is signed in its Authorization header.")
    trailing = trailing_checksum(headers)
    if content == SIGNED_CHUNKS and trailing is not None:
        raise S3Error("InvalidRequest", "x-amz-trailer is given, but x-amz-content-sha256 says that the body has no trailer.")
    length = _decoded_length(headers)
    names = frozenset(() if trailing is None else (f"x-amz-checksum-{trailing.algorithm.value}".encode(),))
    decoder = AwsChunkedDecoder(
        length,
        signer=None if content == UNSIGNED_TRAILER or seed is None else ChunkSigner(seed),
        trailer=None if content == SIGNED_CHUNKS else names,
    )
    return IncomingWrite(call.request.body, length, Proofs(declared_checksum(headers), md5=content_md5(headers)), decoder)


def _content(call: Call) -> bytes:
    """What `x-amz-content-sha256` says: signed when the caller has a name, else merely sent."""
    headers = call.request.headers
    if not call.identity.caller.anonymous:
        content = call.identity.content_sha256
    elif b"x-amz-content-sha256" not in headers and b"x-amz-trailer" in headers:
        content = UNSIGNED_TRAILER
    else:
        content = headers.get(b"x-amz-content-sha256", UNSIGNED_PAYLOAD)
    if content != UNSIGNED_PAYLOAD and not content.startswith(b"STREAMING-") and not _SHA256.fullmatch(content):
        raise S3Error(
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, the name of a streamed form, or a valid sha256 value.",
        )
    return content


def _decoded_length(headers: Headers) -> int:
    raw = headers.get(b"x-amz-decoded-content-length")
    if raw is None:
        raise S3Error("MissingContentLength", "You must provide the x-amz-decoded-content-length HTTP header.")
    value = raw.strip(b" \t")
    if not _LENGTH.fullmatch(value) or int(value) > MAX_LENGTH:
        raise S3Error("InvalidArgument", "x-amz-decoded-content-length is not a number of bytes.")
    return int(value)


def _too_long(limit_bytes: int) -> S3Error:
    return S3Error("MaxMessageLengthExceeded", f"Your request was too big: its body may have {limit_bytes} bytes.")
