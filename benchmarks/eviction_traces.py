"""Hit ratios of the eviction policy beside plain LRU and libcachesim's policies, on traces made from fixed seeds.

The traces are public-style: Zipf, Zipf with scans, loops, shifting popularity, sizes as segments have them. HEADRACE_BENCH_REQUESTS
says how long they are.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import libcachesim
import numpy as np

from headrace.cache.eviction import Eviction
from report import Row, emit

_KEY_MIX = 0x9E3779B97F4A7C15
_SEED = 20240
REQUESTS = int(os.environ.get("HEADRACE_BENCH_REQUESTS", "500000"))


@dataclass(frozen=True)
class Trace:
    name: str
    ids: list[int]
    sizes: dict[int, int]
    capacity: int
    scans: bool


def zipf(rng: np.random.Generator, objects: int, requests: int, alpha: float) -> np.ndarray:
    weights = 1.0 / np.arange(1, objects + 1) ** alpha
    ranks = np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(requests))
    return rng.permutation(objects)[np.minimum(ranks, objects - 1)]


def interleave(rng: np.random.Generator, base: np.ndarray, runs: list[np.ndarray]) -> np.ndarray:
    """Each run goes in whole, at a random place of the base."""
    cuts = np.sort(rng.integers(0, len(base), len(runs)))
    pieces, at = [], 0
    for cut, run in zip(cuts, runs, strict=True):
        pieces += [base[at:cut], run]
        at = cut
    return np.concatenate([*pieces, base[at:]])


def traces(requests: int) -> Iterator[Trace]:
    rng = np.random.default_rng(_SEED)
    objects = requests // 10

    def made(name: str, ids: np.ndarray, share: float, *, scans: bool, mixed: bool = False) -> Trace:
        plain = [int(i) for i in ids]
        seen = sorted(set(plain))
        sizes = {i: (64 << 10 if not mixed else int(rng.choice([64 << 10, 4 << 20, 1 << 20], p=[0.85, 0.05, 0.1]))) for i in seen}
        return Trace(name, plain, sizes, int(sum(sizes.values()) * share), scans)

    for alpha in (0.7, 0.9, 1.1):
        yield made(f"zipf {alpha}", zipf(rng, objects, requests, alpha), 0.1, scans=False)
    base = zipf(rng, objects, requests // 2, 0.9)
    scan = [np.arange(objects * (2 + i), objects * (2 + i) + objects // 2) for i in range(10)]
    yield made("zipf 0.9 + one-time scans", interleave(rng, base, scan), 0.03, scans=True)
    loop = np.arange(objects * 2, objects * 2 + objects // 2)
    yield made("zipf 0.9 + scan of one set, looped", interleave(rng, base, [loop] * 10), 0.1, scans=True)
    both = interleave(rng, base, [loop, scan[0]] * 4)
    yield made("zipf 0.9 + scan + loop", both, 0.1, scans=True)
    spread = np.empty(len(base) * 2, dtype=np.int64)
    spread[0::2] = base
    spread[1::2] = np.arange(objects * 2, objects * 2 + len(base))
    yield made("zipf 0.9, every other read once", spread, 0.03, scans=True)
    shift = np.concatenate([zipf(rng, objects, requests // 5, 0.9) + phase * objects // 2 for phase in range(5)])
    yield made("zipf 0.9, popularity shifts", shift, 0.1, scans=False)
    yield made("zipf 0.9, mixed sizes", zipf(rng, objects, requests, 0.9), 0.1, scans=False, mixed=True)
    yield made("zipf + scan + loop, mixed sizes", both, 0.1, scans=True, mixed=True)


class Lru:
    """Plain LRU over bytes."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.kept: OrderedDict[int, int] = OrderedDict()
        self.used = 0

    def get(self, ident: int, size: int) -> bool:
        if ident in self.kept:
            self.kept.move_to_end(ident)
            return True
        self.kept[ident] = size
        self.used += size
        while self.used > self.capacity:
            self.used -= self.kept.popitem(last=False)[1]
        return False


class Ours:
    """The policy as the keeper drives it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.policy = Eviction()

    def get(self, ident: int, size: int) -> bool:
        mixed = (ident + 1) * _KEY_MIX
        if self.policy.touched(mixed):
            return True
        self.policy.inserted(mixed, size)
        if self.policy.bytes > self.capacity:
            self.policy.evict(self.policy.bytes - self.capacity)
        return False


class Reference:
    """One of libcachesim's."""

    def __init__(self, cache: libcachesim.CacheBase) -> None:
        self.cache = cache
        self.request = libcachesim.Request()

    def get(self, ident: int, size: int) -> bool:
        self.request.obj_id = ident + 1
        self.request.obj_size = size
        self.request.clock_time += 1
        return self.cache.get(self.request)


def hit_ratio(trace: Trace, cache: Lru | Ours | Reference) -> float:
    """Percent of the bytes asked for that were at hand."""
    hit = asked = 0
    for ident in trace.ids:
        size = trace.sizes[ident]
        asked += size
        if cache.get(ident, size):
            hit += size
    return 100 * hit / asked


POLICIES: dict[str, Callable[[int], Lru | Ours | Reference]] = {
    "LRU": Lru,
    "ours": Ours,
    "S3-FIFO": lambda size: Reference(libcachesim.S3FIFO(cache_size=size)),
    "W-TinyLFU": lambda size: Reference(libcachesim.WTinyLFU(cache_size=size)),
    "Sieve": lambda size: Reference(libcachesim.Sieve(cache_size=size)),
}


def rows(trace: Trace, ratios: dict[str, float]) -> list[Row]:
    """Differences in points of the share of bytes that were at hand; plain LRU is a bar for the mixes with scans alone."""
    ours = ratios["ours"]
    best = max(ratios["S3-FIFO"], ratios["W-TinyLFU"])
    made = [Row(f"{trace.name}: points above the better of S3-FIFO and W-TinyLFU", ours - best, -1, "at least", [ours], [best])]
    if trace.scans:
        lru = ratios["LRU"]
        made.insert(0, Row(f"{trace.name}: points above LRU", ours - lru, 5, "at least", [ours], [lru]))
    return made


def main() -> None:
    print(f"{'bytes at hand, %':36}" + "".join(f"{name:>11}" for name in POLICIES))
    found: list[Row] = []
    for trace in traces(REQUESTS):
        ratios = {name: hit_ratio(trace, make(trace.capacity)) for name, make in POLICIES.items()}
        print(f"{trace.name:36}" + "".join(f"{value:11.2f}" for value in ratios.values()), flush=True)
        found += rows(trace, ratios)
    emit("eviction_traces", f"Eviction: bytes at hand on traces of {REQUESTS:,} requests, %", found, rounds=1)


if __name__ == "__main__":
    main()
