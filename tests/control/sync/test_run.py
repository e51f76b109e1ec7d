"""Runs over real steps and stores in memory: what ends where, what is counted, and what a crash leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from headrace.control.sync.steps import Step, Verb
from headrace.ledger.ledger import Ledger
from headrace.ledger.sync_records import ConflictRule, Mode, SyncCounts, SyncSpec
from headrace.model.errors import AccessDenied, SettingsError, Unavailable
from support.syncing import Bench, SyncNode, bodies

SPEC = SyncSpec("s", "/a", "/b", Mode.TWO_WAY, transfers=8)
FILES = {f"dir/{number:03}": b"x" * number for number in range(60)}


@pytest.fixture
def node(tmp_path: Path) -> SyncNode:
    made = SyncNode(notes=tmp_path / "notes")
    for key, body in FILES.items():
        made.a.put(key, body, content_type="text/x", metadata=(("owner", "me"),), tags=(("t", "1"),))
    return made


@pytest.fixture
def bench(ledger: Ledger, node: SyncNode, tmp_path: Path) -> Bench:
    return Bench(ledger, node, SPEC, tmp_path)


def with_rules(bench: Bench, **changed: object) -> Bench:
    spec = msgspec.structs.replace(SPEC, name="other", **changed)
    return Bench(bench.ledger, bench.node, spec, bench.home)


async def test_everything_is_copied_once_with_what_is_kept_with_it(bench: Bench, node: SyncNode) -> None:
    node.page_limit = 7
    run = await bench.run()
    assert bodies(node.b) == FILES
    info = await node.b.info("dir/001")
    assert (info.content_type, info.metadata) == ("text/x", (("owner", "me"),))
    assert await node.b.tags("dir/001") == (("t", "1"),)
    assert (run.progress().objects_done, run.progress().bytes_done) == (60, sum(range(60)))
    counts = bench.record.state.initial
    assert (counts.to_b, counts.bytes, counts.verified) == (60, sum(range(60)), 60)
    node.steps.clear()
    again = await bench.run()
    assert not node.steps
    assert again.progress().objects_done == 0
    assert bench.record.state.live == SyncCounts()


async def test_no_more_steps_than_allowed_are_under_way(bench: Bench, node: SyncNode) -> None:
    await bench.run()
    assert 1 < node.most_at_once <= SPEC.transfers


async def test_changes_after_the_first_run_are_counted_as_live(bench: Bench, node: SyncNode) -> None:
    await bench.run()
    node.a.put("new", b"1")
    node.b.put("dir/007", b"changed there")
    await node.a.delete("dir/008")
    await bench.run()
    state = bench.record.state
    assert state.initial.to_b == 60
    assert (state.live.to_b, state.live.to_a, state.live.deleted_b) == (1, 1, 1)
    assert bodies(node.a) == bodies(node.b)
    assert bodies(node.a)["dir/007"] == b"changed there"


async def test_an_object_that_changes_under_the_run_is_never_overwritten(bench: Bench, node: SyncNode) -> None:
    await bench.run()
    node.a.put("dir/007", b"ours")

    def intrude(step: Step) -> None:
        if step.key == "dir/007" and node.steps["copy", "dir/007"] == 2:
            node.b.put("dir/007", b"theirs, later", modified_s=4e9)

    node.before = intrude
    await bench.run()
    # The first pass was refused by the destination; the next one saw a conflict, and the newest stays.
    assert bodies(node.a)["dir/007"] == bodies(node.b)["dir/007"] == b"theirs, later"
    assert bench.record.state.live.conflicts == 1


async def test_a_source_that_changes_while_it_is_read_is_taken_in_the_next_pass(bench: Bench, node: SyncNode) -> None:
    def intrude(step: Step) -> None:
        if step.key == "dir/007" and node.steps["copy", "dir/007"] == 1:
            node.a.put("dir/007", b"newer")

    node.before = intrude
    run = await bench.run()
    assert bodies(node.b)["dir/007"] == b"newer"
    assert run.progress().objects_done == run.progress().objects_known == 60


async def test_keep_both_leaves_both_versions_on_both_sides(bench: Bench, node: SyncNode) -> None:
    bench = with_rules(bench, conflict=ConflictRule.KEEP_BOTH)
    await bench.run()
    node.a.put("dir/007", b"ours", modified_s=10.0)
    node.b.put("dir/007", b"theirs", modified_s=20.0)
    await bench.run()
    assert bodies(node.a) == bodies(node.b)
    kept = {key: body for key, body in bodies(node.a).items() if key.startswith("dir/007")}
    assert kept.pop("dir/007") == b"theirs"
    assert list(kept.values()) == [b"ours"]
    node.steps.clear()
    await bench.run()
    assert not node.steps


async def test_equal_bytes_on_both_sides_are_no_conflict(bench: Bench, node: SyncNode) -> None:
    for key, body in FILES.items():
        node.b.put(key, body)
    await bench.run()
    assert not node.steps
    assert bench.record.state.initial.agreed == 60


async def test_an_empty_side_never_empties_the_other_forced_or_not(bench: Bench, node: SyncNode) -> None:
    await bench.run()
    for key in FILES:
        await node.a.delete(key)
    bench.ledger.syncs.put_state("s", msgspec.structs.replace(bench.record.state, force=True))
    with pytest.raises(SettingsError, match="/a is empty"):
        await bench.run()
    assert bodies(node.b) == FILES
    assert "/a is empty" in bench.record.state.error


async def test_more_removals_than_allowed_are_refused_until_forced(bench: Bench, node: SyncNode) -> None:
    await bench.run()
    for number in range(31):
        await node.a.delete(f"dir/{number:03}")
    node.a.put("new", b"1")
    with pytest.raises(SettingsError, match="31 of 60 objects of /b would be removed, more than 50 %"):
        await bench.run()
    assert bodies(node.b) == FILES | {"new": b"1"}
    bench.ledger.syncs.put_state("s", msgspec.structs.replace(bench.record.state, force=True))
    await bench.run()
    assert bodies(node.b) == bodies(node.a)
    assert not bench.record.state.force


async def test_a_side_that_cannot_be_listed_changes_nothing(bench: Bench, node: SyncNode) -> None:
    await bench.run()
    node.side_failures["/a"] = Unavailable("away")
    with pytest.raises(Unavailable):
        await bench.run()
    node.side_failures["/a"] = AccessDenied("no")
    with pytest.raises(AccessDenied):
        await bench.run()
    assert bodies(node.b) == FILES


async def test_a_run_that_is_broken_off_goes_on_without_doing_again_what_is_done(bench: Bench, node: SyncNode) -> None:
    node.gate, node.hold_after = asyncio.Event(), 30
    job = bench.ledger.jobs.add("sync", "s")
    running = asyncio.create_task(bench.run(job))
    async with asyncio.timeout(10):
        while len(bench.ledger.syncs.pairs("s", after="", limit=100)) < 28:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    left = bench.ledger.jobs.get(job.id)
    assert left is not None
    assert left.progress.objects_done == len(bench.ledger.syncs.pairs("s", after="", limit=100))
    node.gate.set()
    run = await bench.run(left)
    assert bodies(node.b) == FILES
    assert max(node.steps.values()) == 1
    assert run.progress().objects_done == run.progress().objects_known == 60
    assert bench.record.state.initial.to_b == 60


async def test_a_copy_that_was_not_written_down_is_found_and_not_made_again(bench: Bench, node: SyncNode) -> None:
    # As a crash leaves it: the destination has the object, the ledger does not know.
    node.b.put("dir/007", FILES["dir/007"])
    await bench.run()
    assert node.steps["copy", "dir/007"] == 0
    assert (bench.record.state.initial.to_b, bench.record.state.initial.agreed) == (59, 1)


async def test_objects_that_cannot_be_synced_are_told_and_keep_none_of_the_others(bench: Bench, node: SyncNode) -> None:
    class Refusing(type(node.b)):  # type: ignore[misc]
        async def write(self, key, *arguments, **options):
            if key == "dir/007":
                raise AccessDenied("not that one")
            return await super().write(key, *arguments, **options)

    refusing = SyncNode(node.a, Refusing())
    run = await Bench(bench.ledger, refusing, msgspec.structs.replace(SPEC, name="r"), bench.home).run()
    assert run.verdict() == "1 objects could not be synced; the first: dir/007: not that one"
    assert len(bodies(refusing.b)) == 59
    record = bench.ledger.syncs.get("r")
    assert record is not None
    assert not record.state.initial_done


async def test_a_mirror_compares_by_reading_where_etags_cannot_be_compared(bench: Bench, node: SyncNode) -> None:
    node.b.publish("dir/007", FILES["dir/007"], (await attributes(node)), etag="0" * 32 + "-1")
    node.b.publish("dir/008", b"other bb", (await attributes(node)), etag="0" * 32 + "-1")
    checked = with_rules(bench, mode=Mode.MIRROR, checksum=True)
    await checked.run()
    assert node.steps["compare", "dir/007"] == node.steps["compare", "dir/008"] == 1
    assert (node.steps["copy", "dir/007"], node.steps["copy", "dir/008"]) == (0, 1)
    assert bodies(node.b) == FILES


async def attributes(node: SyncNode):
    from headrace.model.writing import PLAIN

    return PLAIN


async def test_a_side_that_is_away_for_a_moment_is_asked_again(bench: Bench, node: SyncNode) -> None:
    away = {"dir/007", "dir/030"}

    def fail_once(step: Step) -> None:
        if step.key in away:
            away.discard(step.key)
            raise Unavailable("a moment")

    node.before = fail_once
    run = await bench.run()
    assert run.verdict() == ""
    assert bodies(node.b) == FILES


async def test_removals_come_after_all_copies(bench: Bench, node: SyncNode) -> None:
    await bench.run()
    order: list[str] = []
    node.before = lambda step: order.append(step.verb)
    await node.a.delete("dir/000")
    node.a.put("zzz", b"1")
    await bench.run()
    assert order == [Verb.COPY, Verb.DELETE]
