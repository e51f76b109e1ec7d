"""`multipart/form-data` (RFC 7578) as two state machines without IO: the fields before the file, then the file's bytes.

Strict where leniency would make two readings of one form: no preamble, no field twice, no padding behind a boundary.
"""

from __future__ import annotations

import re

from headrace.gateways.s3.errors import S3Error
from headrace.model.reading import Buffer

MAX_FIELD_BYTES = 20 * 1024
"""Of everything in front of the file's bytes, and of everything behind them, as S3 has it."""
MAX_FIELDS = 100
_MAX_BOUNDARY = 70
_BOUNDARY = re.compile(
    rb"multipart/form-data(?:[ \t]*;[ \t]*charset=[\w.\-]+)?[ \t]*;[ \t]*boundary=(?:\"([^\"\r\n]+)\"|([^\s\";,]+))"
    rb"(?:[ \t]*;[ \t]*charset=[\w.\-]+)?[ \t]*",
    re.IGNORECASE,
)
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DISPOSITION = re.compile(
    rb"form-data((?:[ \t]*;[ \t]*[\w\-*]+=(?:\"(?:[^\"\\\r\n]|\\.)*\"|[^\s\";]+))*)", re.IGNORECASE | re.DOTALL
)
_PARAMETER = re.compile(rb";[ \t]*([\w\-*]+)=(?:\"((?:[^\"\\\r\n]|\\.)*)\"|([^\s\";]+))", re.DOTALL)
_ESCAPED = re.compile(rb"\\([\"\\])")


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a form's `content-type` names. Raises `S3Error` for what is no form."""
    if content_type[:19].lower() != b"multipart/form-data":
        raise S3Error("PreconditionFailed", "Bucket POST must be of the enclosure-type multipart/form-data")
    match = _BOUNDARY.fullmatch(content_type.strip(b" \t"))
    boundary = (match[1] or match[2]) if match is not None else b""
    if not boundary or len(boundary) > _MAX_BOUNDARY:
        raise malformed("its content-type names no boundary")
    return boundary


class FieldsParser:
    """Takes the form's bytes up to where the file begins; then `rest` has the file's first ones.

    `fields` have names in lower case. All of it is bounded by `MAX_FIELD_BYTES`.
    """

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.begun = False
        """Whether the file has begun."""
        self.rest = b""
        self._delimiter = b"\r\n--" + boundary
        self._buffer = b"\r\n"
        self._taken = 0
        self._name: str | None = None

    def feed(self, data: bytes) -> None:
        """More bytes of the form; not to be called once the file has begun."""
        self._buffer += data
        while not self.begun and self._step():
            pass
        if self._taken + (0 if self.begun else len(self._buffer)) > MAX_FIELD_BYTES:
            raise S3Error(
                "MaxPostPreDataLengthExceededError", "Your POST request fields preceding the upload file were too large."
            )
        if self.begun:
            self.rest, self._buffer = self._buffer, b""

    def _step(self) -> bool:
        """Take what comes next if it is there whole: a part's header, or a field's value with the delimiter behind it."""
        if self._name is None:
            return self._take_header()
        end = self._buffer.find(self._delimiter)
        if end < 0:
            return False
        self._add(self._name, self._buffer[:end])
        self._name = None
        self._skip(end)
        return True

    def _take_header(self) -> bool:
        start = len(self._delimiter)
        if not self._buffer.startswith(self._delimiter[: len(self._buffer)]):
            raise malformed("a part does not begin with its boundary")
        line_end = self._buffer[start : start + 2]
        if not b"\r\n".startswith(line_end):
            if b"--".startswith(line_end):
                raise S3Error("InvalidArgument", "POST requires exactly one file upload per request.")
            raise malformed("a boundary is followed by something else than the end of its line")
        end = self._buffer.find(b"\r\n\r\n", start)
        if end < 0:
            return False
        name, filename = _read_header(self._buffer[start + 2 : end])
        self._skip(end + 4)
        if name == "file":
            self.filename = filename
            self.begun = True
        else:
            self._name = name
        return True

    def _skip(self, length: int) -> None:
        self._buffer = self._buffer[length:]
        self._taken += length

    def _add(self, name: str, value: bytes) -> None:
        if name in self.fields:
            raise S3Error("InvalidArgument", f"The form has more than one field named {name[:80]!r}.")
        if len(self.fields) >= MAX_FIELDS:
            raise S3Error("InvalidArgument", f"The form has more than {MAX_FIELDS} fields.")
        self.fields[name] = _text(value)


class FileDecoder:
    """Takes the form's bytes from the file's first one on, and gives out the file's. What comes behind it is ignored."""

    def __init__(self, boundary: bytes) -> None:
        self.trailer: dict[bytes, bytes] = {}
        self._delimiter = b"\r\n--" + boundary
        self._buffer = b""
        self._behind: int | None = None
        self._end = b""

    def feed(self, data: bytes) -> list[Buffer]:
        """Bytes of the file among `data`."""
        if self._behind is not None:
            self._check_behind(data)
            return []
        data = self._buffer + data
        end = data.find(self._delimiter)
        if end >= 0:
            self._buffer, self._behind = b"", 0
            self._check_behind(data[end + len(self._delimiter) :])
        else:
            end = max(len(data) - len(self._delimiter) + 1, 0)
            self._buffer = data[end:]
        return [memoryview(data)[:end]] if end else []

    def end(self) -> None:
        """No more will come. Raises `S3Error` unless the file's end has been seen."""
        if self._behind is None or self._end not in (b"--", b"\r\n"):
            raise S3Error("IncompleteBody", "The request body terminated unexpectedly: the form does not end with its boundary.")

    def _check_behind(self, data: bytes) -> None:
        self._behind = (self._behind or 0) + len(data)
        if self._behind > MAX_FIELD_BYTES:
            raise malformed("there is too much behind the file")
        self._end = (self._end + data)[:2]
        if not (b"--".startswith(self._end) or b"\r\n".startswith(self._end)):
            raise malformed("a boundary is followed by something else than the end of its line")


def malformed(what: str) -> S3Error:
    """A form that cannot be read."""
    return S3Error("MalformedPOSTRequest", f"The body of your POST request is not well-formed multipart/form-data: {what}.")


def _read_header(block: bytes) -> tuple[str, str]:
    """Name, in lower case, and file name of a part."""
    parameters: dict[bytes, bytes] | None = None
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise malformed("a part's header is malformed")
        if name.lower() == b"content-disposition":
            if parameters is not None:
                raise malformed("a part has more than one content-disposition")
            parameters = _disposition(value.strip(b" \t"))
    if parameters is None or b"name" not in parameters:
        raise malformed("a part has no name")
    return _text(parameters[b"name"]).lower(), _text(parameters.get(b"filename", b""))


def _disposition(value: bytes) -> dict[bytes, bytes]:
    match = _DISPOSITION.fullmatch(value)
    if match is None:
        raise malformed("a part's content-disposition is malformed")
    found: dict[bytes, bytes] = {}
    for parameter in _PARAMETER.finditer(match[1]):
        name = parameter[1].lower()
        if name in found:
            raise malformed("a part's content-disposition says something twice")
        found[name] = parameter[3] if parameter[2] is None else _ESCAPED.sub(rb"\1", parameter[2])
    return found


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidArgument", "The form holds text that is not UTF-8.") from None
    if "\0" in text:
        raise S3Error("InvalidArgument", "The form holds a NUL.")
    return text
