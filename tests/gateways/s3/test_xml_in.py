"""Documents from callers: exactly of their shape, or refused."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.xml_in import Shape, read_document

SHAPE = Shape("Root", frozenset(("Leaf",)), ("Set", "Item"), frozenset(("Key", "Value")), 3)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), max_size=20)


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@given(st.lists(st.tuples(TEXT, TEXT), max_size=3), TEXT)
def test_what_is_written_is_read(items: list[tuple[str, str]], leaf: str) -> None:
    inner = "".join(f"<Item><Key>{escaped(key)}</Key><Value>{escaped(value)}</Value></Item>" for key, value in items)
    document = f'<?xml version="1.0"?>\n<n:Root xmlns:n="x"><Leaf>{escaped(leaf)}</Leaf>\n <Set>{inner}</Set></n:Root>'
    found = read_document(document.encode(), SHAPE)
    assert found.leaves == {"Leaf": leaf}
    assert found.items == [{"Key": key, "Value": value} for key, value in items]


HELD = Shape("Root", frozenset(("Box/Leaf",)), ("Item",), frozenset(("Key", "Box/Key")), 3, frozenset(("Box",)))


def test_leaves_are_told_apart_by_what_holds_them() -> None:
    inner = "<Box><Leaf>1</Leaf></Box><Item><Key>2</Key><Box><Key>3</Key></Box></Item><Item/>"
    found = read_document(f"<Root>{inner}</Root>".encode(), HELD)
    assert (found.leaves, found.items) == ({"Box/Leaf": "1"}, [{"Key": "2", "Box/Key": "3"}, {}])


@pytest.mark.parametrize(
    "inner",
    ["<Leaf/>", "<Box><Key/></Box>", "<Item><Box><Leaf/></Box></Item>", "<Box><Box><Leaf/></Box></Box>", "<Box>text</Box>",
     "<Item><Box><Key/></Box><Box><Key/></Box></Item>", "<Item><Leaf/></Item>"],
)  # fmt: skip
def test_a_leaf_in_the_wrong_place_is_refused(inner: str) -> None:
    with pytest.raises(S3Error, match="not well-formed"):
        read_document(f"<Root>{inner}</Root>".encode(), HELD)


@given(st.binary(max_size=200) | st.text(st.sampled_from("<>/RootLeafStIm&;! \n"), max_size=80).map(str.encode))
def test_whatever_comes_is_read_or_refused(document: bytes) -> None:
    try:
        read_document(document, SHAPE)
    except S3Error as error:
        assert error.code == "MalformedXML"


@pytest.mark.parametrize(
    "document",
    ["", "<Root>", "<Other/>", "<Root/><Root/>", "<Root>text</Root>", "<Root><Leaf/><Leaf/></Root>",
     "<Root><Leaf><Leaf/></Leaf></Root>",
     "<Root><Set/><Set/></Root>", "<Root><Item/></Root>", f"<Root><Set>{'<Item/>' * 4}</Set></Root>",
     "<Root><Set><Other/></Set></Root>",
     "<!DOCTYPE Root><Root/>", "<?pi x?><Root/>", f"<Root><Leaf>{'x' * 10_000}</Leaf></Root>",
     "<Root><Leaf>&undefined;</Leaf></Root>",
     '<?xml version="1.0" encoding="latin-1"?><Root/>'],
)  # fmt: skip
def test_what_is_not_of_the_shape_is_refused(document: str) -> None:
    with pytest.raises(S3Error, match="not well-formed"):
        read_document(document.encode(), SHAPE)


def test_33_a_billion_laughs_and_deep_nesting_cost_nothing() -> None:
    laughs = (
        '<!DOCTYPE r [<!ENTITY a "'
        + "x" * 1000
        + '">'
        + "".join(f'<!ENTITY b{n} "{"&a;" * 1000}">' for n in range(50))
        + "]><Root/>"
    )
    deep = "<Root>" + "<Leaf>" * 500_000
    for document in (laughs.encode(), deep.encode()):
        tracemalloc.start()
        started_s = time.perf_counter()
        with pytest.raises(S3Error):
            read_document(document, SHAPE)
        assert time.perf_counter() - started_s < 0.5
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
        tracemalloc.stop()
