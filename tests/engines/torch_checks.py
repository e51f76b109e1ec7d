"""What `headrace.torch` promises, checked with PyTorch itself: `torch_checks.py NAME`, run by the group `torch`.

`$SET` is a prefix with COUNT objects of BYTES bytes; the first eight bytes of each are its number.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from headrace.client import Client
from headrace.samples import Ahead, Order, Sample, Samples, Share
from headrace.torch import ObjectDataset, ObjectStream, OrderSampler, current_share

COUNT, BYTES = 103, 3000
BATCH = 8


def opened() -> Samples:
    return Samples(Client.connect(os.environ["HEADRACE_CONFIG"]), os.environ["SET"])


def number_of(sample: Sample) -> int:
    return int.from_bytes(sample.read()[:8], "big")


def numbers(loader: Any) -> list[int]:
    return [int(number) for batch in loader for number in batch]


def whole_samples_come_in_batches() -> None:
    loader = DataLoader(ObjectDataset(opened()), batch_size=BATCH, num_workers=2)
    batches = list(loader)
    assert [tuple(batch.shape) for batch in batches[:-1]] == [(BATCH, BYTES)] * (COUNT // BATCH)
    assert all(batch.dtype == torch.uint8 for batch in batches)
    found = [int.from_bytes(bytes(row[:8].tolist()), "big") for batch in batches for row in batch]
    assert found == list(range(COUNT))


def a_stream_is_the_same_for_any_number_of_workers() -> None:
    samples = opened()
    expected = list(Order(COUNT, seed=5).epoch(2))
    for workers in (0, 1, 3):
        stream = ObjectStream(samples, decode=number_of, seed=5, batch_size=BATCH, ahead=Ahead(samples=10))
        stream.set_epoch(2)
        loader = DataLoader(stream, batch_size=BATCH, num_workers=workers)
        assert len(loader) == -(-COUNT // BATCH)
        assert numbers(loader) == expected, workers


def ranks_share_an_epoch() -> None:
    samples = opened()
    seen = []
    for rank in range(3):
        stream = ObjectStream(samples, decode=number_of, seed=1, share=Share(rank, 3, "keep"), batch_size=BATCH)
        seen += numbers(DataLoader(stream, batch_size=BATCH, num_workers=2))
    assert sorted(seen) == list(range(COUNT))


def the_rank_is_that_of_torch_distributed() -> None:
    assert current_share() == Share()
    torch.distributed.init_process_group("gloo", init_method=f"file://{os.environ['SCRATCH']}/group", rank=0, world_size=1)
    assert current_share() == Share(0, 1)
    torch.distributed.destroy_process_group()


def a_stream_goes_on_where_its_state_was_taken() -> None:
    samples = opened()
    expected = list(Order(COUNT, seed=9).epoch(4))
    for workers, resumed_by in ((0, 2), (2, 3), (3, 0)):
        first = ObjectStream(samples, decode=number_of, seed=9, batch_size=BATCH)
        first.set_epoch(4)
        had: list[int] = []
        for batch in DataLoader(first, batch_size=BATCH, num_workers=workers):
            had += [int(number) for number in batch]
            if len(had) == 5 * BATCH:
                break
        state = first.state_dict() if not workers else first.state_dict(taken=len(had))
        again = ObjectStream(samples, decode=number_of, seed=9, batch_size=BATCH)
        again.load_state_dict(state)
        again.set_epoch(4)
        assert len(again) == COUNT - 5 * BATCH
        assert had + numbers(DataLoader(again, batch_size=BATCH, num_workers=resumed_by)) == expected


def a_state_at_the_end_of_an_epoch_begins_the_next() -> None:
    samples = opened()
    stream = ObjectStream(samples, decode=number_of)
    assert len(list(stream)) == COUNT
    again = ObjectStream(samples, decode=number_of)
    again.load_state_dict(stream.state_dict())
    assert list(again) == list(Order(COUNT).epoch(1))


def a_state_of_other_samples_is_refused() -> None:
    samples = opened()
    state = ObjectStream(samples, seed=1).state_dict()
    for other in (ObjectStream(samples, seed=2), OrderSampler(Order(COUNT, seed=2))):
        try:
            other.load_state_dict(state)
        except ValueError as error:
            assert "list the same objects with the same seed" in str(error)
        else:
            raise AssertionError("it was taken")


def lasting_workers_follow_the_epoch() -> None:
    stream = ObjectStream(opened(), decode=number_of, batch_size=BATCH)
    loader = DataLoader(stream, batch_size=BATCH, num_workers=2, persistent_workers=True)
    for epoch in range(3):
        stream.set_epoch(epoch)
        assert numbers(loader) == list(Order(COUNT).epoch(epoch)), epoch


def a_sampler_orders_a_dataset_and_goes_on() -> None:
    samples = opened()
    order = Order(COUNT, seed=3, share=Share(1, 2))
    dataset = ObjectDataset(samples, decode=number_of)
    sampler = OrderSampler(order)
    sampler.set_epoch(6)
    loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler, num_workers=2)
    assert numbers(loader) == list(order.epoch(6))
    again = OrderSampler(order)
    again.load_state_dict(sampler.state_dict(taken=3 * BATCH))
    again.set_epoch(6)
    assert numbers(DataLoader(dataset, batch_size=BATCH, sampler=again)) == list(order.epoch(6))[3 * BATCH :]
    again.set_epoch(7)
    assert len(again) == len(order.epoch(7))


def workers_may_be_spawned() -> None:
    stream = ObjectStream(opened(), decode=number_of, batch_size=BATCH)
    loader = DataLoader(stream, batch_size=BATCH, num_workers=1, multiprocessing_context="spawn")
    assert numbers(loader) == list(Order(COUNT).epoch(0))


def an_epoch_can_be_warmed() -> None:
    stream = ObjectStream(opened(), share=Share(0, 2, "drop"))
    assert stream.warm() == COUNT // 2 * BYTES


CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        whole_samples_come_in_batches,
        a_stream_is_the_same_for_any_number_of_workers,
        ranks_share_an_epoch,
        the_rank_is_that_of_torch_distributed,
        a_stream_goes_on_where_its_state_was_taken,
        a_state_at_the_end_of_an_epoch_begins_the_next,
        a_state_of_other_samples_is_refused,
        lasting_workers_follow_the_epoch,
        a_sampler_orders_a_dataset_and_goes_on,
        workers_may_be_spawned,
        an_epoch_can_be_warmed,
    )
}

if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print(*CHECKS)
    else:
        CHECKS[sys.argv[1]]()
