from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cache.eviction import Eviction, Ghost

IDS = st.integers(1, 40).map(lambda number: number * 0x9E3779B97F4A7C15F39CC0605CEDC835)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), IDS, st.integers(1, 100)),
        st.tuples(st.just("touch"), IDS, st.just(0)),
        st.tuples(st.just("remove"), IDS, st.just(0)),
        st.tuples(st.just("pin"), IDS, st.integers(0, 1)),
        st.tuples(st.just("evict"), st.just(0), st.integers(1, 200)),
    ),
    max_size=200,
)


class Model:
    """S3-FIFO with plain lists, as its paper tells it, with our numbers."""

    def __init__(self) -> None:
        self.small: deque[int] = deque()
        self.main: deque[int] = deque()
        self.pins: set[int] = set()
        self.size: dict[int, int] = {}
        self.reads: dict[int, int] = {}
        self.ghost: dict[int, int] = {}
        self.clock = 1

    def queue_bytes(self, queue: deque[int]) -> int:
        return sum(self.size[ident] for ident in queue)

    def insert(self, ident: int, size: int) -> None:
        if ident in self.size:
            self.size[ident] = size
            return
        stamp = self.ghost.pop(ident, None)
        self.size[ident], self.reads[ident] = size, 0
        known = stamp is not None and self.clock - stamp <= len(self.size)
        (self.main if known else self.small).append(ident)

    def touch(self, ident: int, _: int) -> None:
        if ident in self.size:
            self.reads[ident] = min(5, self.reads[ident] + 1)

    def remove(self, ident: int, _: int = 0) -> None:
        if ident in self.size:
            self.forget(ident)

    def forget(self, ident: int) -> None:
        for queue in (self.small, self.main):
            if ident in queue:
                queue.remove(ident)
        self.pins.discard(ident)
        del self.size[ident], self.reads[ident]

    def pin(self, ident: int, pinned: int) -> None:
        if ident not in self.size or (ident in self.pins) == bool(pinned):
            return
        if pinned:
            (self.small if ident in self.small else self.main).remove(ident)
            self.pins.add(ident)
        else:
            self.pins.discard(ident)
            self.main.append(ident)

    def evict(self, _: int, need: int) -> list[int]:
        victims: list[int] = []
        freed = 0
        while freed < need and (self.small or self.main):
            movable = self.queue_bytes(self.small) + self.queue_bytes(self.main)
            if self.small and (not self.main or self.queue_bytes(self.small) > 0.02 * movable):
                ident = self.small.popleft()
                if self.reads[ident]:
                    self.main.append(ident)
                    continue
                self.small.appendleft(ident)
                self.ghost[ident] = self.clock
                self.clock += 1
            else:
                ident = self.main.popleft()
                if self.reads[ident]:
                    self.reads[ident] -= 1
                    self.main.append(ident)
                    continue
                self.main.appendleft(ident)
            victims.append(ident)
            freed += self.size[ident]
            self.forget(ident)
        return victims


@settings(max_examples=120, deadline=None)
@given(OPERATIONS)
def test_it_agrees_with_a_plain_model_on_every_victim(operations: list[tuple[str, int, int]]) -> None:
    policy, model = Eviction(), Model()
    for operation, ident, number in operations:
        if operation == "insert":
            policy.inserted(ident, number)
            model.insert(ident, number)
        elif operation == "touch":
            policy.touched(ident)
            model.touch(ident, 0)
        elif operation == "remove":
            policy.removed(ident)
            model.remove(ident)
        elif operation == "pin":
            policy.pinned(ident, pinned=bool(number))
            model.pin(ident, number)
        else:
            assert policy.evict(number) == model.evict(0, number)
        assert policy.bytes == sum(model.size.values())
        assert set(policy) == set(model.size)


@settings(max_examples=50, deadline=None)
@given(OPERATIONS, st.integers(100, 1000))
def test_the_bound_holds_unless_pins_alone_exceed_it_and_pins_stay(operations: list[tuple[str, int, int]], capacity: int) -> None:
    policy = Eviction()
    pins: set[int] = set()
    for operation, ident, number in operations:
        if operation == "insert":
            policy.inserted(ident, number)
        elif operation == "touch":
            policy.touched(ident)
        elif operation == "pin" and ident in policy:
            policy.pinned(ident, pinned=bool(number))
            (pins.add if number else pins.discard)(ident)
        elif operation == "remove":
            policy.removed(ident)
            pins.discard(ident)
        if policy.bytes > capacity:
            assert not pins & set(policy.evict(policy.bytes - capacity))
        assert policy.bytes <= max(capacity, policy.pinned_bytes)
        assert pins <= set(policy)


def test_a_scan_does_not_push_out_what_is_read_again() -> None:
    policy = Eviction()
    hot = [ident << 64 | ident for ident in range(1, 11)]
    for ident in hot:
        policy.inserted(ident, 10)
        policy.touched(ident)
    for ident in range(1000, 2000):
        policy.inserted(ident << 64 | ident, 10)
        if policy.bytes > 200:
            policy.evict(policy.bytes - 200)
    assert set(hot) <= set(policy)


def test_what_returns_soon_after_it_was_let_go_stays_longer() -> None:
    policy = Eviction()
    policy.inserted(1 << 70, 10)
    policy.inserted(2 << 70, 10)
    assert policy.evict(10) == [1 << 70]
    policy.inserted(1 << 70, 10)
    assert policy.evict(10) == [2 << 70]
    assert 1 << 70 in policy


def test_what_was_here_before_we_watched_is_let_go_after_new_arrivals() -> None:
    policy = Eviction()
    policy.inserted(1, 10, settled=True)
    policy.inserted(2, 10)
    assert policy.evict(10) == [2]


def test_a_group_over_its_quota_gives_up_its_own_unread_first() -> None:
    policy = Eviction()
    for ident in range(1, 7):
        policy.inserted(ident, 10, group=ident % 2)
    policy.touched(1)
    assert policy.group_bytes(1) == 30
    assert policy.evict_group(1, 20) == [3, 5]
    assert policy.evict_group(1, 10) == [1]
    assert policy.group_bytes(1) == 0
    assert policy.group_bytes(0) == 30


def test_only_groups_with_a_bound_expire_and_pins_never_do() -> None:
    policy = Eviction()
    for ident, group in ((1, 1), (2, 2), (3, 1), (4, 1)):
        policy.inserted(ident, 10, group=group, now=100)
    policy.touched(3, now=200)
    policy.pinned(4, pinned=True)
    assert policy.expired({1: 150}, steps=100) == [1]
    assert set(policy) == {2, 3, 4}


def test_expiry_looks_at_no_more_than_its_steps_and_goes_round() -> None:
    policy = Eviction()
    for ident in range(1, 101):
        policy.inserted(ident, 10, group=1, now=0)
    found = [len(policy.expired({1: 10}, steps=25)) for _ in range(4)]
    assert found == [25, 25, 25, 25]
    assert len(policy) == 0


def test_a_size_or_group_known_better_corrects_the_accounts() -> None:
    policy = Eviction()
    policy.inserted(1, 10)
    policy.inserted(1, 30, group=2)
    assert (policy.bytes, policy.group_bytes(0), policy.group_bytes(2), len(policy)) == (30, 0, 30, 1)
    policy.touched(1, group=3)
    assert (policy.group_bytes(2), policy.group_bytes(3)) == (0, 30)
    assert policy.removed(1) == 30
    assert policy.removed(1) == 0


def test_unknown_ids_are_passed_over() -> None:
    policy = Eviction()
    policy.pinned(1, pinned=True)
    assert not policy.touched(1)
    assert policy.size(1) == 0
    assert policy.evict(100) == []
    assert policy.expired({0: 1}, steps=10) == []


def test_the_ghost_forgets_in_order_and_once_asked() -> None:
    ghost = Ghost()
    ids = [number * 0x9E3779B97F4A7C15 for number in range(1, 101)]
    for ident in ids:
        ghost.add(ident, 100)
    assert not ghost.take(ids[0], 50)
    assert ghost.take(ids[99], 50)
    assert not ghost.take(ids[99], 50)
    assert not ghost.take(12345, 100)


def test_the_ghost_grows_with_what_it_must_remember() -> None:
    ghost = Ghost(places=4)
    ids = [number * 0x9E3779B97F4A7C15 for number in range(1, 2001)]
    for ident in ids:
        ghost.add(ident, 1000)
    assert sum(ghost.take(ident, 1000) for ident in ids[1000:]) > 950
