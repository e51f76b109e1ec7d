"""A mounted namespace, as programs of this machine see it."""

from __future__ import annotations

import errno
import mmap
import os
import random
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.fuse_mount import FuseMount, end_fuse, mounted, require_fuse, start_fuse
from support.node import running_node
from support.processes import wait_until
from support.servers import ACCESS_KEY, SECRET_KEY, S3Server

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("_may_mount")]

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture(scope="module")
def _may_mount() -> None:
    require_fuse()


def config_for(store: Path, *, freshness: str = "1s", write: str = "through", residency: str = "disk") -> str:
    return (
        f'[[mount]]\npath = "/data"\nstore = "file://{store}"\nwrite = "{write}"\nfreshness = "{freshness}"\n'
        f'residency = "{residency}"\n'
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, _may_mount: None) -> Iterator[tuple[FuseMount, Path]]:
    store = tmp_path_factory.mktemp("store")
    with mounted(tmp_path_factory.mktemp("fuse"), config_for(store)) as mount:
        yield mount, store


@pytest.fixture
def here(shared: tuple[FuseMount, Path], request: pytest.FixtureRequest) -> Path:
    """A directory of the mount for one test."""
    mount, _ = shared
    directory = mount.data / request.node.name.replace("[", "-").rstrip("]")
    directory.mkdir()
    return directory


@pytest.fixture
def behind(shared: tuple[FuseMount, Path], here: Path) -> Path:
    """The same directory in the store."""
    directory = shared[1] / here.name
    directory.mkdir(exist_ok=True)
    return directory


def test_mounts_show_as_directories(shared: tuple[FuseMount, Path]) -> None:
    mount, _ = shared
    assert os.listdir(mount.root) == ["data"]
    assert mount.data.is_dir()


def test_what_is_written_is_in_the_store_when_it_is_closed(here: Path, behind: Path) -> None:
    (here / "a.txt").write_bytes(b"hello")
    assert (behind / "a.txt").read_bytes() == b"hello"
    assert (here / "a.txt").read_bytes() == b"hello"


def test_fsync_stores_before_the_close(here: Path, behind: Path) -> None:
    with open(here / "log", "wb", buffering=0) as file:
        file.write(b"one")
        os.fsync(file.fileno())
        assert (behind / "log").read_bytes() == b"one"
        file.write(b" two")
    assert (behind / "log").read_bytes() == b"one two"


def test_an_open_file_shows_what_is_written_by_another_descriptor(here: Path) -> None:
    path = here / "both"
    with open(path, "wb", buffering=0) as writing, open(path, "rb", buffering=0) as reading:
        writing.write(b"x" * 10_000)
        assert reading.read() == b"x" * 10_000
        assert os.stat(path).st_size == 10_000


def test_random_writes_and_truncation_change_only_what_they_say(here: Path, behind: Path) -> None:
    path = here / "r"
    path.write_bytes(b"0123456789" * 1000)
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"HERE")
        file.truncate(9000)
    wanted = bytearray(b"0123456789" * 1000)[:9000]
    wanted[5000:5004] = b"HERE"
    assert (behind / "r").read_bytes() == bytes(wanted) == path.read_bytes()
    os.truncate(path, 3)
    assert (behind / "r").read_bytes() == b"012"


def test_appending_adds_at_the_end(here: Path, behind: Path) -> None:
    for word in (b"a", b"bc", b"def"):
        with open(here / "grows", "ab") as file:
            file.write(word)
    assert (behind / "grows").read_bytes() == b"abcdef"


def test_exclusive_creation_fails_where_something_is(here: Path) -> None:
    with open(here / "once", "xb"):
        pass
    with pytest.raises(FileExistsError):
        open(here / "once", "xb")
    with pytest.raises(FileExistsError):
        os.mkdir(here / "once")


def test_a_map_is_written_back(here: Path, behind: Path) -> None:
    path = here / "mapped"
    path.write_bytes(bytes(8192))
    wanted = bytes(4096) + b"mmap" + bytes(4092)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 8192) as view:
        view[4096:4100] = b"mmap"
        view.flush()
        assert path.read_bytes() == wanted  # by another descriptor, while it is mapped
        assert os.pread(file.fileno(), 8192, 0) == wanted
    assert (behind / "mapped").read_bytes() == wanted
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert view[:] == wanted


def test_a_map_that_outlives_its_descriptor_is_stored_when_it_goes(here: Path, behind: Path) -> None:
    path = here / "later"
    path.write_bytes(bytes(4096))
    fd = os.open(path, os.O_RDWR)
    view = mmap.mmap(fd, 4096)
    os.close(fd)
    view[:5] = b"after"
    view.close()
    wait_until(lambda: (behind / "later").read_bytes()[:5] == b"after", "the map's bytes to be stored")
    assert path.read_bytes() == b"after" + bytes(4091)


def test_a_large_file_is_read_cold_and_warm_with_its_own_bytes(here: Path, behind: Path) -> None:
    body = os.urandom(20 * MIB + 12345)
    (behind / "large").write_bytes(body)
    assert (here / "large").read_bytes() == body
    assert (here / "large").read_bytes() == body
    with open(here / "large", "rb", buffering=0) as file:
        assert os.pread(file.fileno(), 100_000, 7 * MIB + 1) == body[7 * MIB + 1 :][:100_000]
        assert os.pread(file.fileno(), 100_000, len(body) - 10) == body[-10:]
        assert os.pread(file.fileno(), 10, len(body)) == b""


def require_passthrough() -> None:
    kernel = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if os.geteuid() != 0 or kernel < (6, 9):
        pytest.skip("passthrough needs root and Linux 6.9")


def test_what_is_cached_whole_is_read_by_the_kernel_alone(shared: tuple[FuseMount, Path], here: Path) -> None:
    require_passthrough()
    body = os.urandom(3 * MIB)
    (here / "whole").write_bytes(body)
    wait_until(
        lambda: is_read_past(shared[0].process, here / "whole", body), "its pages to be proved, behind the write", deadline_s=5
    )


def is_read_past(process: subprocess.Popen[bytes], path: Path, body: bytes) -> bool:
    """Whether the kernel reads the file while the mount's process is stopped."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # what the mount's own cache has proves nothing
    waking = threading.Timer(0.5, process.send_signal, (signal.SIGCONT,))
    process.send_signal(signal.SIGSTOP)
    try:
        waking.start()
        assert os.pread(fd, len(body), 0) == body
        return waking.is_alive()
    finally:
        waking.cancel()
        process.send_signal(signal.SIGCONT)
        os.close(fd)


def test_pages_that_were_filled_one_by_one_are_read_by_the_kernel_alone_soon_after(tmp_path: Path) -> None:
    require_passthrough()
    store = tmp_path / "store"
    store.mkdir()
    body = os.urandom(300 * KIB + 77)
    for name in ("forward", "scattered"):
        (store / name).write_bytes(body)
    with mounted(tmp_path / "fuse", '[cache]\npage = "4KiB"\n' + config_for(store)) as mount:
        assert (mount.data / "forward").read_bytes() == body
        wait_until(lambda: is_read_past(mount.process, mount.data / "forward", body), "one file of its chunks", deadline_s=5)
        with open(mount.data / "scattered", "rb", buffering=0) as file:
            offsets = list(range(0, len(body), 4096))
            random.Random(1).shuffle(offsets)
            for offset in offsets:
                assert os.pread(file.fileno(), 4096, offset) == body[offset : offset + 4096]
        wait_until(lambda: is_read_past(mount.process, mount.data / "scattered", body), "one file of its pages", deadline_s=5)


def test_direct_reads_see_the_same(here: Path, behind: Path) -> None:
    body = os.urandom(MIB)
    (behind / "direct").write_bytes(body)
    fd = os.open(here / "direct", os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, MIB) as room:
            assert os.readv(fd, [room]) == MIB
            assert room[:] == body
    finally:
        os.close(fd)


def read_or_stale(path: Path) -> bytes | None:
    """The file's bytes; None where it was changed between its open and its read."""
    try:
        return path.read_bytes()
    except OSError as error:
        assert error.errno == errno.ESTALE
        return None


def test_a_change_at_the_store_is_seen_within_freshness_and_never_mixed(here: Path, behind: Path) -> None:
    (behind / "moves").write_bytes(b"A" * 100_000)
    with open(here / "moves", "rb", buffering=0) as old:
        assert old.read(1000) == b"A" * 1000
        fresh = behind / "fresh"
        fresh.write_bytes(b"B" * 150_000)
        fresh.replace(behind / "moves")
        wait_until(lambda: read_or_stale(here / "moves") == b"B" * 150_000, "the change to be seen", deadline_s=5)
        try:
            rest = old.read()
        except OSError as error:
            assert error.errno in (errno.ESTALE, errno.EIO)
        else:
            assert rest == b"A" * 99_000
    assert os.stat(here / "moves").st_size == 150_000


def test_what_was_removed_at_the_store_goes_within_freshness(here: Path, behind: Path) -> None:
    (behind / "gone").write_bytes(b"x")
    assert (here / "gone").exists()
    (behind / "gone").unlink()
    wait_until(lambda: not (here / "gone").exists(), "the removal to be seen", deadline_s=5)


def test_another_writer_is_never_overwritten(here: Path, behind: Path) -> None:
    (behind / "shared").write_bytes(b"base")
    with open(here / "shared", "r+b", buffering=0) as file:
        file.write(b"ours")
        theirs = behind / "aside"
        theirs.write_bytes(b"theirs!")
        theirs.replace(behind / "shared")
        with pytest.raises(OSError, match="Stale"):
            os.fsync(file.fileno())
    assert (behind / "shared").read_bytes() == b"theirs!"
    (kept,) = [entry for entry in behind.iterdir() if ".conflict-" in entry.name]
    assert kept.read_bytes() == b"ours"


def test_a_removed_file_stays_readable_for_who_has_it_open(here: Path, behind: Path) -> None:
    path = here / "silly"
    path.write_bytes(b"x" * 70_000)
    with open(path, "rb", buffering=0) as file:
        assert file.read(10) == b"x" * 10
        path.unlink()
        assert not (behind / "silly").exists()
        assert file.read() == b"x" * 69_990
    assert not path.exists()


def test_renames_replace_files_and_move_directories(here: Path, behind: Path) -> None:
    (here / "a").write_bytes(b"new")
    (here / "b").write_bytes(b"old")
    os.rename(here / "a", here / "b")
    assert [entry.name for entry in here.iterdir()] == ["b"]
    assert (behind / "b").read_bytes() == b"new"
    (here / "d/e").mkdir(parents=True)
    (here / "d/e/f").write_bytes(b"deep")
    os.rename(here / "d", here / "moved")
    assert (here / "moved/e/f").read_bytes() == b"deep"
    assert not (here / "d").exists()
    assert not (behind / "d/e/f").exists()
    with pytest.raises(OSError, match="not empty"):
        (here / "other").mkdir()
        os.rename(here / "other", here / "moved")


def test_a_file_that_is_open_for_writing_can_be_renamed(here: Path, behind: Path) -> None:
    with open(here / "tmp", "wb", buffering=0) as file:
        file.write(b"one")
        os.rename(here / "tmp", here / "final")
        file.write(b"two")
    assert (behind / "final").read_bytes() == b"onetwo"
    assert not (here / "tmp").exists()


def test_directories_are_made_and_only_empty_ones_removed(here: Path) -> None:
    (here / "d").mkdir()
    (here / "d/x").write_bytes(b"")
    with pytest.raises(OSError, match="not empty"):
        (here / "d").rmdir()
    (here / "d/x").unlink()
    assert (here / "d").is_dir()
    (here / "d").rmdir()
    assert not (here / "d").exists()
    with pytest.raises(FileNotFoundError):
        (here / "d").rmdir()


def test_a_directory_stays_when_its_last_file_goes(here: Path, behind: Path) -> None:
    (behind / "sub").mkdir()
    (behind / "sub/only").write_bytes(b"x")
    (here / "sub/only").unlink()
    assert (here / "sub").is_dir()
    assert "sub" in os.listdir(here)


def test_long_directories_are_listed_whole_and_once(here: Path, behind: Path) -> None:
    names = {f"file-{number:05}" for number in range(2500)}
    for name in names:
        (behind / name).touch()
    assert sorted(os.listdir(here)) == sorted(names)
    assert {entry.name for entry in os.scandir(here) if entry.stat().st_size == 0} == names


def test_modes_times_and_owners_are_kept(shared: tuple[FuseMount, Path], here: Path) -> None:
    path = here / "kept"
    path.write_bytes(b"x")
    os.chmod(path, 0o640)
    os.utime(path, ns=(1_600_000_000_987_654_321, 1_700_000_000_123_456_789))
    seen = os.stat(path)
    assert seen.st_atime_ns == 1_600_000_000_987_654_321
    assert stat.S_IMODE(seen.st_mode) == 0o640
    assert seen.st_mtime_ns == 1_700_000_000_123_456_789
    with mounted(shared[0].home / "second", config_for(shared[1])) as other:
        again = os.stat(other.data / here.name / "kept")
        assert (again.st_mode, again.st_mtime_ns, again.st_atime_ns) == (seen.st_mode, seen.st_mtime_ns, seen.st_atime_ns)


def test_a_directory_changes_when_a_name_comes_or_goes_and_a_file_when_its_modes_do(here: Path) -> None:
    def after(change: Callable[[], object], path: Path) -> bool:
        os.utime(here, ns=(1, 1))
        before = os.stat(path)
        change()
        now = os.stat(path)
        return now.st_ctime_ns > before.st_ctime_ns and (path != here or now.st_mtime_ns > before.st_mtime_ns)

    path = here / "x"
    assert after(lambda: path.write_bytes(b"x"), here)
    assert after(lambda: os.chmod(path, 0o600), path)
    assert after(lambda: os.setxattr(path, "user.a", b""), path)
    assert after(lambda: os.mkdir(here / "d"), here)
    assert after(lambda: os.symlink("x", here / "l"), here)
    assert after(lambda: os.rename(path, here / "d/x"), here)
    assert after(lambda: os.unlink(here / "l"), here)
    assert os.stat(here / "d/x").st_mtime_ns < os.stat(here / "d/x").st_ctime_ns


def test_symbolic_links_lead_where_they_say(here: Path) -> None:
    (here / "target").write_bytes(b"t")
    os.symlink("target", here / "link")
    assert os.readlink(here / "link") == "target"
    assert (here / "link").read_bytes() == b"t"
    assert os.path.islink(here / "link")


def test_hard_links_are_refused_by_name(here: Path) -> None:
    (here / "one").write_bytes(b"")
    with pytest.raises(OSError, match=r"not permitted|not implemented"):
        os.link(here / "one", here / "two")


def test_pipes_and_sockets_work_among_the_programs_of_one_mount(here: Path) -> None:
    os.mkfifo(here / "pipe", 0o640)
    assert stat.S_ISFIFO(os.stat(here / "pipe").st_mode)
    reader = os.open(here / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with open(here / "pipe", "wb", buffering=0) as writer:
        writer.write(b"through the kernel")
    assert os.read(reader, 100) == b"through the kernel"
    os.close(reader)
    directory = os.open(here, os.O_PATH)  # a socket's own path may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as calling:
        listening.bind(f"/proc/self/fd/{directory}/s")
        listening.listen()
        calling.connect(f"/proc/self/fd/{directory}/s")
    os.close(directory)
    assert {entry.name for entry in here.iterdir()} == {"pipe", "s"}


def test_a_device_file_keeps_what_it_says_and_opens_nothing(shared: tuple[FuseMount, Path], here: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("device files need root")
    os.mknod(here / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with pytest.raises(PermissionError):
        open(here / "null", "rb")
    with mounted(shared[0].home / "third", config_for(shared[1])) as other:
        seen = os.stat(other.data / here.name / "null")
        assert (stat.S_IFMT(seen.st_mode), seen.st_rdev) == (stat.S_IFCHR, os.makedev(1, 3))


def test_what_the_store_says_of_an_object_is_an_extended_attribute(here: Path) -> None:
    (here / "x").write_bytes(b"x")
    names = os.listxattr(here / "x")
    assert "user.headrace.etag" in names
    assert os.getxattr(here / "x", "user.headrace.version")
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.getxattr(here / "x", "user.other")
    with pytest.raises(PermissionError):
        os.setxattr(here / "x", "user.headrace.etag", b"1")


def own_xattrs(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith("user.headrace.")}


def test_extended_attributes_of_programs_are_kept_with_the_object(shared: tuple[FuseMount, Path], here: Path) -> None:
    path = here / "x"
    with open(path, "wb", buffering=0) as file:
        os.setxattr(path, "user.early", b"set before it was stored")
        file.write(b"x")
    os.setxattr(path, "user.späť", bytes(range(256)), os.XATTR_CREATE)
    os.setxattr(path, "user.early", b"anew", os.XATTR_REPLACE)
    os.chmod(path, 0o604)
    with open(path, "ab") as file:
        file.write(b"y")
    kept = {"user.early": b"anew", "user.späť": bytes(range(256))}
    assert own_xattrs(path) == kept
    with mounted(shared[0].home / "fourth", config_for(shared[1])) as other:
        assert own_xattrs(other.data / here.name / "x") == kept
    os.removexattr(path, "user.early")
    assert own_xattrs(path) == {"user.späť": bytes(range(256))}
    assert path.read_bytes() == b"xy"


@pytest.mark.parametrize(
    ("name", "value", "flags", "code"),
    [
        ("user.a", b"", os.XATTR_CREATE, errno.EEXIST),
        ("user.b", b"", os.XATTR_REPLACE, errno.ENODATA),
        ("user.b", bytes(2000), 0, errno.ENOSPC),
        ("trusted.b", b"", 0, errno.EOPNOTSUPP),
    ],
)
def test_an_extended_attribute_that_cannot_be_kept_is_refused_by_name(
    here: Path, name: str, value: bytes, flags: int, code: int
) -> None:
    path = here / "x"
    path.write_bytes(b"x")
    os.setxattr(path, "user.a", b"1")
    with pytest.raises(OSError, match=os.strerror(code)):
        os.setxattr(path, name, value, flags)
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.removexattr(path, "user.b")
    assert own_xattrs(path) == {"user.a": b"1"}


def test_what_is_open_for_writing_stays_below_its_bound_and_nothing_is_lost(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "large").write_bytes(bytes(2 * MIB))
    with mounted(tmp_path / "fuse", '[fuse]\nstaged = "1MiB"\n' + config_for(store)) as mount:
        with open(mount.data / "a", "wb", buffering=0) as first, open(mount.data / "b", "wb", buffering=0) as second:
            assert first.write(b"a" * 700 * KIB) == 700 * KIB
            for beyond in (
                lambda: second.write(b"b" * 400 * KIB),
                lambda: os.ftruncate(second.fileno(), MIB),
                lambda: os.posix_fallocate(second.fileno(), 0, MIB),
                lambda: open(mount.data / "large", "r+b"),
            ):
                with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                    beyond()
            assert second.write(b"b" * 200 * KIB) == 200 * KIB
            free = os.statvfs(mount.root)
            assert free.f_bavail * free.f_frsize == 124 * KIB
        assert (store / "a").read_bytes() == b"a" * 700 * KIB
        assert (store / "b").read_bytes() == b"b" * 200 * KIB
        (mount.data / "c").write_bytes(b"c" * MIB)  # what was closed takes no room any more
        assert (store / "c").read_bytes() == b"c" * MIB


def test_names_that_no_key_can_have_are_refused(here: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        (here / ("n" * 256)).write_bytes(b"")
    with pytest.raises(OSError, match=os.strerror(errno.EILSEQ)):
        open(os.fsencode(here) + b"/\xff\xfe", "wb")


def test_a_database_works_on_it(here: Path, behind: Path) -> None:
    with sqlite3.connect(here / "x.db") as database:
        database.execute("create table t(n integer)")
    for number in range(5):
        with database:
            database.executemany("insert into t values (?)", [(number,)] * 100)
    assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()
    stored = sqlite3.connect(behind / "x.db")
    assert stored.execute("select count(*) from t").fetchone() == (500,)
    stored.close()


def test_git_and_tar_work_on_it(here: Path) -> None:
    source = here / "source"
    source.mkdir()
    for number in range(30):
        (source / f"f{number}").write_text(f"{number}\n" * number)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(source)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"], ["gc", "-q"], ["fsck", "--strict"]):
        subprocess.run([*git, *words], check=True, timeout=60, capture_output=True)
    subprocess.run(["git", "clone", "-q", str(source), str(here / "clone")], check=True, timeout=60, capture_output=True)
    status = subprocess.run(
        ["git", "-C", str(here / "clone"), "status", "--porcelain"], check=True, timeout=60, capture_output=True
    )
    assert status.stdout == b""
    subprocess.run(["tar", "-C", str(here), "-cf", str(here / "all.tar"), "clone"], check=True, timeout=60)
    (here / "out").mkdir()
    subprocess.run(["tar", "-C", str(here / "out"), "-xf", str(here / "all.tar")], check=True, timeout=60)
    subprocess.run(["diff", "-r", str(here / "clone"), str(here / "out/clone")], check=True, timeout=60)


def test_many_threads_write_and_read_their_own_files(here: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                body = bytes([number]) * (turn * 997)
                path = here / f"{number}-{turn}"
                path.write_bytes(body)
                assert path.read_bytes() == body
        except (OSError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_read_only_mount_takes_no_writes(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "x").write_bytes(b"x")
    with mounted(tmp_path / "fuse", config_for(store), "--read-only") as mount:
        assert (mount.data / "x").read_bytes() == b"x"
        with pytest.raises(OSError, match="Read-only"):
            (mount.data / "y").write_bytes(b"")


def test_a_store_that_takes_no_writes_says_so(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "x").write_bytes(b"x")
    with mounted(tmp_path / "fuse", config_for(store, write="none")) as mount:
        for change in (
            lambda: (mount.data / "y").write_bytes(b""),
            lambda: (mount.data / "x").write_bytes(b"y"),
            lambda: (mount.data / "x").unlink(),
            lambda: (mount.data / "d").mkdir(),
            lambda: os.rename(mount.data / "x", mount.data / "z"),
        ):
            with pytest.raises(OSError, match="Read-only"):
                change()
    assert (store / "x").read_bytes() == b"x"


def test_one_directory_of_the_namespace_can_be_mounted(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "a/b").mkdir(parents=True)
    (store / "a/b/x").write_bytes(b"x")
    with mounted(tmp_path / "fuse", config_for(store), "--path", "/data/a") as mount:
        assert (mount.root / "b/x").read_bytes() == b"x"
        (mount.root / "b/y").write_bytes(b"y")
    assert (store / "a/b/y").read_bytes() == b"y"


def test_stopping_stores_what_is_open_and_takes_the_mount_away(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    mount = start_fuse(tmp_path / "fuse", config_for(store))
    try:
        with open(mount.data / "open", "wb", buffering=0) as file:
            file.write(b"unsaved")
            assert mount.stop() == 0
            assert (store / "open").read_bytes() == b"unsaved"
        assert not os.path.ismount(mount.root)
    except OSError as error:
        assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)  # the close of a file whose mount is gone
    finally:
        end_fuse(mount)


def test_a_killed_mount_hangs_nobody_and_is_mounted_anew(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "x").write_bytes(b"x")
    mount = start_fuse(tmp_path / "fuse", config_for(store))
    try:
        assert (mount.data / "x").read_bytes() == b"x"
        mount.process.send_signal(signal.SIGKILL)
        mount.process.wait()
        with pytest.raises(OSError, match="not connected"):
            (mount.data / "x").read_bytes()
    finally:
        if mount.process.stdout is not None:
            mount.process.stdout.close()
    assert list((mount.home / "state/fuse").iterdir()) == []
    with mounted(tmp_path / "fuse", config_for(store)) as again:
        assert (again.data / "x").read_bytes() == b"x"


def test_a_mount_over_s3_is_written_and_read(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    bucket = "fuse-" + os.urandom(4).hex()
    seaweedfs_server.make_bucket(bucket)
    config = (
        f'[[mount]]\npath = "/data"\nstore = "s3://{bucket}"\nendpoint = "{seaweedfs_server.endpoint}"\ncredentials = "env:T"\n'
        'allow_private = true\nwrite = "through"\nfreshness = "1s"\n'
    )
    environ = {"T_ACCESS_KEY_ID": ACCESS_KEY, "T_SECRET_ACCESS_KEY": SECRET_KEY}
    body = os.urandom(12 * MIB)
    with mounted(tmp_path, config, environ=environ) as mount:
        (mount.data / "d").mkdir()
        (mount.data / "d/small").write_bytes(b"small")
        (mount.data / "d/large").write_bytes(body)
        os.chmod(mount.data / "d/small", 0o600)
        os.rename(mount.data / "d/small", mount.data / "d/other")
        assert sorted(os.listdir(mount.data / "d")) == ["large", "other"]
        (mount.data / "tree/empty").mkdir(parents=True)
        (mount.data / "tree/leaf").write_bytes(b"leaf")
        os.rename(mount.data / "tree", mount.data / "moved")
        os.rename(mount.data / "moved/empty", mount.data / "moved/still-empty")
        assert sorted(os.listdir(mount.data)) == ["d", "moved"]
        assert sorted(os.listdir(mount.data / "moved")) == ["leaf", "still-empty"]
        assert os.listdir(mount.data / "moved/still-empty") == []
        shutil.rmtree(mount.data / "moved")
    client = seaweedfs_server.client()
    assert client.get_object(Bucket=bucket, Key="d/large")["Body"].read() == body
    other = client.get_object(Bucket=bucket, Key="d/other")
    assert other["Body"].read() == b"small"
    assert int(other["Metadata"]["mode"]) == stat.S_IFREG | 0o600
    with mounted(tmp_path, config, environ=environ) as mount:
        assert (mount.data / "d/large").read_bytes() == body
        shutil.rmtree(mount.data / "d")
        assert os.listdir(mount.data) == []
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


def test_memory_only_data_reaches_no_file_of_a_disk(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    mark = os.urandom(16).hex().encode()
    (store / "secret").write_bytes(mark * 5000)
    with mounted(tmp_path / "fuse", config_for(store, residency="memory")) as mount:
        assert (mount.data / "secret").read_bytes() == mark * 5000
        with pytest.raises(PermissionError):
            open(mount.data / "new", "wb")
        with pytest.raises(PermissionError):
            open(mount.data / "secret", "r+b")
        kept = [path for path in mount.home.rglob("*") if path.is_file() and not path.is_relative_to(mount.root)]
        assert not [path for path in kept if mark in path.read_bytes()]


def test_a_mount_that_is_added_while_it_runs_appears(tmp_path: Path) -> None:
    store, added = tmp_path / "store", tmp_path / "added"
    for directory in (store, added):
        directory.mkdir()
    (added / "x").write_bytes(b"x")
    with running_node(tmp_path / "node", config_for(store), processes=1) as node:
        mount = start_fuse(tmp_path / "fuse", config_for(store), config_path=node.config)
        try:
            assert os.listdir(mount.root) == ["data"]
            node.cli("mount", "add", "/more", f"file://{added}")
            wait_until(lambda: (mount.root / "more").is_dir(), "the mount to appear")
            assert (mount.root / "more/x").read_bytes() == b"x"
        finally:
            end_fuse(mount)
