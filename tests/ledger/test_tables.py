from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headrace.ledger import jobs as jobs_module
from headrace.ledger.audit import AuditTable
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import JobProgress, JobState
from headrace.model.clock import SystemClock
from headrace.model.errors import CorruptData
from headrace.model.mounts import MountSpec, Residency


class TickingClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.time()

    def time(self) -> float:
        self.now += 1
        return self.now


def test_a_mount_comes_back_as_it_was_written(ledger: Ledger) -> None:
    spec = MountSpec("/a", union=(MountSpec("/a", "s3://x"), MountSpec("/a", "file:///y")), residency=Residency.MEMORY)
    assert ledger.state.put_mount(spec, expected=None)
    assert ledger.state.mounts() == (spec,)


def test_a_mount_is_changed_only_by_who_saw_its_present_form(ledger: Ledger) -> None:
    first = MountSpec("/a", "s3://x")
    second = msgspec.structs.replace(first, freshness="5s")
    assert ledger.state.put_mount(first, expected=None)
    assert not ledger.state.put_mount(second, expected=None)
    assert ledger.state.put_mount(second, expected=first)
    assert not ledger.state.put_mount(first, expected=first)
    assert ledger.state.mounts() == (second,)


def test_every_change_of_the_state_and_nothing_else_raises_the_epoch(ledger: Ledger) -> None:
    spec = MountSpec("/a", "s3://x")
    epochs = [ledger.state.epoch()]
    for change in (
        lambda: ledger.state.put_mount(spec, expected=None),
        lambda: ledger.state.put_mount(spec, expected=None),
        lambda: ledger.state.set_pin("/a/hot", True),
        lambda: ledger.state.set_pin("/a/hot", True),
        lambda: ledger.keys.add("k", "s"),
        lambda: ledger.keys.remove("k"),
        lambda: ledger.state.delete_mount("/a"),
        lambda: ledger.state.delete_mount("/a"),
    ):
        change()
        epochs.append(ledger.state.epoch())
    assert epochs == [0, 1, 1, 1, 1, 2, 3, 4, 4]


def test_pins_are_kept(ledger: Ledger) -> None:
    ledger.state.set_pin("/b", True)
    ledger.state.set_pin("/a", True)
    ledger.state.set_pin("/b", False)
    assert ledger.state.pins() == ("/a",)


def test_secrets_lie_encrypted_in_every_file(ledger: Ledger, tmp_path: Path) -> None:
    secret = "canary-5f1b8c0a77e2"
    assert ledger.keys.add("analyst", secret)
    assert not ledger.keys.add("analyst", "another")
    assert [(key.id, key.secret) for key in ledger.keys.all()] == [("analyst", secret)]
    assert secret not in repr(ledger.keys.all())
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes(), file


def test_secrets_of_another_key_file_are_refused_not_misread(ledger: Ledger, tmp_path: Path) -> None:
    ledger.keys.add("analyst", "canary-5f1b8c0a77e2")
    (tmp_path / "secret.key").unlink()
    other = Ledger(tmp_path, SystemClock())
    with pytest.raises(CorruptData, match="put the key file back"):
        other.keys.all()
    other.close()


def test_a_job_keeps_its_progress(ledger: Ledger) -> None:
    record = ledger.jobs.add("load", "/sales")
    progress = JobProgress(cursor="/sales/k", objects_done=3, bytes_done=99, objects_known=5)
    ledger.jobs.update(record.id, JobState.RUNNING, progress)
    found = ledger.jobs.get(record.id)
    assert found is not None
    assert (found.state, found.progress, found.target) == (JobState.RUNNING, progress, "/sales")
    assert [job.id for job in ledger.jobs.unfinished()] == [record.id]
    ledger.jobs.update(record.id, JobState.DONE, progress)
    assert ledger.jobs.unfinished() == ()
    assert ledger.jobs.get("unknown") is None


def test_old_jobs_are_forgotten_and_unfinished_ones_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "KEPT_JOBS", 3)
    ledger = Ledger(tmp_path, TickingClock())
    first = ledger.jobs.add("load", "/first")
    for number in range(8):
        job = ledger.jobs.add("load", f"/{number}")
        ledger.jobs.update(job.id, JobState.DONE, JobProgress())
    last = ledger.jobs.add("load", "/last")
    assert [job.target for job in ledger.jobs.recent()] == ["/last", "/7", "/6", "/5", "/first"]
    assert [job.id for job in ledger.jobs.unfinished()] == [first.id, last.id]
    ledger.close()


def test_the_audit_is_bounded(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, TickingClock())
    audit = AuditTable(ledger._database, TickingClock(), kept=10)
    for number in range(260):
        audit.add("mount.add", actor="admin", target=f"/{number}")
    found = audit.recent(1000)
    assert found[0].target == "/259"
    assert len(found) <= 14
    ledger.close()


def test_sql_in_a_name_is_only_a_name(ledger: Ledger) -> None:
    name = "/a'); DROP TABLE mounts; --"
    ledger.state.put_mount(MountSpec(name, "s3://x"), expected=None)
    ledger.state.set_pin(name, True)
    assert ledger.state.pins() == (name,)
    assert ledger.state.mounts()[0].path == name
    assert ledger.jobs.get(name) is None
