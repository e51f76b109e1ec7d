"""Syncs as an operator handles them: made, refused, run on schedule, paused, removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from headrace.control.jobs import JobRunner
from headrace.control.notifications import ChangedObject, Changes
from headrace.control.plane import ControlPlane
from headrace.control.settings import ControlSettings
from headrace.control.sync import syncs as syncs_module
from headrace.control.sync.schedule import LIVE_EVERY_S
from headrace.control.sync.syncs import Syncs
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import JobRecord, JobState
from headrace.ledger.sync_records import Mode, SyncRecord, SyncSpec
from headrace.model.clock import SystemClock
from headrace.model.errors import NotFound, SettingsError, Unavailable
from headrace.model.mounts import MountSpec, WriteMode
from support.syncing import SyncNode, bodies, no_pause

SPEC = SyncSpec("s", "/a", "/b", Mode.TWO_WAY)


class Rig:
    def __init__(self, ledger: Ledger, home: Path) -> None:
        through = WriteMode.THROUGH
        mounts = (
            MountSpec("/a", "s3://corp/x", write=through),
            MountSpec("/b", "file:///b", write=through),
            MountSpec("/fixed", "s3://fixed"),
        )
        self.node = SyncNode()
        plane = ControlPlane(ledger, ControlSettings(home=home, mounts=mounts), SystemClock(), environ={})
        self.ledger = ledger
        self.jobs = JobRunner(ledger.jobs, self.node, SystemClock(), pause=no_pause)
        self.syncs = Syncs(plane, self.node, self.jobs, pause=no_pause)

    async def over(self, job: JobRecord) -> JobRecord:
        async with asyncio.timeout(10):
            while not (record := await self.jobs.get(job.id)).state.over:
                await asyncio.sleep(0.005)
        return record

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.005)


@pytest.fixture
async def rig(ledger: Ledger, tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(ledger, tmp_path)
    yield made
    await made.syncs.stop()
    await made.jobs.stop()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"name": "a b"}, "cannot be called"),
        ({"b": "/"}, "not the whole namespace"),
        ({"b": "b"}, "must begin with a slash"),
        ({"b": "/a/deeper"}, "one in the other"),
        ({"b": "/a"}, "one in the other"),
        ({"schedule": "often"}, "10m"),
        ({"bandwidth": "slow"}, "50MiB/s"),
        ({"transfers": 0}, "transfers"),
        ({"max_delete": 101}, "percentage"),
        ({"b": "/fixed"}, "takes no writes"),
        ({"a": "/fixed"}, "takes no writes"),
    ],
)
async def test_what_cannot_be_a_sync_is_refused_in_words(rig: Rig, changed: dict[str, object], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        await rig.syncs.add(msgspec.structs.replace(SPEC, **changed), actor="t")
    assert await rig.syncs.all() == ()


async def test_the_source_of_a_mirror_needs_to_take_no_writes(rig: Rig) -> None:
    rig.syncs.check(msgspec.structs.replace(SPEC, a="/fixed", mode=Mode.MIRROR))
    with pytest.raises(SettingsError, match="takes no writes"):
        rig.syncs.check(msgspec.structs.replace(SPEC, b="/fixed", mode=Mode.MIRROR))


async def test_a_side_that_is_not_there_or_cannot_be_listed_is_refused(rig: Rig) -> None:
    with pytest.raises(NotFound, match="nothing is mounted"):
        await rig.syncs.add(msgspec.structs.replace(SPEC, b="/nowhere"), actor="t")
    rig.node.side_failures["/b"] = Unavailable("away")
    with pytest.raises(Unavailable):
        await rig.syncs.add(SPEC, actor="t")
    assert await rig.syncs.all() == ()


async def test_a_name_is_taken_once(rig: Rig) -> None:
    await rig.syncs.add(SPEC, actor="t")
    with pytest.raises(SettingsError, match="called 's' already"):
        await rig.syncs.add(SPEC, actor="t")
    with pytest.raises(NotFound, match="headrace sync ls"):
        await rig.syncs.get("t")


async def test_runs_of_a_sync_are_one_job_taken_up_anew(rig: Rig) -> None:
    await rig.syncs.add(SPEC, actor="t")
    rig.node.a.put("k", b"1")
    first = await rig.over(await rig.syncs.run("s"))
    assert (first.kind, first.target, first.state, first.progress.objects_done) == ("sync", "s", JobState.DONE, 1)
    rig.node.a.put("l", b"1")
    second = await rig.over(await rig.syncs.run("s"))
    assert (second.id, second.progress.objects_done) == (first.id, 1)
    assert len(await rig.jobs.recent(10)) == 1


async def test_a_run_that_is_under_way_is_answered_with_itself_and_not_forced(rig: Rig) -> None:
    await rig.syncs.add(SPEC, actor="t")
    rig.node.a.put("k", b"1")
    rig.node.gate = asyncio.Event()
    job = await rig.syncs.run("s")
    await rig.until(lambda: rig.node.at_once > 0)
    assert (await rig.syncs.run("s")).id == job.id
    with pytest.raises(SettingsError, match="runs already"):
        await rig.syncs.run("s", force=True)
    rig.node.gate.set()
    await rig.over(job)


async def test_a_plan_changes_nothing(rig: Rig) -> None:
    rig.node.a.put("k", b"1")
    parts = [part async for part in rig.syncs.plan(SPEC)]
    assert [step.key for part in parts for step in part.steps] == ["k"]
    assert parts[-1].objects_a == 1
    assert not bodies(rig.node.b)
    assert await rig.syncs.all() == ()


async def test_a_plan_under_the_name_of_another_sync_knows_nothing_of_it(rig: Rig) -> None:
    await rig.syncs.add(SPEC, actor="t")
    rig.node.a.put("k", b"1")
    await rig.over(await rig.syncs.run("s"))
    await rig.node.b.delete("k")
    same = [part async for part in rig.syncs.plan(SPEC)]
    assert [step.verb for part in same for step in part.steps] == ["delete"]
    other = [part async for part in rig.syncs.plan(msgspec.structs.replace(SPEC, b="/b/deeper"))]
    assert [step.verb for part in other for step in part.steps] == ["copy"]


async def test_a_run_that_cannot_begin_is_refused_and_remembered_and_holds_no_other_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs_module, "_LOOK_EVERY_S", 0.01)
    broken = msgspec.structs.replace(SPEC, name="broken", b="/gone", schedule="1s")
    assert rig.ledger.syncs.add(broken) is not None
    await rig.syncs.add(msgspec.structs.replace(SPEC, schedule="1s"), actor="t")
    rig.node.a.put("k", b"1")
    await rig.syncs.start()
    await rig.until(lambda: "k" in bodies(rig.node.b))
    assert "nothing is mounted at /gone" in (await rig.syncs.get("broken")).state.error
    with pytest.raises(NotFound):
        await rig.syncs.run("broken")


async def test_a_sync_runs_when_it_is_due_and_not_while_paused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncs_module, "_LOOK_EVERY_S", 0.01)
    await rig.syncs.add(msgspec.structs.replace(SPEC, schedule="1s"), actor="t")
    await rig.syncs.set_paused("s", True, actor="t")
    rig.node.a.put("k", b"1")
    await rig.syncs.start()
    listed = rig.node.listed["/a"]
    await asyncio.sleep(0.1)
    assert rig.node.listed["/a"] == listed
    await rig.syncs.set_paused("s", False, actor="t")
    await rig.until(lambda: "k" in bodies(rig.node.b))


async def first_run_over(rig: Rig) -> float:
    """A live sync has run once; when that began. From now on it would be 10 s before it lists its sides unasked."""
    await rig.syncs.add(msgspec.structs.replace(SPEC, schedule="live"), actor="t")
    await rig.syncs.start()
    await rig.until(lambda: (found := rig.ledger.syncs.get("s")) is not None and found.state.ended_s > 0)
    return (await rig.syncs.get("s")).state.started_s


@pytest.mark.parametrize(
    "say",
    [
        lambda node: node.changed((ChangedObject("other", "x/k"), ChangedObject("corp", "x/k"))),
        lambda node: node.changes_missed(),
        lambda node: wrote(node, "/a/k"),
        lambda node: wrote(node, "/b/k"),
        lambda node: wrote(node, "/a"),
    ],
    ids=["notified", "missed", "written to a", "written to b", "written to a mount"],
)
async def test_a_live_sync_runs_at_once_when_something_of_it_is_said_to_have_changed(
    rig: Rig, say: Callable[[SyncNode], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs_module, "_GATHER_S", 0.01)
    began_s = await first_run_over(rig)
    rig.node.a.put("k", b"1")
    await say(rig.node)
    await rig.until(lambda: "k" in bodies(rig.node.b))
    assert 0 < (await rig.syncs.get("s")).state.started_s - began_s < LIVE_EVERY_S
    assert bodies(rig.node.a) == bodies(rig.node.b) == {"k": b"1"}


async def test_what_does_not_concern_a_live_sync_does_not_run_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncs_module, "_GATHER_S", 0.0)
    monkeypatch.setattr(syncs_module, "_LOOK_EVERY_S", 0.01)
    await first_run_over(rig)
    await rig.syncs.add(msgspec.structs.replace(SPEC, name="timed", schedule="1h"), actor="t")
    await rig.until(lambda: (found := rig.ledger.syncs.get("timed")) is not None and found.state.ended_s > 0)
    listed, looks = rig.node.listed["/a"], 0
    all_syncs = rig.syncs.all

    async def counted() -> tuple[SyncRecord, ...]:
        nonlocal looks
        looks += 1
        return await all_syncs()

    monkeypatch.setattr(rig.syncs, "all", counted)
    await rig.node.changed((ChangedObject("other", "x/k"), ChangedObject("corp", "elsewhere/k")))
    await wrote(rig.node, "/fixed/k")
    await rig.until(lambda: looks >= 3)
    assert rig.node.listed["/a"] == listed


async def test_many_changes_are_one_run_and_those_during_a_run_are_the_next_ones(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs_module, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(syncs_module, "_GATHER_S", 0.05)
    await first_run_over(rig)
    listed = rig.node.listed["/a"]
    rig.node.a.put("k", b"1")
    rig.node.gate = asyncio.Event()
    for number in range(200):
        await wrote(rig.node, f"/a/{number}")
    await rig.until(lambda: rig.node.at_once > 0)
    assert rig.node.listed["/a"] == listed + 1
    rig.node.a.put("l", b"2")
    await wrote(rig.node, "/a/l")
    rig.node.gate.set()
    await rig.until(lambda: "l" in bodies(rig.node.b))
    assert rig.node.listed["/a"] == listed + 2
    assert bodies(rig.node.b) == {"k": b"1", "l": b"2"}


async def wrote(node: SyncNode, path: str) -> None:
    node.follower(Changes(paths=(path,)))


async def test_removing_a_sync_ends_its_run_and_forgets_what_was_agreed(rig: Rig) -> None:
    await rig.syncs.add(SPEC, actor="t")
    for number in range(30):
        rig.node.a.put(f"{number:02}", b"1")
    rig.node.gate, rig.node.hold_after = asyncio.Event(), 8
    job = await rig.syncs.run("s")
    await rig.until(lambda: sum(rig.node.steps.values()) >= 8)
    await rig.syncs.remove("s", actor="t")
    assert (await rig.jobs.get(job.id)).state is JobState.CANCELLED
    assert rig.ledger.syncs.pairs("s", after="", limit=10) == ()
    assert await rig.syncs.all() == ()
    with pytest.raises(NotFound):
        await rig.syncs.remove("s", actor="t")


async def test_a_run_left_by_a_crash_goes_on_at_the_start(rig: Rig) -> None:
    await rig.syncs.add(SPEC, actor="t")
    rig.node.a.put("k", b"1")
    left = rig.ledger.jobs.add("sync", "s")
    await rig.jobs.start()
    assert (await rig.over(left)).state is JobState.DONE
    assert bodies(rig.node.b) == {"k": b"1"}


async def test_the_job_of_a_sync_that_is_gone_fails_in_words(rig: Rig) -> None:
    left = rig.ledger.jobs.add("sync", "gone")
    await rig.jobs.start()
    record = await rig.over(left)
    assert record.state is JobState.FAILED
    assert "there is no sync 'gone' any more" in record.error
