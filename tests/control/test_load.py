from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from headrace.control.load import MAX_FAILURES, LoadPlan, LoadStep
from headrace.ledger.records import JobProgress
from headrace.model.objects import CommonPrefix, Listing, ObjectInfo, Version


def page_of(keys: list[str], after: str, limit: int) -> Listing:
    rest = [key for key in keys if key > after]
    entries = tuple(ObjectInfo(key, 10, Version("etag:x")) for key in rest[:limit])
    return Listing(entries, rest[limit - 1] if len(rest) > limit else None)


def run_some(plan: LoadPlan, keys: list[str], loaded: set[str], rng: random.Random, moves: int) -> None:
    """Random order of listing, starting and finishing, at most `moves` of them."""
    flying: list[LoadStep] = []
    asked: str | None = None
    for _ in range(moves):
        if plan.over:
            return
        choice = rng.randrange(3)
        if choice == 0 and asked is None:
            asked = plan.next_listing()
        elif choice == 1 and asked is not None:
            plan.listed(page_of(keys, asked, 3))
            asked = None
        elif choice == 2 and len(flying) < 4 and (step := plan.next_step()) is not None:
            flying.append(step)
        elif flying:
            step = flying.pop(rng.randrange(len(flying)))
            loaded.add(step.path)
            plan.done(step, step.size)


@given(st.integers(0, 40), st.integers(0, 2**32), st.lists(st.integers(0, 60), max_size=4))
def test_however_often_it_is_killed_every_object_is_loaded_and_the_cursor_never_lies(
    count: int, seed: int, crashes: list[int]
) -> None:
    keys = [f"/b/{number:03}" for number in range(count)]
    rng = random.Random(seed)
    loaded: set[str] = set()
    saved = JobProgress()
    for moves in [*crashes, 10_000]:
        plan = LoadPlan(saved)
        run_some(plan, keys, loaded, rng, moves)
        saved = plan.progress()
        assert all(key in loaded for key in keys if key <= saved.cursor)
        assert saved.objects_at_cursor == sum(key <= saved.cursor for key in keys)
        assert saved.objects_at_cursor <= saved.objects_done <= saved.objects_known
    assert loaded == set(keys)
    assert saved.objects_done == count
    assert saved.bytes_done == 10 * count
    assert saved.all_known


@given(st.integers(1, 30), st.integers(0, 2**32), st.data())
def test_a_resumed_load_tries_again_what_failed(count: int, seed: int, data: st.DataObject) -> None:
    keys = [f"/b/{number:03}" for number in range(count)]
    bad = data.draw(st.sets(st.sampled_from(keys), max_size=5))
    rng = random.Random(seed)
    plan = LoadPlan()
    flying: list[LoadStep] = []
    while not plan.over:
        if (after := plan.next_listing()) is not None:
            plan.listed(page_of(keys, after, 7))
        while len(flying) < 4 and (step := plan.next_step()) is not None:
            flying.append(step)
        if flying:
            step = flying.pop(rng.randrange(len(flying)))
            if step.path in bad:
                plan.fail("no")
            else:
                plan.done(step, step.size)
    assert plan.failed == len(bad)
    assert all(key > plan.progress().cursor for key in bad)
    again: set[str] = set()
    second = LoadPlan(plan.progress())
    run_some(second, keys, again, rng, 10_000)
    assert bad <= again
    assert second.progress().objects_done == count


def test_it_gives_up_after_many_failures() -> None:
    keys = [f"/b/{number:05}" for number in range(2000)]
    plan = LoadPlan()
    failed = 0
    while not plan.over:
        if (after := plan.next_listing()) is not None:
            plan.listed(page_of(keys, after, 1000))
        if plan.next_step() is not None:
            plan.fail("the store is gone")
            failed += 1
    assert failed == MAX_FAILURES
    assert plan.first_error == "the store is gone"


def test_it_lists_only_a_little_ahead() -> None:
    keys = [f"/b/{number:05}" for number in range(5000)]
    plan = LoadPlan()
    after = plan.next_listing()
    assert after == ""
    assert plan.next_listing() is None, "one listing at a time"
    plan.listed(page_of(keys, after, 1000))
    assert plan.next_listing() is None, "a thousand wait already"
    assert not plan.progress().all_known


def test_common_prefixes_are_no_objects() -> None:
    plan = LoadPlan()
    plan.next_listing()
    plan.listed(Listing((CommonPrefix("/b/x/"),)))
    assert plan.over
    assert plan.progress() == JobProgress(all_known=True)
