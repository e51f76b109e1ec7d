"""The planner against a model of two stores: what is planned is done on dictionaries."""

from __future__ import annotations

import hashlib
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.control.sync.planner import Agree, Likeness, Merge, Rules, Source, after_comparison, decide, likeness, too_many
from headrace.control.sync.steps import Seen, Side, Step, Verb, conflict_key
from headrace.ledger.sync_records import ConflictRule, Mode, SyncPair
from headrace.model.errors import CorruptData

KEYS = ("a", "a/b", "b", "é", "z")
BODIES = (b"", b"one", b"two", b"three")


class Place:
    """A store: bodies and the moments of their writing, with ETags as one of three kinds of store makes them."""

    def __init__(self, kind: str, clock: itertools.count[int]) -> None:
        self.kind = kind
        self.clock = clock
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.written: set[bytes] = set()

    def put(self, key: str, body: bytes) -> None:
        self.objects[key] = body, next(self.clock)
        self.written.add(body)

    def seen(self, key: str) -> Seen | None:
        if key not in self.objects:
            return None
        body, at = self.objects[key]
        md5 = hashlib.md5(body).hexdigest()
        etag = {"md5": md5, "parts": f"{md5}-1", "files": f"{at}-{len(body)}-7"}[self.kind]
        return Seen(key, len(body), etag, f"etag:{etag}", float(at))

    def listing(self) -> list[Seen]:
        return [seen for key in sorted(self.objects) if (seen := self.seen(key)) is not None]

    def bodies(self) -> dict[str, bytes]:
        return {key: body for key, (body, _) in self.objects.items()}


class World:
    """Both sides and their last agreement, with steps done as a carrier does them."""

    def __init__(self, rules: Rules, kinds: tuple[str, str]) -> None:
        clock = itertools.count(1)
        self.rules = rules
        self.places = {Side.A: Place(kinds[0], clock), Side.B: Place(kinds[1], clock)}
        self.pairs: dict[str, SyncPair] = {}
        self.superseded: set[bytes] = set()

    def plan(self, page: int = 2) -> list[Step | Agree]:
        merge = Merge(self.rules)
        left = {
            Source.PAIRS: [self.pairs[key] for key in sorted(self.pairs)],
            Source.A: self.places[Side.A].listing(),
            Source.B: self.places[Side.B].listing(),
        }
        decisions: list[Step | Agree] = []
        while not merge.is_over:
            for source in merge.wants():
                items, left[source] = left[source][:page], left[source][page:]
                merge.feed(source, items, ended=not left[source])
            decisions += merge.take()
        return decisions

    def run(self) -> list[Step | Agree]:
        decisions = self.plan()
        for decision in decisions:
            self.do(decision)
        return decisions

    def do(self, decision: Step | Agree) -> None:
        if isinstance(decision, Agree):
            if decision.is_gone:
                del self.pairs[decision.pair.key]
            else:
                a, b = (self.places[side].objects[decision.pair.key][0] for side in Side)
                assert a == b, "they agree on different bytes"
                self.pairs[decision.pair.key] = decision.pair
            return
        key, target = decision.key, self.places[decision.towards]
        assert decision.seen(decision.towards) == target.seen(key), "planned from something else than is there"
        if decision.verb is Verb.COMPARE:
            same = self.places[Side.A].objects[key][0] == self.places[Side.B].objects[key][0]
            self.do(after_comparison(self.rules, decision, same=same))
        elif decision.verb is Verb.DELETE:
            self.superseded.add(target.objects.pop(key)[0])
            self.pairs.pop(key, None)
        else:
            if decision.verb is Verb.KEEP_BOTH:
                loser = decision.seen(decision.towards)
                assert loser is not None
                for place in self.places.values():
                    place.put(conflict_key(key, loser), target.objects[key][0])
                self.agree(conflict_key(key, loser))
            elif key in target.objects:
                self.superseded.add(target.objects[key][0])
            target.put(key, self.places[decision.towards.other].objects[key][0])
            self.agree(key)

    def agree(self, key: str) -> None:
        a, b = (self.places[side].seen(key) for side in Side)
        assert a is not None
        assert b is not None
        self.pairs[key] = SyncPair(key, a.mark, b.mark)


changes = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(list(Side)), st.sampled_from(KEYS), st.sampled_from(BODIES)),
        st.tuples(st.just("delete"), st.sampled_from(list(Side)), st.sampled_from(KEYS), st.just(b"")),
        st.tuples(st.just("run"), st.just(Side.A), st.just(""), st.just(b"")),
    ),
    max_size=25,
)
kinds = st.tuples(st.sampled_from(["md5", "parts", "files"]), st.sampled_from(["md5", "parts", "files"]))


def lived(world: World, history: list[tuple[str, Side, str, bytes]]) -> World:
    for verb, side, key, body in history:
        place = world.places[side]
        if verb == "put":
            place.put(key, body)
        elif verb == "delete" and key in place.objects:
            world.superseded.add(place.objects.pop(key)[0])
        elif verb == "run":
            world.run()
    return world


@given(changes, kinds, st.sampled_from(list(ConflictRule)), st.booleans(), st.integers(1, 3))
def test_two_way_converges_and_a_second_plan_is_empty(history, kinds, rule, checksum, page) -> None:
    world = lived(World(Rules(Mode.TWO_WAY, rule, checksum), kinds), history)
    world.run()
    assert world.places[Side.A].bodies() == world.places[Side.B].bodies()
    assert world.plan(page) == []


@given(changes, kinds, st.booleans())
def test_a_mirror_is_what_its_source_is_and_the_source_is_never_touched(history, kinds, checksum) -> None:
    world = lived(World(Rules(Mode.MIRROR, ConflictRule.NEWEST, checksum), kinds), history)
    before = dict(world.places[Side.A].objects)
    world.run()
    assert world.places[Side.A].objects == before
    assert world.places[Side.B].bodies() == world.places[Side.A].bodies()
    assert world.plan() == []


@given(changes, kinds)
def test_with_keep_both_no_version_of_a_conflict_is_lost(history, kinds) -> None:
    world = lived(World(Rules(Mode.TWO_WAY, ConflictRule.KEEP_BOTH), kinds), history)
    there = {side: world.places[side].bodies() for side in Side}
    agreed = {
        key
        for key, pair in world.pairs.items()
        for side in Side
        if (seen := world.places[side].seen(key)) is not None and seen.mark == (pair.a if side is Side.A else pair.b)
    }
    world.run()
    left = set(world.places[Side.A].bodies().values())
    for side in Side:
        for key, body in there[side].items():
            assert body in left or key in agreed, f"{body!r} of {key} was lost"


@given(changes, kinds, st.sampled_from(list(ConflictRule)))
def test_what_changed_on_one_side_survives_a_removal_on_the_other(history, kinds, rule) -> None:
    world = lived(World(Rules(Mode.TWO_WAY, rule), kinds), history)
    world.run()
    for key in list(world.places[Side.A].objects):
        world.places[Side.B].objects.pop(key)
        world.places[Side.A].put(key, b"changed meanwhile")
    world.run()
    assert set(world.places[Side.B].bodies().values()) <= {b"changed meanwhile"}
    assert world.places[Side.A].bodies() == world.places[Side.B].bodies()


@given(changes, kinds, st.sampled_from(list(Mode)))
def test_removals_are_only_of_what_was_agreed_on_or_of_what_a_mirror_lacks(history, kinds, mode) -> None:
    world = lived(World(Rules(mode, ConflictRule.NEWEST), kinds), history)
    for decision in world.plan():
        if isinstance(decision, Step) and decision.verb is Verb.DELETE:
            assert decision.seen(decision.towards.other) is None
            if mode is Mode.TWO_WAY:
                pair, seen = world.pairs[decision.key], decision.seen(decision.towards)
                assert seen is not None
                assert seen.mark == (pair.a if decision.towards is Side.A else pair.b)


@given(st.sets(st.text(max_size=3)), st.sets(st.text(max_size=3)), st.integers(1, 4))
def test_every_key_is_decided_once_whatever_the_pages(a_keys: set[str], b_keys: set[str], page: int) -> None:
    merge = Merge(Rules(Mode.TWO_WAY, ConflictRule.NEWEST))
    left = {
        Source.PAIRS: [],
        Source.A: [Seen(key, 1, "x", "x") for key in sorted(a_keys, key=str.encode)],
        Source.B: [Seen(key, 2, "y", "y") for key in sorted(b_keys, key=str.encode)],
    }
    found = []
    while not merge.is_over:
        for source in merge.wants():
            items, left[source] = left[source][:page], left[source][page:]
            merge.feed(source, items, ended=not left[source])
        found += [decision.key for decision in merge.take() if isinstance(decision, Step)]
    assert found == sorted(a_keys | b_keys, key=str.encode)


def test_a_listing_out_of_order_ends_the_plan() -> None:
    merge = Merge(Rules(Mode.MIRROR, ConflictRule.NEWEST))
    merge.feed(Source.A, [Seen("b", 1, "x", "x")], ended=False)
    with pytest.raises(CorruptData, match="not in order"):
        merge.feed(Source.A, [Seen("a", 1, "x", "x")], ended=True)


def seen(**changed: object) -> Seen:
    return msgspec.structs.replace(Seen("k", 3, "a" * 32, "etag:x", 5.5), **changed)


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        ({}, Likeness.SAME),
        ({"size": 4}, Likeness.DIFFERENT),
        ({"etag": "b" * 32}, Likeness.DIFFERENT),
        ({"etag": "a" * 32 + "-2"}, Likeness.UNKNOWN),
        ({"etag": ""}, Likeness.UNKNOWN),
    ],
)
def test_etags_are_compared_only_where_they_are_of_one_kind(other: dict[str, object], alike: Likeness) -> None:
    assert likeness(seen(), seen(**other)) is alike


def test_equal_sizes_and_times_to_the_fraction_of_a_second_are_trusted_only_at_first_and_never_with_checksum() -> None:
    a, b = seen(etag="1-3-9"), seen(etag="2-3-9")
    mirror = Rules(Mode.MIRROR, ConflictRule.NEWEST)
    assert isinstance(decide(mirror, None, a, b), Agree)
    again = decide(mirror, SyncPair("k", "old", "old"), a, b)
    assert isinstance(again, Step)
    assert again.verb is Verb.COPY
    compared = decide(msgspec.structs.replace(mirror, checksum=True), None, a, b)
    assert isinstance(compared, Step)
    assert compared.verb is Verb.COMPARE
    whole_seconds = decide(mirror, None, seen(etag="1-3-9", modified_s=5.0), seen(etag="2-3-9", modified_s=5.0))
    assert isinstance(whole_seconds, Step)


def test_a_tie_between_versions_keeps_both() -> None:
    a, b = seen(size=4, modified_s=7.0), seen(modified_s=7.0)
    step = decide(Rules(Mode.TWO_WAY, ConflictRule.NEWEST), None, a, b)
    assert isinstance(step, Step)
    assert (step.verb, step.is_conflict) == (Verb.KEEP_BOTH, True)


@pytest.mark.parametrize(
    ("deleted", "objects", "percent", "refused"),
    [(0, 0, 0, False), (1, 2, 50, False), (2, 3, 50, True), (1, 100, 0, True), (100, 100, 100, False)],
)
def test_removals_beyond_the_share_are_refused(deleted: int, objects: int, percent: int, refused: bool) -> None:
    assert too_many(deleted, objects, percent) is refused
