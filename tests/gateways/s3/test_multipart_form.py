"""Forms decode the same however they are cut, and within their bounds."""

from __future__ import annotations

import pytest

from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.multipart_form import MAX_FIELD_BYTES, MAX_FIELDS, FieldsParser, FileDecoder, boundary_of
from support.uploads import form_body

BOUNDARY = b"BoundaryOfForms"
FIELDS = {"Key": "user/${filename}", "Content-Type": "a/b", "x-amz-meta-empty": "", "x-amz-meta-lines": "a\r\n--b\r\nc"}
LOWER = {name.lower(): value for name, value in FIELDS.items()}


def decode(wire: bytes, cut: int = 1 << 20) -> tuple[FieldsParser, bytes]:
    parser, decoder = FieldsParser(BOUNDARY), FileDecoder(BOUNDARY)
    out = b""
    for at in range(0, len(wire), cut):
        data = wire[at : at + cut]
        if not parser.begun:
            parser.feed(data)
            data = parser.rest
        if parser.begun:
            out += b"".join(bytes(piece) for piece in decoder.feed(data))
    if parser.begun:
        decoder.end()
    return parser, out


def refusal(wire: bytes) -> S3Error:
    codes = set()
    for cut in (1 << 20, 5, 1):
        with pytest.raises(S3Error) as caught:
            decode(wire, cut)
        codes.add(caught.value.code)
    assert len(codes) == 1, "however it is cut"
    return caught.value


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\r\n", b"\r\n--BoundaryOfForm", b"--BoundaryOfForms--", b"\r\n-" * 5000, bytes(range(256)) * 400]
)
@pytest.mark.parametrize("cut", [1 << 20, 1000, 7])
def test_fields_and_file_however_they_are_cut(data: bytes, cut: int) -> None:
    parser, out = decode(form_body(FIELDS, data), cut)
    assert (parser.fields, parser.filename, out) == (LOWER, "file.bin", data)


def test_what_comes_behind_the_file_is_ignored() -> None:
    behind = '\r\nContent-Disposition: form-data; name="key"\r\n\r\nother\r\n--BoundaryOfForms--\r\n'
    parser, out = decode(form_body(FIELDS, b"data", behind=behind))
    assert (parser.fields, out) == (LOWER, b"data")


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('form-data; name="file"; filename="a b.txt"', "a b.txt"),
        ("form-data; name=file; filename=a.txt", "a.txt"),
        ('form-data;name="FILE";filename="a;b=c"', "a;b=c"),
        (r'form-data; name="file"; filename="say \"hi\".txt"', 'say "hi".txt'),
        (r'form-data; name="file"; filename="C:\dir\a.txt"', r"C:\dir\a.txt"),
        ('form-data; name="file"; filename="ä.txt"', "ä.txt"),
        ('form-data; name="file"; filename="x"; filename*=UTF-8\'\'y', "x"),
        ('form-data; name="file"', ""),
    ],
)
def test_names_of_files(disposition: str, filename: str) -> None:
    head = f"--BoundaryOfForms\r\nContent-Type: a/b\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
    wire = head + b"data\r\n--BoundaryOfForms--"
    parser, out = decode(wire)
    assert (parser.filename, out) == (filename, b"data")


@pytest.mark.parametrize(
    "disposition",
    [
        'attachment; name="file"',
        'form-data; name="file',
        'form-data; name="fi\rle"',
        'form-data; name="file"; name="key"',
        'form-data; filename="x"',
        'form-data name="file"',
        'form-data; name="file" x',
        "form-data",
        "",
    ],
)
def test_dispositions_that_are_malformed(disposition: str) -> None:
    wire = f"--BoundaryOfForms\r\nContent-Disposition: {disposition}\r\n\r\ndata\r\n--BoundaryOfForms--".encode()
    assert refusal(wire).code == "MalformedPOSTRequest"


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"preamble\r\n" + form_body({}, b""), "MalformedPOSTRequest"),
        (b"--Other\r\n\r\n", "MalformedPOSTRequest"),
        (b"--BoundaryOfForms \r\n" + b"x" * 100, "MalformedPOSTRequest"),
        (b"--BoundaryOfForms\rX" + b"x" * 100, "MalformedPOSTRequest"),
        (b"--BoundaryOfForms\r\n\r\ndata", "MalformedPOSTRequest"),
        (b"--BoundaryOfForms\r\nbroken line\r\n\r\ndata", "MalformedPOSTRequest"),
        (b"--BoundaryOfForms\r\nContent-Type: a/b\r\n\r\ndata", "MalformedPOSTRequest"),
        (form_body({"key": "a"}, b"", behind="X"), "MalformedPOSTRequest"),
        (form_body({"key": "a"}, b"", behind="-x"), "MalformedPOSTRequest"),
        (form_body({"key": "a"}, b"", behind="--" + "x" * MAX_FIELD_BYTES), "MalformedPOSTRequest"),
        (form_body({"key": "a", "KEY": "b"}, b""), "InvalidArgument"),
        (form_body({f"x-ignore-{n}": "" for n in range(MAX_FIELDS + 1)}, b""), "InvalidArgument"),
        (form_body({"key": "a\0"}, b""), "InvalidArgument"),
        (form_body({"key": "@"}, b"").replace(b"@", b"\xff"), "InvalidArgument"),
        (b"--BoundaryOfForms--\r\n", "InvalidArgument"),
        (form_body({"key": "x" * MAX_FIELD_BYTES}, b""), "MaxPostPreDataLengthExceededError"),
        (b"--BoundaryOfForms\r\n" + b"x: y\r\n" * 4000, "MaxPostPreDataLengthExceededError"),
        (form_body({"key": "a"}, b"data")[:-4], "IncompleteBody"),
        (form_body({"key": "a"}, b"data")[:-3], "IncompleteBody"),
        (form_body({"key": "a"}, b"data")[:-20], "IncompleteBody"),
    ],
)
def test_refuses_malformed_forms(wire: bytes, code: str) -> None:
    assert refusal(wire).code == code


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/form-data; boundary=BoundaryOfForms",
        b'multipart/form-data; boundary="BoundaryOfForms"',
        b"Multipart/Form-Data;boundary=BoundaryOfForms; charset=utf-8",
        b"multipart/form-data; charset=UTF-8; boundary=BoundaryOfForms ",
    ],
)
def test_boundaries(content_type: bytes) -> None:
    assert boundary_of(content_type) == BOUNDARY


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        (b"", "PreconditionFailed"),
        (b"application/x-www-form-urlencoded", "PreconditionFailed"),
        (b"multipart/form-data", "MalformedPOSTRequest"),
        (b"multipart/form-data; boundary=", "MalformedPOSTRequest"),
        (b'multipart/form-data; boundary=""', "MalformedPOSTRequest"),
        (b"multipart/form-data; boundary=a; boundary=b", "MalformedPOSTRequest"),
        (b"multipart/form-data; boundary=a b", "MalformedPOSTRequest"),
        (b"multipart/form-data; boundary=" + b"x" * 71, "MalformedPOSTRequest"),
        (b"multipart/form-datax; boundary=a", "MalformedPOSTRequest"),
    ],
)
def test_types_without_a_boundary(content_type: bytes, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        boundary_of(content_type)
    assert caught.value.code == code
