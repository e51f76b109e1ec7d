"""The `aws-chunked` content coding as a state machine without IO: framed bytes in, the object's bytes out.

After the pages named in `streaming_auth`. A chunk is its size in hexadecimal, its signature when chunks are
signed, CR LF, its bytes, CR LF; an empty chunk ends them; then come the trailer's lines, if there is one, and CR LF.
A trailer's line may also end with LF CR LF, as AWS's pages print it and some clients therefore send it.
"""

from __future__ import annotations

import re
from enum import IntEnum

from headrace.gateways.s3.errors import S3Error, refused
from headrace.gateways.s3.streaming_auth import ChunkSigner
from headrace.model.reading import Buffer

MIN_CHUNK_BYTES = 8192
"""Of every chunk but the last that has bytes: so no body costs more for its framing than for its bytes."""
MAX_LINE_BYTES = 1024
TRAILER_SIGNATURE = b"x-amz-trailer-signature"
_SIGNED_SIZE = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})")
_TRAILER_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\x20-\x7e\t]*)")
_HEX_SIGNATURE = re.compile(rb"[0-9a-f]{64}")


class _Await(IntEnum):
    SIZE = 0
    DATA = 1
    DATA_END = 2
    TRAILER = 3
    NOTHING = 4


class AwsChunkedDecoder:
    """Takes the coded bytes as they come. `trailer` names, in lower case, exactly what must come behind the chunks.

    Raises `S3Error` for all that is not one well-formed body of `length` bytes, rightly signed where there is a `signer`.
    """

    def __init__(self, length: int, *, signer: ChunkSigner | None = None, trailer: frozenset[bytes] | None = None) -> None:
        self.trailer: dict[bytes, bytes] = {}
        """What came in the trailer; whole only when `done`."""
        self._length = length
        self._signer = signer
        self._wanted = trailer
        self._state = _Await.SIZE
        self._left = 0
        self._line = b""
        self._claimed = b""
        self._short = False
        self._bare = False

    @property
    def done(self) -> bool:
        """Whether the coding's end has been seen."""
        return self._state is _Await.NOTHING

    def feed(self, data: bytes) -> list[Buffer]:
        """The object's bytes among `data`. They count only when the whole body turns out to be right."""
        pieces: list[Buffer] = []
        view = memoryview(data)
        at, end = 0, len(data)
        while at < end:
            if self._state is _Await.DATA:
                piece = view[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._signer is not None:
                    self._signer.update(piece)
                if not self._left:
                    self._state = _Await.DATA_END
                pieces.append(piece)
            elif self._state is _Await.NOTHING:
                raise _malformed("there are bytes behind its end")
            else:
                at = self._take_line(data, at)
        return pieces

    def end(self) -> None:
        """No more will come. Raises `S3Error` unless that is right."""
        if not self.done:
            raise S3Error("IncompleteBody", "The request body terminated unexpectedly: the last chunk did not arrive.")

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at, at + MAX_LINE_BYTES)
        until = end + 1 if end >= 0 else len(data)
        if len(self._line) + until - at > MAX_LINE_BYTES:
            raise _malformed("a line is too long")
        self._line += data[at:until]
        if end >= 0:
            line, self._line = self._line, b""
            if self._state is _Await.TRAILER:
                self._trailer_line(line)
            elif not line.endswith(b"\r\n"):
                raise _malformed("a line does not end with CR LF")
            elif self._state is _Await.SIZE:
                self._size_line(line[:-2])
            else:
                self._chunk_ended(line[:-2])
        return until

    def _size_line(self, line: bytes) -> None:
        match = (_SIZE if self._signer is None else _SIGNED_SIZE).fullmatch(line)
        if match is None:
            raise _malformed(
                "a chunk's size is malformed" if self._signer is None else "a chunk's size or signature is malformed"
            )
        size = int(match[1], 16)
        if size > self._length:
            raise S3Error("InvalidRequest", "The body has more bytes than x-amz-decoded-content-length says.")
        if size and self._short:
            raise S3Error(
                "InvalidChunkSizeError", f"Only the last chunk is allowed to have a size less than {MIN_CHUNK_BYTES} bytes"
            )
        self._short = size < MIN_CHUNK_BYTES
        self._length -= size
        self._left = size
        self._claimed = match[2] if self._signer is not None else b""
        if size:
            self._state = _Await.DATA
            return
        if self._length:
            raise S3Error("IncompleteBody", "The body has fewer bytes than x-amz-decoded-content-length says.")
        self._check_chunk()
        self._state = _Await.TRAILER

    def _chunk_ended(self, line: bytes) -> None:
        if line:
            raise _malformed("a chunk is longer than it says")
        self._check_chunk()
        self._state = _Await.SIZE

    def _check_chunk(self) -> None:
        if self._signer is not None:
            self._signer.end_chunk(self._claimed)

    def _trailer_line(self, line: bytes) -> None:
        if line == b"\r\n":
            if self._bare:
                self._bare = False
            else:
                self._end_of_trailer()
            return
        if self._bare:
            raise _malformed("a line of the trailer does not end with CR LF")
        self._bare = not line.endswith(b"\r\n")
        match = _TRAILER_LINE.fullmatch(line[:-1] if self._bare else line[:-2])
        if match is None:
            raise _malformed("a line of the trailer is malformed")
        self._take_trailer(match[1].lower(), match[2].strip(b" \t"))

    def _take_trailer(self, name: bytes, value: bytes) -> None:
        if TRAILER_SIGNATURE in self.trailer:
            raise _malformed("the trailer goes on behind its signature")
        if name in self.trailer:
            raise _malformed("a name comes twice in the trailer")
        signature = name == TRAILER_SIGNATURE and self._signer is not None and self._wanted is not None
        if not signature and name not in (self._wanted or ()):
            raise _malformed("the trailer holds what x-amz-trailer does not name")
        self.trailer[name] = value

    def _end_of_trailer(self) -> None:
        claimed = self.trailer.pop(TRAILER_SIGNATURE, b"")
        if self._wanted is not None:
            if self.trailer.keys() != self._wanted:
                raise _malformed("the trailer lacks what x-amz-trailer names")
            if self._signer is not None:
                if not _HEX_SIGNATURE.fullmatch(claimed):
                    raise refused("AccessDenied", "The trailer is not signed, as its request says it is.")
                self._signer.end_trailer(list(self.trailer.items()), claimed)
        self._state = _Await.NOTHING


def _malformed(what: str) -> S3Error:
    return S3Error("InvalidRequest", f"The aws-chunked body is malformed: {what}.")
