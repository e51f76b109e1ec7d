"""The order of samples: a permutation, the same everywhere, shared out without gaps."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.samples.order import Order, Share, Uneven, blocks

counts = st.integers(0, 200)
ranks = st.integers(1, 7)


@given(counts, st.integers(), st.integers(0, 1000))
def test_an_epoch_visits_every_sample_once_and_is_the_same_each_time(count: int, seed: int, epoch: int) -> None:
    order = Order(count, seed)
    assert sorted(order.epoch(epoch)) == list(range(count))
    assert list(order.epoch(epoch)) == list(Order(count, seed).epoch(epoch))


def test_the_order_is_that_of_every_release() -> None:
    """A training run that is resumed after an upgrade goes on in the order that it began with."""
    assert list(Order(10, seed=7).epoch(3)) == [1, 9, 7, 3, 5, 4, 2, 6, 8, 0]


def test_seeds_and_epochs_differ() -> None:
    orders = [tuple(Order(100, seed).epoch(epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_without_shuffling_samples_come_by_number() -> None:
    assert list(Order(5, shuffle=False).epoch(9)) == [0, 1, 2, 3, 4]


@given(counts, ranks, st.sampled_from(["repeat", "drop", "keep"]), st.integers(0, 5))
def test_shares_cover_the_epoch(count: int, ranks: int, uneven: Uneven, epoch: int) -> None:
    shares = [list(Order(count, share=Share(rank, ranks, uneven)).epoch(epoch)) for rank in range(ranks)]
    visited = Counter(number for share in shares for number in share)
    lengths = {len(share) for share in shares}
    if uneven == "keep":
        assert visited == Counter(range(count))
        assert max(lengths) - min(lengths) <= 1
        return
    assert len(lengths) == 1
    if uneven == "drop":
        assert set(visited.values()) <= {1}
        assert len(visited) == count - count % ranks
    else:
        assert set(visited) == set(range(count))
        assert visited.total() == -(-count // ranks) * ranks


def test_a_rank_beyond_the_ranks_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 2 is not one of 2 ranks"):
        Share(2, 2)


@given(counts, st.integers(1, 9), st.integers(1, 5))
def test_batches_taken_from_workers_in_turn_are_batches_of_the_order(count: int, size: int, workers: int) -> None:
    order = Order(count).epoch(0)
    streams = [list(blocks(order, size=size, worker=worker, workers=workers)) for worker in range(workers)]
    batches = [[stream[at : at + size] for at in range(0, len(stream), size)] for stream in streams]
    taken: list[int] = []
    for turn in range(max(map(len, batches))):
        for mine in batches:
            taken += mine[turn] if turn < len(mine) else []
    assert taken == list(order)
