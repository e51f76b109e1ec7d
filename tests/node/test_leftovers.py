"""What is left of mounts that are gone is told, and goes only when it is let go."""

from pathlib import Path

import pytest

from headrace.model.disk import SystemDisk
from headrace.model.errors import NotFound
from headrace.model.mounts import MountSpec, WriteMode
from headrace.model.writing import BytesBody
from headrace.node.leftovers import drop, find_leftovers
from headrace.scratch.settings import ScratchSettings
from headrace.scratch.store import ScratchFolder, ScratchStore
from headrace.staging.journal import Journal
from headrace.staging.records import Done, Put, encode
from headrace.staging.settings import StagingSettings
from headrace.stores.memory import MemoryStore
from headrace.wiring import Journals, Scratch

BACK = MountSpec("/sales", store="s3://corp/2026", write=WriteMode.BACK)
SCRATCH = MountSpec("/tmp", store="s3://corp/tmp", write=WriteMode.SCRATCH)


@pytest.fixture
def journals(tmp_path: Path) -> Journals:
    return Journals(tmp_path / "journal", StagingSettings())


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "scratch", ScratchSettings())


def written(journals: Journals, spec: MountSpec) -> None:
    journal = Journal(journals.of(spec.path), SystemDisk())
    journal.belongs_to(f"{spec.endpoint}\n{spec.store}/")
    journal.of_mount(spec.path)
    journal.append([encode(Put("k", 5, "etag", 1.0), b"waits")])
    journal.close()


def test_a_journal_whose_mount_is_gone_is_told_until_it_is_back_or_let_go(journals: Journals, scratch: Scratch) -> None:
    assert find_leftovers(journals, scratch, ()) == ()
    written(journals, BACK)
    assert find_leftovers(journals, scratch, (BACK,)) == ()
    (left,) = find_leftovers(journals, scratch, (SCRATCH,))
    assert (left.kind, left.mount, left.store, left.writes, left.bytes) == ("journal", "/sales", "s3://corp/2026", 1, 5)
    for word in ("/sales", "s3://corp/2026", "1 writes", f"--drop {left.name}"):
        assert word in left.words()
    with pytest.raises(NotFound):
        drop(journals, scratch, (BACK,), left.name)
    assert drop(journals, scratch, (), left.name) == left
    assert find_leftovers(journals, scratch, ()) == ()


def test_a_journal_whose_writes_have_all_arrived_is_nothing_that_is_left(journals: Journals, scratch: Scratch) -> None:
    written(journals, BACK)
    journal = Journal(journals.of("/sales"), SystemDisk())
    journal.append([encode(Done(1, 0, "k", "etag"))])
    journal.close()
    assert find_leftovers(journals, scratch, ()) == ()


async def test_scratch_whose_mount_is_gone_or_over_another_store_is_told(journals: Journals, scratch: Scratch) -> None:
    place = f"{SCRATCH.endpoint}\n{SCRATCH.store}/"
    folder = ScratchFolder(str(scratch.of("/tmp", place)), 1 << 20, "/tmp\ns3://corp/tmp")
    store = ScratchStore(MemoryStore(), folder, mount="/tmp", emit=lambda _: None)
    await store.write("k", BytesBody(bytes(1000)))
    await store.close()
    assert find_leftovers(journals, scratch, (SCRATCH,)) == ()
    elsewhere = MountSpec("/tmp", store="s3://other", write=WriteMode.SCRATCH)
    for specs in ((), (elsewhere,), (BACK,)):
        (left,) = find_leftovers(journals, scratch, specs)
        assert (left.kind, left.mount, left.store, left.bytes) == ("scratch", "/tmp", "s3://corp/tmp", 1000 + 4096)
    drop(journals, scratch, (), left.name)
    assert find_leftovers(journals, scratch, ()) == ()


def test_a_journal_that_cannot_be_read_is_told(journals: Journals, scratch: Scratch) -> None:
    folder = Path(journals.of("/sales"))
    folder.mkdir(parents=True)
    (folder / "lock").mkdir()
    (left,) = find_leftovers(journals, scratch, ())
    assert "cannot be read" in left.words()
