import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cache.tiering import Evicted, Promotion, demote

PAGE = bytes(16)


def test_the_second_read_within_the_window_promotes() -> None:
    promotion = Promotion(largest=4096, window_s=60.0)
    assert not promotion.read(PAGE, 0, 4096, 0.0)
    assert promotion.read(PAGE, 0, 4096, 59.0)


def test_reads_far_apart_do_not_promote() -> None:
    promotion = Promotion(largest=4096, window_s=60.0)
    assert [promotion.read(PAGE, 0, 4096, at) for at in (0.0, 200.0, 400.0, 600.0)] == [False] * 4


def test_long_pages_stay_on_disk_however_hot() -> None:
    promotion = Promotion(largest=4096)
    assert not any(promotion.read(PAGE, 0, 4097, 0.0) for _ in range(10))


def test_a_scan_promotes_nothing() -> None:
    promotion = Promotion(largest=4096)
    assert not any(promotion.read(PAGE, page, 4096, page / 1000) for page in range(20_000))


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 10)), max_size=500))
def test_what_is_watched_is_bounded(reads: list[tuple[int, float]]) -> None:
    promotion = Promotion(largest=4096, watched=16)
    now = 0.0
    for page, pause in reads:
        now += pause
        promotion.read(PAGE, page, 1, now)
        assert len(promotion._new) + len(promotion._old) <= 33


@pytest.mark.parametrize(
    ("on_disk", "allowed", "in_service", "expected"),
    [(False, True, True, True), (True, True, True, False), (False, False, True, False), (False, True, False, False)],
)
def test_only_what_would_be_lost_and_may_lie_on_disk_is_demoted(
    on_disk: bool, allowed: bool, in_service: bool, expected: bool
) -> None:
    assert demote(Evicted(4096, on_disk, allowed, in_service)) is expected
