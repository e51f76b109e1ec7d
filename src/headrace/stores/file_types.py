"""Media types of files, by their names."""

from __future__ import annotations

import mimetypes

_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_TYPES = mimetypes.MimeTypes()


def content_type_of(key: str) -> str:
    """The media type that a file's extension says; the packing itself for packed files."""
    kind, packing = _TYPES.guess_type("/" + key)
    if packing:
        return _PACKED.get(packing, "application/octet-stream")
    return kind or "application/octet-stream"
