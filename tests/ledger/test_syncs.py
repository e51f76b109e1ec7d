from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ledger import syncs as syncs_module
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import JobProgress, JobState
from headrace.ledger.sync_records import SyncCounts, SyncPair, SyncSpec, SyncState
from headrace.model.clock import SystemClock

SPEC = SyncSpec("s", "/a", "/b")


def pairs(ledger: Ledger, limit: int = 1000) -> tuple[SyncPair, ...]:
    return ledger.syncs.pairs("s", after="", limit=limit)


def test_a_sync_comes_back_as_it_was_written(ledger: Ledger) -> None:
    made = ledger.syncs.add(SPEC)
    assert made is not None
    assert ledger.syncs.add(SPEC) is None
    assert ledger.syncs.get("s") == made
    assert ledger.syncs.all() == (made,)
    assert ledger.syncs.set_paused("s", True)
    assert not ledger.syncs.set_paused("s", True)
    ledger.syncs.put_state("s", SyncState(error="x"))
    assert ledger.syncs.get("s") == msgspec.structs.replace(made, paused=True, state=SyncState(error="x"))


def test_pairs_counts_and_progress_are_written_in_one(ledger: Ledger) -> None:
    ledger.syncs.add(SPEC)
    job = ledger.jobs.add("sync", "s")
    state = SyncState().counted(SyncCounts(to_b=2))
    ledger.syncs.commit("s", state, [SyncPair("k", "1", "2"), SyncPair("l", "3", "4")], [], (job.id, JobProgress(objects_done=2)))
    ledger.syncs.commit("s", state, [SyncPair("k", "5", "6")], ["l"], (job.id, JobProgress(objects_done=3)))
    assert pairs(ledger) == (SyncPair("k", "5", "6"),)
    found, record = ledger.jobs.get(job.id), ledger.syncs.get("s")
    assert found is not None
    assert record is not None
    assert (found.state, found.progress.objects_done, record.state.initial.to_b) == (JobState.RUNNING, 3, 2)


@settings(max_examples=25)
@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), max_size=20), st.integers(1, 7))
def test_pairs_are_paged_in_the_order_of_their_keys_bytes(
    tmp_path_factory: pytest.TempPathFactory, keys: set[str], page: int
) -> None:
    ledger = Ledger(Path(tmp_path_factory.mktemp("ledger")), SystemClock())
    ledger.syncs.add(SPEC)
    ledger.syncs.commit("s", SyncState(), [SyncPair(key, "a", "b") for key in keys], [], ("", JobProgress()))
    found: list[str] = []
    while some := ledger.syncs.pairs("s", after=found[-1] if found else "", limit=page):
        found += [pair.key for pair in some]
    assert found == sorted(keys, key=str.encode)
    ledger.close()


def test_removing_a_sync_takes_all_its_pairs_and_no_others(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncs_module, "_FORGET_AT_ONCE", 3)
    ledger.syncs.add(SPEC)
    ledger.syncs.add(msgspec.structs.replace(SPEC, name="t"))
    for name in ("s", "t"):
        ledger.syncs.commit(name, SyncState(), [SyncPair(str(n), "a", "b") for n in range(10)], [], ("", JobProgress()))
    assert ledger.syncs.remove("s")
    assert not ledger.syncs.remove("s")
    assert not pairs(ledger)
    assert len(ledger.syncs.pairs("t", after="", limit=100)) == 10


def test_counts_go_where_they_belong() -> None:
    state = SyncState().counted(SyncCounts(to_b=1, bytes=5))
    state = msgspec.structs.replace(state, initial_done=True).counted(SyncCounts(deleted_a=2)).counted(SyncCounts(to_a=1))
    assert state.initial == SyncCounts(to_b=1, bytes=5)
    assert state.live == SyncCounts(deleted_a=2, to_a=1)
    assert (state.initial.done, state.live.done) == (1, 3)


def test_a_job_that_is_over_is_taken_up_anew(ledger: Ledger) -> None:
    job = ledger.jobs.add("sync", "s")
    ledger.jobs.update(job.id, JobState.FAILED, JobProgress(objects_done=5), "x")
    again = ledger.jobs.again(job.id)
    assert again is not None
    assert (again.state, again.progress, again.error) == (JobState.QUEUED, JobProgress(), "")
    assert ledger.jobs.again("none") is None
