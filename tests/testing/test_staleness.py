"""The meter tells a cache that keeps its bound from one that does not."""

from __future__ import annotations

import threading
import time

import pytest

from headrace.testing.staleness import Ages, StalenessMeter, measure


def test_the_age_is_counted_from_the_first_change_that_was_not_seen() -> None:
    meter = StalenessMeter()
    bodies = []
    for at_s in (10.0, 12.0, 20.0):
        bodies.append(meter.next_body("a key"))
        meter.written("a key", at_s)
    assert meter.seen("door", "a key", bodies[0], 11.0) == 0.0
    assert meter.seen("door", "a key", bodies[0], 21.0) == 9.0
    assert meter.seen("door", "a key", bodies[1], 21.0) == 1.0
    assert meter.seen("door", "a key", bodies[2], 99.0) == 0.0
    assert meter.ages() == {"door": Ages(4, 0.5, 9.0)}


@pytest.mark.parametrize("damage", ["other key", "blend", "short", "nothing"])
def test_what_nobody_wrote_is_no_version(damage: str) -> None:
    meter = StalenessMeter()
    old = meter.next_body("k")
    meter.written("k", 1.0)
    new = meter.next_body("k")
    body = {"other key": old, "blend": old[:100] + new[100:], "short": old[:-1], "nothing": b""}[damage]
    with pytest.raises(ValueError, match="nobody wrote"):
        meter.seen("door", "other" if damage == "other key" else "k", body, 2.0)


class Cache:
    """Looks at the store when what it has is `bound_s` old."""

    def __init__(self, store: dict[str, bytes], bound_s: float) -> None:
        self._store = store
        self._bound_s = bound_s
        self._known: dict[str, tuple[float, bytes]] = {}
        self._lock = threading.Lock()

    def read(self, key: str) -> bytes:
        with self._lock:
            now_s = time.monotonic()
            if key not in self._known or now_s - self._known[key][0] > self._bound_s:
                self._known[key] = (now_s, self._store[key])
            return self._known[key][1]


def test_caches_are_measured_beside_each_other() -> None:
    store: dict[str, bytes] = {}
    short, none = Cache(store, 0.2), Cache(store, -1.0)
    ages = measure(
        store.__setitem__,
        {"short": [short.read, short.read], "none": [none.read]},
        keys=["a", "b"],
        seconds=1.0,
        writes_per_s=50.0,
    )
    assert ages["none"].most_s < 0.1
    assert 0.05 < ages["short"].most_s < 0.5
    assert min(ages["short"].reads, ages["none"].reads) > 20


def test_what_a_reader_raises_ends_it() -> None:
    with pytest.raises(ValueError, match="nobody wrote"):
        measure(lambda _key, _body: None, {"door": [lambda _key: b"?"]}, keys=["k"], seconds=30.0)
