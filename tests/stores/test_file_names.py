from hypothesis import given
from hypothesis import strategies as st

from headrace.stores.file_names import SmallestNames, SortedNames

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5), unique=True)


@given(NAMES, st.text(max_size=3))
def test_names_are_iterated_in_order_from_any_point(names: list[str], low: str) -> None:
    kept = SortedNames(sorted(names))
    assert list(kept) == sorted(names)
    assert list(kept.iterate_from(low)) == [name for name in sorted(names) if name >= low]


@given(NAMES, st.integers(1, 10))
def test_the_smallest_are_kept_and_it_is_said_when_some_are_not(names: list[str], limit: int) -> None:
    smallest = SmallestNames(limit, 1 << 20)
    for name in names:
        smallest.add(name)
    kept = smallest.take()
    everything = sorted(names)
    assert list(kept) == everything[: kept.count]
    assert kept.count <= 2 * limit + 1
    if smallest.high is None:
        assert kept.count == len(names)


def test_memory_is_bounded() -> None:
    smallest = SmallestNames(10_000_000, 1 << 20)
    for number in range(300_000):
        smallest.add(f"{number * 7919 % 300_000:020}")
    kept = smallest.take()
    assert smallest.high is not None
    assert 10_000 < kept.count < 100_000
    assert list(kept.iterate_from("")) == [f"{number:020}" for number in range(kept.count)]
