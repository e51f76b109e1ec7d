"""Which samples a rank visits in an epoch, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed

from headrace.samples.order import Order, Share


def current_share() -> Share:
    """This process's rank among those of `torch.distributed`; all of it where that was not started."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Share(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return Share()


class Place:
    """The epoch and how many of its samples were taken before; shared with the workers of a `DataLoader`, also lasting ones."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._values = torch.zeros(2, dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._values[0])

    @property
    def start(self) -> int:
        return int(self._values[1])

    def go(self, epoch: int, start: int = 0) -> None:
        self._values[0], self._values[1] = epoch, start

    def left(self) -> Any:
        """The samples of this epoch that are still to be visited, in order."""
        return self.order.epoch(self.epoch)[self.start :]

    def state(self, taken: int) -> dict[str, Any]:
        return {"epoch": self.epoch, "taken": taken, "seed": self.order.seed, "count": self.order.count}

    def restore(self, state: dict[str, Any]) -> None:
        """Raises `ValueError` for a state of other samples or another seed: its place means nothing here."""
        ours = {"seed": self.order.seed, "count": self.order.count}
        theirs = {name: state[name] for name in ours}
        if theirs != ours:
            raise ValueError(
                f"the state was taken of {theirs}, this is {ours}: list the same objects with the same seed to go on"
            )
        epoch, taken = int(state["epoch"]), int(state["taken"])
        if taken >= len(self.order.epoch(epoch)):
            epoch, taken = epoch + 1, 0
        self.go(epoch, taken)


class OrderSampler:
    """For `DataLoader(dataset, sampler=…)`: this rank's samples in the order of seed and epoch, from where it was on.

    Call `set_epoch` before every epoch.
    """

    def __init__(self, order: Order) -> None:
        self._place = Place(order)

    def __iter__(self) -> Iterator[int]:
        return iter(self._place.left())

    def __len__(self) -> int:
        return len(self._place.left())

    def set_epoch(self, epoch: int) -> None:
        """Begin epoch `epoch`; where it is the one of a restored state, go on in it."""
        if epoch != self._place.epoch:
            self._place.go(epoch)

    def state_dict(self, taken: int) -> dict[str, Any]:
        """The state when the loop has had `taken` samples of this epoch. A loader runs ahead, so only the loop knows."""
        return self._place.state(taken)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises `ValueError` for a state of other samples or another seed."""
        self._place.restore(state)
