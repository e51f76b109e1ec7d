from __future__ import annotations

import asyncio

import pytest

from headrace.control import jobs as jobs_module
from headrace.control.jobs import JobRunner
from headrace.control.load_run import PARALLEL_LOADS
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import JobRecord, JobState
from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied, NotFound, SettingsError, Unavailable
from support.fake_node import FakeNode

OBJECTS = {f"/b/{number:03}": 10 for number in range(50)}


async def no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)


def runner_of(ledger: Ledger, node: FakeNode) -> JobRunner:
    return JobRunner(ledger.jobs, node, SystemClock(), pause=no_pause)


async def until_over(runner: JobRunner, job_id: str) -> JobRecord:
    async with asyncio.timeout(10):
        while not (record := await runner.get(job_id)).state.over:
            await asyncio.sleep(0.005)
    return record


async def until_loaded(node: FakeNode, count: int) -> None:
    async with asyncio.timeout(10):
        while sum(node.loads.values()) < count:
            await asyncio.sleep(0.005)


async def test_a_load_brings_in_everything_below_its_path(ledger: Ledger) -> None:
    node = FakeNode(OBJECTS | {"/c/other": 1})
    node.page_limit = 7
    runner = runner_of(ledger, node)
    record = await until_over(runner, (await runner.load("/b")).id)
    assert record.state is JobState.DONE
    assert (record.progress.objects_done, record.progress.bytes_done) == (50, 500)
    assert record.progress.all_known
    assert set(node.loads) == set(OBJECTS)
    assert set(node.loads.values()) == {1}


async def test_the_same_load_twice_is_one_job(ledger: Ledger) -> None:
    node = FakeNode(OBJECTS)
    node.hold = asyncio.Event()
    runner = runner_of(ledger, node)
    first = await runner.load("/b")
    assert (await runner.load("/b")).id == first.id
    node.hold.set()
    await until_over(runner, first.id)
    assert (await runner.load("/b")).id != first.id
    await runner.stop()


async def test_a_stopped_process_goes_on_where_it_was(ledger: Ledger) -> None:
    node = FakeNode(OBJECTS)
    node.hold, node.hold_after = asyncio.Event(), 30
    runner = runner_of(ledger, node)
    job = await runner.load("/b")
    await until_loaded(node, 30)
    await runner.stop()
    left = ledger.jobs.get(job.id)
    assert left is not None
    assert left.state is JobState.RUNNING
    assert left.progress.objects_at_cursor >= 30 - PARALLEL_LOADS
    node.hold.set()
    second = runner_of(ledger, node)
    await second.start()
    record = await until_over(second, job.id)
    assert record.state is JobState.DONE
    assert record.progress.objects_done == 50
    assert set(node.loads) == set(OBJECTS)
    assert sum(node.loads.values()) <= 50 + PARALLEL_LOADS


class TickingClock(SystemClock):
    """A second passes at each look, so that progress is saved at each turn."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:  # type: ignore[override]
        self.now += 1
        return self.now


async def test_a_killed_process_goes_on_from_what_the_ledger_has(ledger: Ledger) -> None:
    node = FakeNode(OBJECTS)
    node.hold, node.hold_after = asyncio.Event(), 30
    killed = JobRunner(ledger.jobs, node, TickingClock(), pause=no_pause)
    job = await killed.load("/b")
    async with asyncio.timeout(10):
        while not ((row := ledger.jobs.get(job.id)) and row.progress.objects_at_cursor >= 20):
            await asyncio.sleep(0.005)
    assert row.state is JobState.RUNNING
    node.hold.set()
    fresh = FakeNode(OBJECTS)
    second = runner_of(ledger, fresh)
    await killed.stop()
    ledger.jobs.update(job.id, row.state, row.progress)
    await second.start()
    assert (await until_over(second, job.id)).progress.objects_done == 50
    assert set(fresh.loads) == {key for key in OBJECTS if key > row.progress.cursor}


async def test_cancel_ends_a_job_and_resume_goes_on(ledger: Ledger) -> None:
    node = FakeNode(OBJECTS)
    node.hold, node.hold_after = asyncio.Event(), 20
    runner = runner_of(ledger, node)
    job = await runner.load("/b")
    await until_loaded(node, 20)
    cancelled = await runner.cancel(job.id)
    assert cancelled.state is JobState.CANCELLED
    assert ledger.jobs.unfinished() == ()
    node.hold.set()
    await runner.resume(job.id)
    assert (await until_over(runner, job.id)).state is JobState.DONE
    assert set(node.loads) == set(OBJECTS)


async def test_what_cannot_be_loaded_is_named_and_tried_again_on_resume(ledger: Ledger) -> None:
    node = FakeNode(OBJECTS)
    node.failures["/b/020"] = AccessDenied("the store says no")
    runner = runner_of(ledger, node)
    record = await until_over(runner, (await runner.load("/b")).id)
    assert record.state is JobState.FAILED
    assert "1 of 50 objects" in record.error
    assert "/b/020: the store says no" in record.error
    assert f"headrace load --resume {record.id}" in record.error
    del node.failures["/b/020"]
    await runner.resume(record.id)
    again = await until_over(runner, record.id)
    assert again.state is JobState.DONE
    assert again.progress.objects_done == 50
    assert again.progress.objects_failed == 0


async def test_a_store_that_is_away_for_a_moment_is_asked_again(ledger: Ledger) -> None:
    node = FakeNode(OBJECTS)
    node.failures["/b/003"] = Unavailable("away")
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            node.failures.clear()
        await asyncio.sleep(0)

    runner = JobRunner(ledger.jobs, node, SystemClock(), pause=pause)
    assert (await until_over(runner, (await runner.load("/b")).id)).state is JobState.DONE
    assert pauses == [1.0, 2.0, 4.0]


async def test_a_listing_that_fails_fails_the_job(ledger: Ledger) -> None:
    node = FakeNode(OBJECTS)
    node.failures["/b"] = Unavailable("no route to the store")
    runner = runner_of(ledger, node)
    record = await until_over(runner, (await runner.load("/b")).id)
    assert record.state is JobState.FAILED
    assert "no route to the store" in record.error


async def test_an_object_that_is_gone_since_it_was_listed_is_no_failure(ledger: Ledger) -> None:
    node = FakeNode(OBJECTS)
    node.failures["/b/004"] = NotFound("gone")
    runner = runner_of(ledger, node)
    record = await until_over(runner, (await runner.load("/b")).id)
    assert record.state is JobState.DONE


async def test_jobs_are_bounded_and_unknown_ones_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "WAITING_JOBS", 2)
    node = FakeNode(OBJECTS)
    node.hold = asyncio.Event()
    runner = runner_of(ledger, node)
    await runner.load("/b")
    await runner.load("/c")
    with pytest.raises(Unavailable, match="wait already"):
        await runner.load("/d")
    with pytest.raises(NotFound, match="headrace jobs"):
        await runner.cancel("nope")
    await runner.stop()


async def test_a_done_job_has_nothing_to_go_on_with(ledger: Ledger) -> None:
    runner = runner_of(ledger, FakeNode(OBJECTS))
    record = await until_over(runner, (await runner.load("/b")).id)
    with pytest.raises(SettingsError, match="is done"):
        await runner.resume(record.id)
