"""Index pages as web servers make them of directories: which names below it a page links. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from headrace.stores.tree_listing import FileStatus

MAX_INDEX_BYTES = 16 << 20
_CHARSET = re.compile(r"charset=\"?([A-Za-z0-9_-]+)", re.IGNORECASE)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def linked_names(page: bytes, url: str, content_type: str) -> list[FileStatus]:
    """The names directly below directory `url` (which ends with a slash) that the page links, each once.

    Links elsewhere, up, or with a query (a table's orders) are none. A name with a slash behind it is a directory.
    """
    match = _CHARSET.search(content_type)
    try:
        text = page.decode(match[1] if match is not None else "utf-8", "replace")
    except LookupError:
        text = page.decode("utf-8", "replace")
    links = _Links()
    links.feed(text)
    links.close()
    base = urlsplit(url)
    found: dict[str, FileStatus] = {}
    for link in links.found:
        try:
            parts = urlsplit(urljoin(url, link))
        except ValueError:
            continue
        is_here = (parts.scheme, parts.netloc) == (base.scheme, base.netloc) and parts.path.startswith(base.path)
        name = _name(parts.path[len(base.path) :]) if is_here and not parts.query else ""
        if name:
            is_file = not parts.path.endswith("/")
            found[name if is_file else name + "/"] = FileStatus(name, is_file)
    return list(found.values())


def _name(rest: str) -> str:
    """The one name that `rest` of a path holds, or nothing."""
    written = rest.removesuffix("/")
    if "/" in written:
        return ""
    try:
        name = unquote_to_bytes(written).decode()
    except UnicodeDecodeError:
        return ""
    return "" if name in (".", "..") or "/" in name or "\0" in name else name
