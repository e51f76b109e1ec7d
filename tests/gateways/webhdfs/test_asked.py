"""Reading requests: one meaning for each, or a refusal."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateways.webhdfs.asked import clean_path, is_webhdfs, quoted, read_asked, read_query
from headrace.gateways.webhdfs.errors import HdfsError

NAMES = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 200
)
TEXTS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=60)


@given(st.lists(NAMES, max_size=4))
def test_a_path_is_read_as_it_was_written(names: list[str]) -> None:
    path = "/" + "/".join(names)
    raw = b"/webhdfs/v1" + quoted(path).encode()
    assert read_asked(raw, b"op=OPEN").path == path
    assert read_asked(raw + b"/" if names else raw, b"op=OPEN").path == path


@given(st.dictionaries(TEXTS.map(str.lower).filter(lambda name: name == name.lower()), TEXTS, max_size=8))
def test_a_query_is_read_as_clients_write_it(values: dict[str, str]) -> None:
    assert read_query(urlencode(values).encode()) == values
    assert read_query(urlencode(values, quote_via=quote).encode()) == values


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(path: bytes, query: bytes) -> None:
    try:
        asked = read_asked(b"/webhdfs/v1" + path, query)
    except HdfsError as error:
        assert error.status == 400
    else:
        assert asked.path == clean_path(asked.path)
        assert asked.path == "/" or not {"", ".", ".."} & set(asked.path[1:].split("/"))


@pytest.mark.parametrize(
    "path",
    ["//a", "/a//b", "/a/..", "/a/../b", "/./a", "/%2e%2e/a", "/a%2f..%2fb", "/a%00", "/%ff", "/%c0%ae%c0%ae/a", "/%",
     "/%zz", "a",
     "/" + "x" * 256, "/a/" + "x" * 1300],
)  # fmt: skip
def test_what_is_no_name_of_hdfs_is_refused(path: str) -> None:
    with pytest.raises(HdfsError):
        read_asked(b"/webhdfs/v1" + path.encode(), b"op=OPEN")


@pytest.mark.parametrize(
    "query", ["op=OPEN&op=DELETE", "op=OPEN&OP=DELETE", "a=1&%61=2", "a=%", "a=%ff", "&".join(f"a{n}=" for n in range(65))]
)
def test_what_can_be_read_twice_is_refused(query: str) -> None:
    with pytest.raises(HdfsError) as refusal:
        read_query(query.encode())
    assert refusal.value.exception == "IllegalArgumentException"


def test_values_are_numbers_flags_and_permissions_or_refused() -> None:
    asked = read_asked(b"/webhdfs/v1/a", b"op=open&offset=7&overwrite=TRUE&permission=1777&length=null&bad=x")
    assert asked.op == "OPEN"
    assert (asked.number("offset", 0), asked.number("length", -1), asked.number("none", 3)) == (7, -1, 3)
    assert asked.flag("overwrite")
    assert asked.flag("none", default=True)
    assert asked.octal("permission") == 0o1777
    for read in (lambda: asked.number("bad", 0), lambda: asked.flag("bad"), lambda: asked.octal("bad")):
        with pytest.raises(HdfsError, match='Invalid value for webhdfs parameter "bad"'):
            read()


@pytest.mark.parametrize(
    ("path", "query", "ours"),
    [("/webhdfs/v1", "op=x", True), ("/webhdfs/v1/", "a=1&OP=x", True), ("/webhdfs/v1/a", "op=", True), ("/webhdfs/v1/a",
     "", False),
     ("/webhdfs/v1a", "op=x", False), ("/webhdfs/v2/a", "op=x", False), ("/webhdfs/v1/a", "stop=x", False), ("/a",
     "op=x", False)],
)  # fmt: skip
def test_only_what_names_an_op_is_webhdfs(path: str, query: str, ours: bool) -> None:
    assert is_webhdfs(path.encode(), query.encode()) is ours
