"""The workers as one node: what is merged, and what is asked of whom."""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

import pytest

from headrace.control.node_view import Found, MountStats, SlowRead, TierStats
from headrace.control.notifications import ChangedObject, Changes
from headrace.control.state import NodeState
from headrace.model.errors import Unavailable
from headrace.model.mounts import MountSpec
from headrace.node.child import Child
from headrace.node.messages import Boot, Done, EndSurvey, Survey, Surveyed
from headrace.node.view import MEMORY_TIER, WorkersView, merge_mounts, merge_tiers, slowest


def never_started() -> Child:
    def boot() -> Boot:
        raise AssertionError("this child is never started")

    return Child("none", boot=boot, known=asyncio.Event(), fds=(), on_event=lambda _: None)


async def test_without_a_worker_it_is_not_ready_and_every_verb_says_so() -> None:
    view = WorkersView([never_started(), never_started()], never_started(), data_url="http://127.0.0.1:1")
    assert not view.ready()
    with pytest.raises(Unavailable, match="no serving process"):
        await view.load("/a/b")
    with pytest.raises(Unavailable, match="no serving process"):
        await view.list_page("/a", after="", limit=10)
    stats = await view.stats()
    assert [worker.alive for worker in stats.workers] == [False, False]
    assert stats.tiers == ()


async def test_an_older_state_never_takes_the_place_of_a_newer_one() -> None:
    view = WorkersView([never_started()], never_started(), data_url="")
    await view.push_state(NodeState(7))
    await view.push_state(NodeState(6))
    assert view.state.epoch == 7


class FakeChild:
    """A worker that has always found more."""

    alive = True

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def ask(self, request: object) -> object:
        self.asked.append(request)
        if isinstance(request, EndSurvey):
            return Done()
        looks = sum(isinstance(one, Survey) for one in self.asked)
        return Surveyed(Found(looks), over=looks == 3)


async def test_a_survey_stays_with_its_worker_and_is_ended_when_its_asker_leaves() -> None:
    children = [FakeChild(), FakeChild()]
    view = WorkersView(children, never_started(), data_url="")  # type: ignore[arg-type]
    assert [found.objects async for found in view.survey("/a")] == [1, 2, 3]
    used, other = sorted(children, key=lambda child: -len(child.asked))
    assert len({request.id for request in used.asked if isinstance(request, Survey)}) == 1
    assert not other.asked
    left = view.survey("/a")
    await anext(left)
    await left.aclose()
    while not other.asked or not isinstance(other.asked[-1], EndSurvey):
        await asyncio.sleep(0)
    assert [type(request) for request in other.asked] == [Survey, EndSurvey]
    assert not any(isinstance(request, EndSurvey) for request in used.asked)


async def test_a_follower_hears_of_what_stores_said_and_callers_wrote_once_it_is_true() -> None:
    class Deaf(FakeChild):
        async def ask(self, request: object) -> object:
            raise Unavailable("it hangs")

    told: list[Changes] = []
    objects = (ChangedObject("b", "k"),)
    for worker in (FakeChild(), Deaf()):
        view = WorkersView([cast("Child", worker)], never_started(), data_url="")
        view.follow(told.append)
        with contextlib.suppress(Unavailable):
            await view.changed(objects)
        with contextlib.suppress(Unavailable):
            await view.changes_missed()
    view.wrote(("/m/k",))
    assert told == [Changes(objects), Changes(are_all=True), Changes(paths=("/m/k",))]


def test_fullness_comes_from_the_keeper() -> None:
    seen = (TierStats("/p", 100), TierStats(MEMORY_TIER, 50, 20, 2))
    assert merge_tiers([seen, seen], (TierStats("/p", 100, 40, 4),)) == (TierStats("/p", 100, 40, 4), seen[1])


def test_a_tier_is_as_sick_as_the_worst_view_of_it() -> None:
    well, out = TierStats("/p", 100), TierStats("/p", 100, healthy=False, note="out of service")
    assert merge_tiers([(well,), (out,)], (TierStats("/p", 100, 40),)) == (
        TierStats("/p", 100, 40, healthy=False, note="out of service"),
    )
    stuck = TierStats("/p", 100, 40, healthy=False, note="the keeper hangs")
    assert merge_tiers([(well,), (well,)], (stuck,)) == (stuck,)
    noted = TierStats("/p", 100, 40, note="another process keeps it")
    assert merge_tiers([(well,)], (noted,)) == (noted,)


def test_without_a_keeper_a_tier_says_that_its_fullness_is_unknown() -> None:
    disk, memory = merge_tiers([(TierStats("/p", 100), TierStats(MEMORY_TIER, 50, 20))], None)
    assert disk.healthy
    assert "not known" in disk.note
    assert memory.note == ""


def test_mounts_are_summed_and_the_latest_word_on_health_counts() -> None:
    specs = [MountSpec("/a", "file:///a"), MountSpec("/u", union=(MountSpec("/u", "file:///u"), MountSpec("/u", "s3://v")))]
    reports = [
        MountStats("/a", "", healthy=False, error="info: Unavailable", checked_s=5, store_requests=2, requests=1),
        MountStats("/a", "", checked_s=9, store_requests=3, requests=4),
        MountStats("/gone", "", checked_s=9),
    ]
    first, second = merge_mounts(reports, specs)
    assert (first.path, first.store, first.healthy, first.store_requests, first.requests) == ("/a", "file:///a", True, 5, 5)
    assert (second.path, second.store) == ("/u", "file:///u + s3://v")
    assert merge_mounts(reversed(reports), specs) == (first, second)


def test_the_slowest_reads_of_all_workers_are_kept_longest_first() -> None:
    reads = [SlowRead(f"/{n}", n / 10, 1, "hit", 0.0) for n in range(50)]
    kept = slowest(reads)
    assert [read.path for read in kept] == [f"/{n}" for n in range(49, 29, -1)]
