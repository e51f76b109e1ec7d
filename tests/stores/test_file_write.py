"""What a directory looks like after writes, what others' changes do to it, and what failing disks leave."""

import asyncio
import errno
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from headrace.model.errors import AccessDenied, ConditionFailed, InvalidKey, NoSpace, NotFound, Unavailable
from headrace.model.objects import CommonPrefix
from headrace.model.writing import Attributes, BytesBody, Condition
from headrace.stores import beneath
from headrace.stores.contract import read_all
from headrace.stores.contract_tools import PiecesBody
from headrace.stores.file import FileStore

LARGE = Attributes(metadata=tuple((f"name{number}", "x" * 900) for number in range(6)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_bytes(b"outside")
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def files(root: Path, but: str = "locks") -> list[str]:
    """All files below, but the locks."""
    found = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() or path.is_symlink()]
    return sorted(name for name in found if f".headrace/{but}/" not in name)


async def test_an_object_is_a_plain_file_at_its_path(root: Path) -> None:
    store = FileStore(str(root))
    await store.write("a/b.csv", BytesBody(b"1,2"), Attributes(metadata=(("k", "v"),)))
    await store.write("c", PiecesBody([b"x" * 3_000_000]))
    assert files(root) == ["a/b.csv", "c"]
    assert (root / "a/b.csv").read_bytes() == b"1,2"
    assert (root / "a/b.csv").stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert (await store.info("a/b.csv")).content_type == "text/csv"
    await store.close()


async def test_the_store_s_own_folder_holds_no_keys(root: Path) -> None:
    store = FileStore(str(root))
    await store.write("dir/", BytesBody(b"odd"))
    await store.write("z", BytesBody(b"x"))
    (own,) = [name for name in files(root) if name.startswith(".headrace/")]
    for key in (own, ".headrace", ".headrace/new"):
        for call in (store.info(key), store.read(key), store.write(key, BytesBody(b"x")), store.delete(key), store.tags(key)):
            with pytest.raises(InvalidKey):
                await call
        with pytest.raises(InvalidKey):
            await store.multipart().begin(key)
    assert [entry.key for entry in (await store.list()).entries] == ["dir/", "z"]
    for prefix in (".headrace/", ".headrace/objects/", ".headrace"):
        assert (await store.list(prefix)).entries == ()
    assert (await store.list(delimiter="/")).entries[0] == CommonPrefix("dir/")
    assert (await store.list(delimiter="r")).entries[0] == CommonPrefix("dir")
    await store.close()


@pytest.mark.parametrize("how", ["rewritten in place", "replaced", "touched"])
async def test_what_another_program_changed_speaks_for_itself(root: Path, how: str) -> None:
    store = FileStore(str(root))
    before = await store.write("a.csv", BytesBody(b"old"), Attributes("text/x-odd", metadata=(("k", "v"),), tags=(("t", "1"),)))
    path = root / "a.csv"
    if how == "rewritten in place":
        with path.open("r+b") as file:
            file.write(b"new")
    elif how == "replaced":
        (root / "other").write_bytes(b"new")
        (root / "other").rename(path)
    else:
        os.utime(path, ns=(1, 1))
    after = await store.info("a.csv")
    assert after.version != before.version
    assert after.etag != before.etag
    assert (after.content_type, after.metadata) == ("text/csv", ())
    assert await store.tags("a.csv") == ()
    with pytest.raises(ConditionFailed):
        await store.write("a.csv", BytesBody(b"x"), condition=Condition(if_match=before.etag))
    (listed,) = (await store.list()).entries
    assert (listed.etag, listed.version) == (after.etag, after.version)
    await store.close()


async def test_a_move_by_another_program_keeps_the_attributes(root: Path) -> None:
    store = FileStore(str(root))
    before = await store.write("a", BytesBody(b"x"), Attributes("text/x-odd"))
    (root / "a").rename(root / "b")
    after = await store.info("b")
    assert (after.etag, after.content_type) == (before.etag, "text/x-odd")
    await store.close()


async def test_a_file_of_another_program_can_be_tagged_and_copied(root: Path) -> None:
    (root / "a.csv").write_bytes(b"1,2")
    store = FileStore(str(root))
    before = await store.info("a.csv")
    await store.set_tags("a.csv", (("t", "1"),))
    assert await store.info("a.csv") == msgspec.structs.replace(before, tag_count=1)
    assert await store.tags("a.csv") == (("t", "1"),)
    copied = await store.copy(before, "b")
    assert copied.etag == hashlib.md5(b"1,2").hexdigest()
    assert copied.content_type == "text/csv"
    assert await store.tags("b") == (("t", "1"),)
    await store.close()


async def test_attributes_that_do_not_fit_lie_beside_the_file(root: Path) -> None:
    store = FileStore(str(root))
    await store.write("a", BytesBody(b"x"), LARGE)
    if not list((root / ".headrace").glob("attributes/*/*")):
        pytest.skip("this file system has room for large extended attributes")
    assert (await store.info("a")).metadata == LARGE.metadata
    (listed,) = (await store.list()).entries
    assert listed.etag == (await store.info("a")).etag == hashlib.md5(b"x").hexdigest()
    with pytest.raises(ConditionFailed):
        await store.write("a", BytesBody(b"y"), LARGE, condition=Condition(if_none_match="*"))
    assert len(list((root / ".headrace").glob("attributes/*/*"))) == 1
    await store.write("a", BytesBody(b"y"))
    assert files(root) == ["a"]
    large_tags = tuple((f"t{number}", "v" * 900) for number in range(6))
    for tags in (large_tags, (("t", "1"),), large_tags):
        await store.set_tags("a", tags)
        assert await store.tags("a") == tags
        assert len(list((root / ".headrace").glob("attributes/*/*"))) == (len(tags) > 1)
    await store.delete("a")
    assert files(root) == []
    await store.close()


async def test_checksums_of_many_parts_are_kept_whether_they_fit_into_an_attribute_or_not(root: Path) -> None:
    store = FileStore(str(root), min_part_bytes=0)
    uploads = store.multipart()
    for count in (2, 100, 300):
        upload = await uploads.begin("a", checksum="sha256", checksum_type="COMPOSITE")
        parts = [await uploads.put(upload, number, BytesBody(b"%d" % number)) for number in range(1, count + 1)]
        info = await uploads.complete(upload, tuple(parts))
        assert [part.checksums for part in await uploads.parts_of(info)] == [part.checksums for part in parts]
        await store.set_tags("a", (("t", "1"),))
        (last,) = await uploads.parts_of(info, after=count - 1)
        assert (last.number, last.size, last.checksums) == (count, len(str(count)), parts[-1].checksums)
        copied = await store.copy(info, "a copy, which is no longer made of parts")
        assert (copied.parts, await uploads.parts_of(copied)) == (0, ())
    await store.close()


async def test_a_delete_removes_the_directories_that_it_empties(root: Path) -> None:
    store = FileStore(str(root))
    for key in ("a/b/c/d", "a/b/x", "e/f", "g//h"):
        await store.write(key, BytesBody(b"x"))
    await store.delete("a/b/c/d")
    assert not (root / "a/b/c").exists()
    assert (root / "a/b/x").exists()
    for key in ("a/b/x", "e/f", "g//h"):
        await store.delete(key)
    assert sorted(path.name for path in root.iterdir()) == [".headrace"]
    assert not list((root / ".headrace").glob("objects/*"))
    await store.close()


async def test_a_link_is_replaced_never_written_through(root: Path) -> None:
    (root / "file").write_bytes(b"target")
    (root / "link").symlink_to("file")
    (root / "dangling").symlink_to("absent")
    store = FileStore(str(root))
    for key in ("link", "dangling"):
        await store.write(key, BytesBody(b"new"))
        assert await read_all(store, key) == b"new"
    assert await read_all(store, "file") == b"target"
    assert not (root / "absent").exists()
    await store.close()


async def test_a_key_that_is_a_linked_directory_hides_nothing(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d/below").write_bytes(b"below")
    (root / "folder").symlink_to("d")
    os.mkfifo(root / "fifo")
    store = FileStore(str(root))
    for key in ("folder", "fifo", "d"):
        await store.write(key, BytesBody(key.encode()))
        assert await read_all(store, key) == key.encode()
    assert await read_all(store, "folder/below") == b"below"
    assert [entry.key for entry in (await store.list()).entries] == ["d", "d/below", "fifo", "folder", "folder/below"]
    await store.write("folder/new", BytesBody(b"x"))
    assert (root / "d/new").read_bytes() == b"x"
    await store.close()


@pytest.mark.parametrize("target", ["../outside", "{tmp}/outside", "/tmp"])
async def test_nothing_is_written_or_removed_through_a_link_that_leads_outside(root: Path, target: str) -> None:
    (root / "link").symlink_to(target.format(tmp=root.parent))
    store = FileStore(str(root))
    for call in (
        store.write("link/new", BytesBody(b"x")),
        store.write("link/deep/new", BytesBody(b"x")),
        store.write("link/file", BytesBody(b"x")),
        store.delete("link/file"),
        store.set_tags("link/file", ()),
        store.write("link", BytesBody(b"x")),
    ):
        with pytest.raises(AccessDenied):
            await call
    assert files(root.parent / "outside") == ["file"]
    assert (root.parent / "outside/file").read_bytes() == b"outside"
    await store.close()


@pytest.mark.parametrize("opening", ["openat2", "stepwise"])
async def test_a_link_swapped_in_between_never_takes_a_write_outside(
    root: Path, opening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if opening == "stepwise":
        monkeypatch.setattr(beneath, "_openat2", beneath._open_stepwise)
    (root / "place").mkdir()
    (root / "link").symlink_to("../outside")
    stop = threading.Event()

    def swap() -> None:
        descriptor = os.open(root, os.O_PATH)
        while not stop.is_set():
            beneath._LIBC.renameat2(descriptor, b"place", descriptor, b"link", 2)
        os.close(descriptor)

    thread = threading.Thread(target=swap)
    thread.start()
    store = FileStore(str(root))
    outcomes = []
    try:
        for turn in range(150):
            outcomes += await asyncio.gather(
                store.write(f"place/{turn}", BytesBody(b"x")),
                store.write(f"place/new/{turn}", BytesBody(b"x")),
                store.delete("place/file"),
                store.delete(f"place/{turn - 1}"),
                return_exceptions=True,
            )
    finally:
        stop.set()
        thread.join()
        await store.close()
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(error, (AccessDenied, NotFound, Unavailable)) for error in refused), refused
    assert len(refused) < len(outcomes)
    # Stepwise, a link is no directory, so such a key is kept aside.
    assert refused or opening == "stepwise"
    assert files(root.parent / "outside") == ["file"]
    assert sorted(path.name for path in (root.parent / "outside").iterdir()) == ["file"]


@pytest.mark.parametrize(
    ("call", "number", "kind"),
    [
        ("fsync", errno.EIO, Unavailable),
        ("fsync", errno.ENOSPC, NoSpace),
        ("write", errno.ENOSPC, NoSpace),
        ("write", errno.EDQUOT, NoSpace),
        ("write", errno.EIO, Unavailable),
        ("rename", errno.EROFS, AccessDenied),
        ("rename", errno.EACCES, AccessDenied),
        ("mkdir", errno.EROFS, AccessDenied),
        ("mkdir", errno.ENOSPC, NoSpace),
    ],
)
@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_a_failing_disk_fails_the_write_and_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, kind: type[Exception], size: int
) -> None:
    store = FileStore(str(root))
    await store.write("d/a", BytesBody(b"old"))

    def failing(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(kind):
            await store.write("new/a" if call == "mkdir" else "d/a", BytesBody(b"n" * size))
    assert await read_all(store, "d/a") == b"old"
    assert files(root) == ["d/a"]
    await store.write("d/a", BytesBody(b"new"))
    assert await read_all(store, "d/a") == b"new"
    await store.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
async def test_a_full_file_system_keeps_the_old_object(root: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(root)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        store = FileStore(str(root))
        await store.write("a", BytesBody(b"old"))
        with pytest.raises(NoSpace):
            await store.write("a", PiecesBody([b"x" * 100_000] * 40))
        assert await read_all(store, "a") == b"old"
        assert files(root) == ["a"]
        await store.write("a", PiecesBody([b"x" * 100_000] * 10))
        await store.close()
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


COUNTING = """
import asyncio, sys
from headrace.model.errors import ConditionFailed
from headrace.model.writing import BytesBody, Condition
from headrace.stores.contract_hooks import body_of
from headrace.stores.file import FileStore

async def main():
    store = FileStore(sys.argv[1])
    for _ in range(int(sys.argv[2])):
        while True:
            reading = await store.read("count")
            number = int(await body_of(reading)) + 1
            try:
                await store.write("count", BytesBody(b"%d" % number), condition=Condition(if_match=reading.info.etag))
                break
            except ConditionFailed:
                pass
    await store.close()

asyncio.run(main())
"""


async def test_processes_that_count_with_conditional_writes_lose_no_step(root: Path) -> None:
    store = FileStore(str(root))
    await store.write("count", BytesBody(b"0"))
    workers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", COUNTING, str(root), "40", stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for worker in workers:
        _, complaint = await asyncio.wait_for(worker.communicate(), 60)
        assert worker.returncode == 0, complaint
    assert await read_all(store, "count") == b"120"
    await store.close()


async def test_descriptors_are_freed(root: Path) -> None:
    store = FileStore(str(root))
    info = await store.write("a", BytesBody(b"x"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for turn in range(30):
        await store.write("d/a", PiecesBody([b"x" * 1_500_000]))
        with pytest.raises(ConditionFailed):
            await store.write("a", BytesBody(b"y"), condition=Condition(if_none_match="*"))
        await store.copy(info, "b")
        await store.delete("d/a")
        upload = await store.multipart().begin("m")
        part = await store.multipart().put(upload, 1, BytesBody(b"x"))
        if turn % 2:
            await store.multipart().complete(upload, (part,))
        else:
            await store.multipart().abort(upload)
        task = asyncio.create_task(store.write("given up", PiecesBody([b"x" * 700_000] * 5)))
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.close()
    store._root.pool.shutdown(wait=True)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert not list((root / ".headrace/tmp").iterdir())


async def test_a_root_that_goes_away_takes_no_writes(root: Path) -> None:
    store = FileStore(str(root))
    await store.write("a", BytesBody(b"x"))
    root.rename(root.parent / "elsewhere")
    for call in (store.write("a", BytesBody(b"y")), store.delete("a"), store.multipart().begin("a")):
        with pytest.raises(Unavailable):
            await call
    await store.close()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
