"""The `aws-chunked` coding: decodes what is right however it is cut, and refuses everything else by name."""

from __future__ import annotations

import io
import itertools

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum

from headrace.gateways.s3.aws_chunked import MAX_LINE_BYTES, MIN_CHUNK_BYTES, AwsChunkedDecoder
from headrace.gateways.s3.errors import S3Error
from support.uploads import framed

BIG = b"b" * MIN_CHUNK_BYTES
CRC = frozenset((b"x-amz-checksum-crc32",))
GOOD_TRAILER = {"x-amz-checksum-crc32": "AAAAAA=="}


def decode(
    wire: bytes, length: int, trailer: frozenset[bytes] | None = None, cut: int = 1 << 20
) -> tuple[bytes, AwsChunkedDecoder]:
    decoder = AwsChunkedDecoder(length, trailer=trailer)
    out = b"".join(bytes(piece) for at in range(0, len(wire), cut) for piece in decoder.feed(wire[at : at + cut]))
    decoder.end()
    return out, decoder


def refusal(wire: bytes, length: int, trailer: frozenset[bytes] | None = None) -> S3Error:
    with pytest.raises(S3Error) as caught:
        decode(wire, length, trailer)
    with pytest.raises(S3Error) as again:
        decode(wire, length, trailer, cut=7)
    assert again.value.code == caught.value.code, "however it is cut"
    return caught.value


@pytest.mark.parametrize("cut", [1, 2, 3, 8191, 1 << 20])
def test_decodes_however_it_is_cut(cut: int) -> None:
    chunks = [BIG, BIG + b"x", b"tail"]
    out, decoder = decode(framed(chunks, None, GOOD_TRAILER), sum(map(len, chunks)), CRC, cut)
    assert out == b"".join(chunks)
    assert decoder.trailer == {b"x-amz-checksum-crc32": b"AAAAAA=="}


def test_every_place_to_cut_in_two() -> None:
    wire = framed([b"tail"], None, GOOD_TRAILER)
    for cut in range(len(wire) + 1):
        decoder = AwsChunkedDecoder(4, trailer=CRC)
        out = b"".join([*decoder.feed(wire[:cut]), *decoder.feed(wire[cut:])])
        decoder.end()
        assert out == b"tail"


@pytest.mark.parametrize("size", [0, 1, MIN_CHUNK_BYTES, 3_000_000])
def test_what_botocore_encodes(size: int) -> None:
    data = bytes(itertools.islice(itertools.cycle(range(251)), size))
    wrapper = AwsChunkedWrapper(io.BytesIO(data), Crc32Checksum, "x-amz-checksum-crc32")
    out, decoder = decode(wrapper.read(), size, CRC, 65536)
    other = Crc32Checksum()
    other.update(data)
    assert out == data
    assert decoder.trailer == {b"x-amz-checksum-crc32": other.b64digest().encode()}


def test_an_empty_trailer_when_none_is_named() -> None:
    assert decode(b"0\r\n\r\n", 0, frozenset())[0] == b""


def test_a_trailers_line_as_awss_pages_print_it() -> None:
    _, decoder = decode(b"0\r\nx-amz-checksum-crc32:AAAAAA==\n\r\n\r\n", 0, CRC)
    assert decoder.trailer == {b"x-amz-checksum-crc32": b"AAAAAA=="}


@pytest.mark.parametrize(
    "wire",
    [
        b"4\ntail\r\n0\r\n\r\n",
        b"4\r\ntail\n0\r\n\r\n",
        b"4\r\ntailx\r\n0\r\n\r\n",
        b"4\r\ntail0\r\n\r\n",
        b"4 \r\ntail\r\n0\r\n\r\n",
        b" 4\r\ntail\r\n0\r\n\r\n",
        b"+4\r\ntail\r\n0\r\n\r\n",
        b"-4\r\ntail\r\n0\r\n\r\n",
        b"0x4\r\ntail\r\n0\r\n\r\n",
        b"4_\r\ntail\r\n0\r\n\r\n",
        b"\r\n4\r\ntail\r\n0\r\n\r\n",
        b"4;chunk-signature=" + b"a" * 64 + b"\r\ntail\r\n0\r\n\r\n",
        b"4;x=y\r\ntail\r\n0\r\n\r\n",
        b"0" * 17 + b"4\r\ntail\r\n0\r\n\r\n",
        b"4" + b" " * MAX_LINE_BYTES + b"\r\ntail\r\n0\r\n\r\n",
        b"4\r\ntail\r\n0\r\n\r\nx",
        b"4\r\ntail\r\n0\r\n\r\n0\r\n\r\n",
        b"4\r\ntail\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
        b"4\r\ntail\r\n0\r\n\n",
    ],
)
def test_refuses_other_framing(wire: bytes) -> None:
    assert refusal(wire, 4).code == "InvalidRequest"


@pytest.mark.parametrize(
    "trailer",
    [
        b"",
        b"x-amz-checksum-crc32c:AAAAAA==\r\n",
        b"x-amz-checksum-crc32:AAAAAA==\r\nx-amz-checksum-crc32:AAAAAA==\r\n",
        b"x-amz-checksum-crc32:AAAAAA==\r\nX-Amz-Checksum-CRC32:AAAAAA==\r\n",
        b"x-amz-checksum-crc32:AAAAAA==\r\nx-amz-meta-a:b\r\n",
        b"x-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:" + b"a" * 64 + b"\r\n",
        b"x-amz-checksum-crc32 :AAAAAA==\r\n",
        b" x-amz-checksum-crc32:AAAAAA==\r\n",
        b"x-amz-checksum-crc32\r\n",
        b"x-amz-checksum-crc32:AAAA\0AA==\r\n",
        b"x-amz-checksum-crc32:AAAAAA==\r\r\n",
        b"x-amz-checksum-crc32:" + b"A" * MAX_LINE_BYTES + b"\r\n",
        b"x-amz-checksum-crc32:AAAAAA==\nx-amz-checksum-crc32:AAAAAA==\r\n",
    ],
)
def test_refuses_other_trailers(trailer: bytes) -> None:
    assert refusal(b"4\r\ntail\r\n0\r\n" + trailer + b"\r\n", 4, CRC).code == "InvalidRequest"


@pytest.mark.parametrize(
    "wire", [b"", b"4", b"4\r\n", b"4\r\nta", b"4\r\ntail", b"4\r\ntail\r\n", b"4\r\ntail\r\n0\r\n", b"4\r\ntail\r\n0\r\n\r"]
)
def test_an_end_that_comes_too_early(wire: bytes) -> None:
    assert refusal(wire, 4).code == "IncompleteBody"


def test_more_and_less_than_was_announced() -> None:
    assert refusal(framed([b"tail"]), 5).code == "IncompleteBody"
    assert refusal(framed([b"tail"]), 3).code == "InvalidRequest"
    assert refusal(b"ffffffffffffffff\r\n", 2**63 - 1).code == "InvalidRequest"


def test_more_is_refused_before_any_of_it_is_given_out() -> None:
    decoder = AwsChunkedDecoder(len(BIG))
    assert b"".join(decoder.feed(b"%x\r\n%b\r\n" % (len(BIG), BIG))) == BIG
    with pytest.raises(S3Error):
        decoder.feed(b"1\r\nx")


def test_only_the_last_chunk_may_be_small() -> None:
    assert refusal(framed([b"small", b"tail"]), 9).code == "InvalidChunkSizeError"
    assert decode(framed([BIG, b"small"]), len(BIG) + 5)[0] == BIG + b"small"


def test_pieces_are_not_copied() -> None:
    wire = framed([BIG])
    piece = AwsChunkedDecoder(len(BIG)).feed(wire)[0]
    assert isinstance(piece, memoryview)
    assert piece.obj is wire
