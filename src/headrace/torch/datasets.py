"""Datasets over numbered samples: by number (`ObjectDataset`) and as a stream that reads ahead (`ObjectStream`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from headrace.samples.order import Order, Share, blocks
from headrace.samples.sample import Sample
from headrace.samples.source import AHEAD, Ahead, Samples
from headrace.torch.sampling import Place, current_share

Decode = Callable[[Sample], Any]


def as_tensor(sample: Sample) -> Any:
    """The sample's bytes as a tensor of `uint8`, read straight into it."""
    tensor = torch.empty(sample.size, dtype=torch.uint8)
    sample.read_into(tensor.numpy())
    return tensor


class ObjectDataset:
    """Samples by number. A batch of a `DataLoader` is asked for in one go."""

    def __init__(self, samples: Samples, *, decode: Decode = as_tensor) -> None:
        self.samples = samples
        self._decode = decode

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Any:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        return [self._decode(sample) for sample in self.samples.read(numbers)]


class ObjectStream(IterableDataset):  # type: ignore[misc]  # PyTorch is not there where types are checked
    """One epoch of this rank's samples, read ahead of the loop. Call `set_epoch` before every epoch.

    Give `batch_size` as the `DataLoader` has it (1 where it makes no batches): its workers then share the epoch by whole
    batches, and what the loop sees is the same for any number of workers.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        decode: Decode = as_tensor,
        seed: int = 0,
        shuffle: bool = True,
        share: Share | None = None,
        batch_size: int = 1,
        ahead: Ahead = AHEAD,
    ) -> None:
        super().__init__()
        self.samples = samples
        self.ahead = ahead
        self._decode = decode
        self._batch_size = batch_size
        self._place = Place(Order(len(samples), seed, shuffle, share or current_share()))
        self._taken = 0

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        left = self._place.left()
        self._taken = self._place.start
        mine = left if worker is None else blocks(left, size=self._batch_size, worker=worker.id, workers=worker.num_workers)
        for sample in self.samples.stream(mine, ahead=self.ahead):
            decoded = self._decode(sample)
            self._taken += 1
            yield decoded

    def __len__(self) -> int:
        """Samples of this epoch that are still to come for this rank."""
        return len(self._place.left())

    def set_epoch(self, epoch: int) -> None:
        """Begin epoch `epoch`; where it is the one of a restored state, go on in it."""
        if epoch != self._place.epoch:
            self._place.go(epoch)

    def warm(self) -> int:
        """Bring what this rank visits in this epoch into the cache, in that order, and wait for it; how many bytes it is."""
        return self.samples.warm(self._place.left(), ahead=self.ahead)

    def state_dict(self, taken: int | None = None) -> dict[str, Any]:
        """The state when the loop has had `taken` samples of this epoch, those before a restart included.

        Without workers that is counted here; workers run ahead of the loop, so then it must be given.
        """
        return self._place.state(self._taken if taken is None else taken)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises `ValueError` for a state of other samples or another seed."""
        self._place.restore(state)
        self._taken = self._place.start
