"""Chunk signatures against the two examples that AWS publishes, from the request's head to its trailer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headrace.gateways.http.messages import Request
from headrace.gateways.s3.auth import Authenticator
from headrace.gateways.s3.aws_chunked import AwsChunkedDecoder
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.keys import KeyRing
from headrace.gateways.s3.streaming_auth import ChunkSeed, ChunkSigner

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEYS = KeyRing({"AKIAIOSFODNN7EXAMPLE": SECRET})
NOW_S = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
DATA = b"a" * 66560
CHUNKS = (
    b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
TRAILER_CHUNKS = (
    b"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    b"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    b"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
)
TRAILER_SIGNATURE = b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"


def seed(content: bytes, signed: bytes, signature: bytes, **headers: bytes) -> ChunkSeed:
    """What the authenticator makes of the example's head, whose signature is published too."""
    every = {
        b"host": b"s3.amazonaws.com",
        b"x-amz-date": b"20130524T000000Z",
        b"x-amz-storage-class": b"REDUCED_REDUNDANCY",
        b"authorization": b"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        b"SignedHeaders=" + signed + b",Signature=" + signature,
        b"x-amz-content-sha256": content,
        b"content-encoding": b"aws-chunked",
        b"x-amz-decoded-content-length": b"66560",
        **{name.replace("_", "-").encode(): value for name, value in headers.items()},
    }
    request = Request(b"PUT", b"/examplebucket/chunkObject.txt", b"", every, True, "peer")
    found = Authenticator(KEYS, "us-east-1").identify(request, NOW_S).chunk_seed
    assert found is not None
    return found


def chunks_seed() -> ChunkSeed:
    return seed(
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        b"content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
        b"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        content_length=b"66824",
    )


def trailer_seed() -> ChunkSeed:
    return seed(
        b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        b"content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
        b"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        x_amz_trailer=b"x-amz-checksum-crc32c",
    )


def wire(signatures: tuple[bytes, ...], trailer: bytes = b"") -> bytes:
    sizes = (65536, 1024, 0)
    out, at = b"", 0
    for size, signature in zip(sizes, signatures, strict=True):
        out += b"%x;chunk-signature=%b\r\n" % (size, signature)
        if size:
            out += DATA[at : at + size] + b"\r\n"
        at += size
    return out + trailer + b"\r\n"


def test_the_published_chunks() -> None:
    decoder = AwsChunkedDecoder(len(DATA), signer=ChunkSigner(chunks_seed()))
    sent = wire(CHUNKS)
    assert len(sent) == 66824, "the length that the example announces"
    assert b"".join(decoder.feed(sent)) == DATA
    decoder.end()


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n\r\n"])
def test_the_published_trailer(line_end: bytes) -> None:
    decoder = AwsChunkedDecoder(len(DATA), signer=ChunkSigner(trailer_seed()), trailer=frozenset((b"x-amz-checksum-crc32c",)))
    trailer = b"x-amz-checksum-crc32c:sOO8/Q==" + line_end + b"x-amz-trailer-signature:" + TRAILER_SIGNATURE + line_end
    assert b"".join(decoder.feed(wire(TRAILER_CHUNKS, trailer))) == DATA
    decoder.end()
    assert decoder.trailer == {b"x-amz-checksum-crc32c": b"sOO8/Q=="}


@pytest.mark.parametrize("place", range(3))
def test_one_wrong_digit_in_any_chunks_signature(place: int) -> None:
    wrong = CHUNKS[place][:-1] + (b"0" if CHUNKS[place][-1:] != b"0" else b"1")
    decoder = AwsChunkedDecoder(len(DATA), signer=ChunkSigner(chunks_seed()))
    with pytest.raises(S3Error) as caught:
        decoder.feed(wire((*CHUNKS[:place], wrong, *CHUNKS[place + 1 :])))
    assert (caught.value.code, caught.value.audited, caught.value.caller) == (
        "SignatureDoesNotMatch",
        True,
        "AKIAIOSFODNN7EXAMPLE",
    )


def test_signatures_of_another_body_do_not_carry_over() -> None:
    decoder = AwsChunkedDecoder(len(DATA), signer=ChunkSigner(trailer_seed()))
    with pytest.raises(S3Error):
        decoder.feed(wire(CHUNKS))


def test_a_wrong_or_missing_signature_of_the_trailer() -> None:
    for trailer in (
        b"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:" + TRAILER_SIGNATURE[::-1] + b"\r\n",
        b"x-amz-checksum-crc32c:sOO8/Qo=\r\nx-amz-trailer-signature:" + TRAILER_SIGNATURE + b"\r\n",
        b"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:abc\r\n",
        b"x-amz-checksum-crc32c:sOO8/Q==\r\n",
    ):
        decoder = AwsChunkedDecoder(len(DATA), signer=ChunkSigner(trailer_seed()), trailer=frozenset((b"x-amz-checksum-crc32c",)))
        with pytest.raises(S3Error) as caught:
            decoder.feed(wire(TRAILER_CHUNKS, trailer))
        assert caught.value.status == 403
        assert not decoder.done


def test_a_trailer_that_goes_on_behind_its_signature() -> None:
    decoder = AwsChunkedDecoder(len(DATA), signer=ChunkSigner(trailer_seed()), trailer=frozenset((b"x-amz-checksum-crc32c",)))
    trailer = b"x-amz-trailer-signature:" + TRAILER_SIGNATURE + b"\r\nx-amz-checksum-crc32c:sOO8/Q==\r\n"
    with pytest.raises(S3Error, match="behind its signature"):
        decoder.feed(wire(TRAILER_CHUNKS, trailer))


def test_no_key_is_shown() -> None:
    found = trailer_seed()
    assert repr(found.key)[2:-1] not in repr(found)
    assert "key" not in repr(found)
