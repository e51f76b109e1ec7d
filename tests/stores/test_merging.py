from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.objects import CommonPrefix, Listing, ObjectInfo, Version
from headrace.stores.contract_listing import expected
from headrace.stores.keys import rolled_up
from headrace.stores.merging import PageMerger, page_of

KEYS = st.lists(st.text("ab/-é", min_size=1, max_size=4), unique=True, max_size=30)


def pages(keys: list[str], merger: PageMerger, prefix: str, size: int) -> Listing:
    """A store that pages objects by `size` and sends every prefix with each page, ahead of its turn."""
    start = merger.start()
    rest = [key for key in sorted(keys, key=str.encode) if key.startswith(prefix) and key >= start]
    common = {key: rolled_up(key, prefix, merger.store_delimiter) for key in rest}
    prefixes = sorted({text for text in common.values() if text is not None})
    objects = [ObjectInfo(key, 0, Version("etag:x")) for key in rest if common[key] is None]
    while True:
        page, objects = objects[:size], objects[size:]
        skip_to = merger.add(page, prefixes)
        if merger.enough() or not objects:
            return merger.listing()
        if skip_to:
            objects = [info for info in objects if info.key >= skip_to]
            if not objects:
                return merger.listing()


@given(KEYS, st.sampled_from(["", "/", "-", "é", "a/"]), st.text("ab/-", max_size=2), st.integers(1, 5), st.integers(1, 4))
def test_merged_pages_list_each_entry_once_in_order(keys: list[str], delimiter: str, prefix: str, limit: int, size: int) -> None:
    got: list[tuple[str, bool]] = []
    after = ""
    while True:
        page = pages(keys, PageMerger(prefix, delimiter, after, limit), prefix, size)
        assert len(page.entries) <= limit
        got += [(entry.key, isinstance(entry, CommonPrefix)) for entry in page.entries]
        if page.after is None:
            break
        after = page.after
    assert got == expected(keys, prefix, delimiter)


@given(
    KEYS,
    st.sampled_from(["", "/", "-", "b", "ab"]),
    st.sampled_from(["", "a", "a/", "a/b/"]),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_hidden_keys_are_left_out_whatever_rolls_them_up(
    keys: list[str], delimiter: str, prefix: str, limit: int, size: int
) -> None:
    got: list[tuple[str, bool]] = []
    after = ""
    keys = [key for key in keys if not key.startswith("a/b/")]
    while True:
        page = pages([*keys, "a/b/1", "a/b/2"], PageMerger(prefix, delimiter, after, limit, hidden="a/b/"), prefix, size)
        got += [(entry.key, isinstance(entry, CommonPrefix)) for entry in page.entries]
        if page.after is None:
            break
        after = page.after
    assert got == expected(keys, prefix, delimiter)


@settings(deadline=None)
@given(
    st.sets(st.text("ab/-é\U0001f600\uff5e", min_size=1, max_size=5), max_size=12),
    st.text("ab/-", max_size=2),
    st.sampled_from(["", "/", "-", "a/"]),
    st.text("ab/-é", max_size=3),
    st.integers(1, 5),
)
def test_a_page_of_objects_at_hand_is_what_the_model_lists(
    keys: set[str], prefix: str, delimiter: str, after: str, limit: int
) -> None:
    objects = [ObjectInfo(key, 1, Version("v")) for key in keys]
    page = page_of(objects, prefix=prefix, delimiter=delimiter, after=after, limit=limit)
    wanted = expected(sorted(keys), prefix, delimiter, after)
    assert [(entry.key, isinstance(entry, CommonPrefix)) for entry in page.entries] == wanted[:limit]
    assert page.after == (wanted[limit - 1][0] if len(wanted) > limit else None)
