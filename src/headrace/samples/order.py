"""In which order samples are visited: by seed and epoch, cut into one share for each rank, and into blocks for workers. Pure."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

Uneven = Literal["repeat", "drop", "keep"]


class Share(msgspec.Struct, frozen=True):
    """The part of all samples that one of several training processes visits.

    `uneven` says what becomes of a remainder: some samples are visited twice so that all ranks take as many steps (`repeat`),
    the remainder is left out (`drop`), or some ranks have one sample more (`keep`).
    """

    rank: int = 0
    ranks: int = 1
    uneven: Uneven = "repeat"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise ValueError(f"rank {self.rank} is not one of {self.ranks} ranks: they count from 0")


WHOLE = Share()


class Order(msgspec.Struct, frozen=True):
    """The same samples in the same order whenever these values are the same, however many workers read."""

    count: int
    seed: int = 0
    shuffle: bool = True
    share: Share = WHOLE

    def epoch(self, number: int) -> Sequence[int]:
        """The samples of this share in the order of epoch `number`."""
        order = array("q", range(self.count))
        if self.shuffle:
            random.Random(f"{self.seed}/{number}").shuffle(order)  # noqa: S311 (an order, no secret)
        share, ranks = self.share, self.share.ranks
        over = self.count % ranks
        if over and share.uneven == "drop":
            order = order[: self.count - over]
        elif over and share.uneven == "repeat":
            lacking = ranks - over
            order.extend(order[at % self.count] for at in range(lacking))
        return order[share.rank :: ranks]


def blocks(order: Sequence[int], *, size: int, worker: int, workers: int) -> Iterator[int]:
    """What one of `workers` processes reads of `order`: every `workers`-th block of `size` samples, from its own on.

    Batches of `size` that are taken from the workers in turn are then batches of `order` itself.
    """
    for start in range(worker * size, len(order), workers * size):
        yield from order[start : start + size]
