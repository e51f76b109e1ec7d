"""Where odd keys lie."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.stores.file_own import can_be_path, odd_key, odd_path, odd_prefix
from headrace.stores.keys import behind_prefix

KEYS = st.text(st.sampled_from("a/.\x00é\U0001f600"), min_size=1, max_size=400).filter(lambda key: len(key.encode()) <= 1024)


@given(st.lists(KEYS, max_size=8))
def test_paths_of_odd_keys_sort_as_the_keys_do_and_lead_back(keys: list[str]) -> None:
    paths = [odd_path(key) for key in sorted(set(keys))]
    assert paths == sorted(paths)
    assert [odd_key(path.removeprefix(".headrace/objects/")) for path in paths] == sorted(set(keys))
    assert all(len(name) <= 255 for path in paths for name in path.split("/"))
    assert all(can_be_path(path) for path in paths)


@given(KEYS, KEYS)
def test_no_odd_key_is_a_directory_of_another(one: str, other: str) -> None:
    assert not odd_path(one).startswith(odd_path(other) + "/")


@given(KEYS, KEYS)
def test_what_begins_alike_lies_side_by_side(prefix: str, key: str) -> None:
    path = odd_path(key).removeprefix(".headrace/objects/")
    start = odd_prefix(prefix.encode())
    assert path.startswith(start) is key.startswith(prefix)
    assert (path > odd_prefix(behind_prefix(prefix))) is (key.encode() >= behind_prefix(prefix))
