"""Heads that look like one read before: the same headers in the same order, so that one expression reads them whole.

What the expression accepts is a part of what `head.py` accepts, and means the same there. Anything else
(another header, another space, a byte outside plain ASCII) does not match and is read the long way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from headrace.gateways.http.messages import Request

_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): [!-~][ -~]*")
_VALUE = rb"([!-~][ -~]*)"
_PLAIN_PATH = rb"(/[!\"$->@-~]*)"
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"trailer", b"te"))

PATH = 0
"""Where `groups()` of a match has the path; the headers' values follow in the order of the names."""


def header_names(head: bytes) -> tuple[bytes, ...]:
    """The names of a head's headers as they were sent; none when it has none or is not plain enough for a form."""
    names = []
    for line in head.split(b"\r\n")[1:-2]:
        match = _LINE.fullmatch(line)
        if match is None:
            return ()
        names.append(match[1])
    return tuple(names)


def compile_form(request: Request, names: tuple[bytes, ...], values: Mapping[bytes, bytes]) -> re.Pattern[bytes] | None:
    """An expression for whole heads like that of `request`, which was read the long way; None when it must be always.

    `names` are the headers as they were sent, each once. `values` are expressions, without groups, for the values
    of some, by name in lower case. Each header is one group.
    """
    lowered = {name.lower() for name in names}
    if not request.http11 or not request.keep_alive or request.query or len(lowered) != len(names) or _FRAMING & lowered:
        return None
    lines = [re.escape(request.method) + b" " + _PLAIN_PATH + rb" HTTP/1\.1\r\n"]
    for name in names:
        low = name.lower()
        value = re.escape(request.headers[low]) if low == b"connection" else values.get(low)
        lines.append(re.escape(name) + b": " + (_VALUE if value is None else b"(" + value + b")") + rb"\r\n")
    return re.compile(b"".join(lines) + rb"\r\n")
