"""Names are taken from index pages as servers write them, and nothing else is."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.stores.tree_listing import FileStatus
from headrace.stores.web_index import linked_names

URL = "http://host:80/pub/data/"
NGINX = """<html><head><title>Index of /pub/data/</title></head><body><h1>Index of /pub/data/</h1><hr><pre><a href="../">../</a>
<a href="sub/">sub/</a>      01-Jan-2026 00:00     -
<a href="a%20b%3Fc.csv">a b?c.csv</a>  01-Jan-2026 00:00  12
</pre><hr></body></html>"""
APACHE = """<table><tr><th><a href="?C=N;O=D">Name</a></th><th><a href="?C=M;O=A">Last modified</a></th></tr>
<tr><td><a href="/pub/">Parent Directory</a></td></tr><tr><td><a href="sub/">sub/</a></td></tr>
<tr><td><a href="a%20b%3fc.csv">a b?c.csv</a></td></tr></table><a href="https://elsewhere/pub/data/x">x</a>"""
PYTHON = """<ul><li><a href="sub/">sub/</a></li><li><a href="a%20b%3Fc.csv">a b?c.csv</a></li></ul>"""
ABSOLUTE = """<a href="http://host:80/pub/data/sub/">s</a><a href='/pub/data/a%20b%3Fc.csv#top'>a</a><a href="sub/deeper">d</a>
<a href="mailto:x@host">m</a><a name="x">n</a><a href="">e</a><a href="%2e%2e/">u</a><a href="a%2Fb">s</a><a href="%FF">b</a>
<a href="http://[">broken</a><a href="a%20b%3Fc.csv">again</a>"""


@pytest.mark.parametrize("page", [NGINX, APACHE, PYTHON, ABSOLUTE], ids=["nginx", "Apache", "Python", "absolute"])
def test_the_names_directly_below_are_found_once(page: str) -> None:
    found = linked_names(page.encode(), URL, "text/html")
    assert found == [FileStatus("sub", is_file=False), FileStatus("a b?c.csv", is_file=True)]


def test_a_page_is_read_in_its_own_letters_and_an_unknown_one_as_utf8() -> None:
    page = '<a href="gr\u00fcn">x</a>'
    assert linked_names(page.encode("latin-1"), URL, "text/html; charset=ISO-8859-1") == [FileStatus("gr\u00fcn", is_file=True)]
    assert linked_names(page.encode(), URL, "text/html; charset=nonsense") == [FileStatus("gr\u00fcn", is_file=True)]


@settings(deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12), unique=True)
)
def test_every_name_that_is_linked_is_found(names: list[str]) -> None:
    wanted = [name for name in names if name not in (".", "..")]
    page = "".join(f'<li><a href="{quote(name, safe="")}">{escape(name)}</a>' for name in wanted)
    assert linked_names(page.encode(), URL, "text/html") == [FileStatus(name, is_file=True) for name in wanted]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_page(page: bytes) -> None:
    for status in linked_names(b'<a href="' + page, URL, "text/html"):
        assert status.name not in ("", ".", "..")
        assert "/" not in status.name
