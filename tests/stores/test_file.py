import asyncio
import contextlib
import os
import threading
from pathlib import Path

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied, NotFound, SettingsError, Unavailable, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.model.objects import CommonPrefix
from headrace.stores import beneath
from headrace.stores.contract import read_all
from headrace.stores.file import FileStore
from headrace.stores.file_open import from_spec
from headrace.stores.file_types import content_type_of

SECRET = b"outside: must never be read"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(SECRET)
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "file").write_bytes(b"inside")
    (folder / "d").mkdir()
    (folder / "d/below").write_bytes(b"below")
    return folder


@pytest.fixture(params=["openat2", "stepwise"])
def opening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the kernel's contained open, and as where it is not offered."""
    if request.param == "stepwise":
        monkeypatch.setattr(beneath, "_openat2", beneath._open_stepwise)
    return str(request.param)


@pytest.mark.parametrize("target", ["../outside/secret", "{tmp}/outside/secret", "/etc/passwd", "d/../../outside/secret"])
async def test_a_link_that_leads_outside_is_refused_and_not_listed(root: Path, opening: str, target: str) -> None:
    (root / "link").symlink_to(target.format(tmp=root.parent))
    store = FileStore(str(root))
    for verb in (store.info, store.read):
        with pytest.raises(AccessDenied):
            await verb("link")
    assert [entry.key for entry in (await store.list()).entries] == ["d/below", "file"]
    await store.close()


async def test_a_linked_directory_outside_is_refused_and_not_listed(root: Path, opening: str) -> None:
    (root / "link").symlink_to("../outside")
    store = FileStore(str(root))
    with pytest.raises((AccessDenied, NotFound)):
        await store.read("link/secret")
    assert (await store.list("link/")).entries == ()
    assert CommonPrefix("link/") not in (await store.list(delimiter="/")).entries
    await store.close()


async def test_links_that_stay_inside_are_followed(root: Path) -> None:
    (root / "relative").symlink_to("d/below")
    (root / "absolute").symlink_to(root / "d/below")
    (root / "up").mkdir()
    (root / "up/back").symlink_to("../file")
    (root / "folder").symlink_to("d")
    store = FileStore(str(root))
    for key, body in (("relative", b"below"), ("absolute", b"below"), ("up/back", b"inside"), ("folder/below", b"below")):
        assert await read_all(store, key) == body
    keys = [entry.key for entry in (await store.list()).entries]
    assert keys == ["absolute", "d/below", "file", "folder/below", "relative", "up/back"]
    await store.close()


async def test_a_loop_of_links_ends(root: Path) -> None:
    (root / "d/again").symlink_to("../d")
    (root / "self").symlink_to("self")
    (root / "top").symlink_to(".")
    store = FileStore(str(root))
    assert [entry.key for entry in (await store.list()).entries] == ["d/below", "file"]
    with pytest.raises(AccessDenied):
        await store.read("self")
    await store.close()


@pytest.mark.parametrize("victim", ["swapped", "swapped/secret"])
async def test_a_link_swapped_in_between_check_and_open_never_leaks(root: Path, opening: str, victim: str) -> None:
    """10,000 races: the name is now a harmless file or folder, now a link to the secret outside."""
    harmless, link, place = root / "harmless", root / "link", root / "swapped"
    if victim == "swapped":
        harmless.write_bytes(b"harmless")
        link.symlink_to("../outside/secret")
    else:
        harmless.mkdir()
        (harmless / "secret").write_bytes(b"harmless")
        link.symlink_to("../outside")
    harmless.rename(place)
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        descriptor = os.open(root, os.O_PATH)
        exchange = beneath._LIBC.renameat2
        while not stop.is_set():
            if exchange(descriptor, b"swapped", descriptor, b"link", 2) == 0:
                swaps += 1
        os.close(descriptor)

    thread = threading.Thread(target=swap)
    thread.start()
    store = FileStore(str(root))
    seen = {"read": 0, "refused": 0}
    try:
        for _ in range(2500 if opening == "openat2" else 250):
            bodies = await asyncio.gather(*(read_all(store, victim) for _ in range(4)), return_exceptions=True)
            for body in bodies:
                if isinstance(body, bytes):
                    assert body == b"harmless"
                    seen["read"] += 1
                else:
                    assert isinstance(body, (AccessDenied, NotFound, Unavailable)), body
                    seen["refused"] += 1
    finally:
        stop.set()
        thread.join()
        await store.close()
    assert swaps > 100
    assert min(seen.values()) > 20, seen


async def test_a_same_length_overwrite_in_place_is_noticed_while_reading(root: Path) -> None:
    path = root / "large"
    path.write_bytes(b"1" * 3_000_000)
    store = FileStore(str(root))
    reading = await store.read("large")
    with pytest.raises(VersionChanged):
        async for piece in reading:
            assert set(bytes(piece)) == {ord("1")}
            with path.open("r+b") as file:
                file.write(b"2" * 3_000_000)
    await reading.aclose()
    await store.close()


async def test_a_file_replaced_while_it_is_read_is_read_to_its_old_end(root: Path) -> None:
    path = root / "large"
    path.write_bytes(b"1" * 3_000_000)
    store = FileStore(str(root))
    reading = await store.read("large")
    (root / "new").write_bytes(b"2" * 3_000_000)
    (root / "new").rename(path)
    assert b"".join([bytes(piece) async for piece in reading]) == b"1" * 3_000_000
    await store.close()


async def test_what_is_no_regular_file_is_no_object(root: Path) -> None:
    os.mkfifo(root / "fifo")
    store = FileStore(str(root))
    for key in ("fifo", "d", "d/"):
        with pytest.raises(NotFound):
            await asyncio.wait_for(store.read(key), 5)
    assert [entry.key for entry in (await store.list()).entries] == ["d/below", "file"]
    await store.close()


@pytest.mark.parametrize(
    "key", ["../outside/secret", "d/../../outside/secret", "/etc/passwd", "..", "d//below", "a\0b", "x" * 256]
)
async def test_keys_that_are_no_paths_lead_nowhere(root: Path, key: str) -> None:
    store = FileStore(str(root))
    with pytest.raises(NotFound):
        await store.read(key)
    await store.close()


async def test_a_root_that_goes_away_is_unavailable_never_empty(root: Path) -> None:
    store = FileStore(str(root))
    assert (await store.list()).entries
    root.rename(root.parent / "elsewhere")
    for verb in (store.info, store.read, store.list):
        with pytest.raises(Unavailable):
            await verb("file")
    await store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_what_may_not_be_read_is_access_denied(root: Path) -> None:
    (root / "file").chmod(0)
    store = FileStore(str(root))
    with pytest.raises(AccessDenied):
        await store.read("file")
    await store.close()


async def test_empty_directories_and_names_that_are_not_utf8_are_not_listed(root: Path) -> None:
    (root / "empty/below/deep").mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(root) + b"/bad\xff")).write_bytes(b"x")
    store = FileStore(str(root))
    assert [entry.key for entry in (await store.list()).entries] == ["d/below", "file"]
    assert [entry.key for entry in (await store.list(delimiter="/")).entries] == ["d/", "file"]
    await store.close()


async def test_a_new_listing_sees_what_was_just_made(root: Path) -> None:
    store = FileStore(str(root))
    for number in range(30):
        (root / f"n{number:02}").write_bytes(b"x")
        assert len((await store.list("n")).entries) == number + 1
    await store.close()


async def test_descriptors_are_freed(root: Path) -> None:
    (root / "large").write_bytes(b"1" * 1_000_000)
    store = FileStore(str(root))
    await read_all(store, "large")
    await store.list()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        await read_all(store, "large")
        await (await store.read("large")).aclose()
        await store.list(limit=1)
        with contextlib.suppress(NotFound):
            await store.read("absent")
        task = asyncio.create_task(read_all(store, "large"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.close()
    store._root.pool.shutdown(wait=True)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


async def test_a_closed_store_is_unavailable(root: Path) -> None:
    store = FileStore(str(root))
    await store.close()
    with pytest.raises(Unavailable):
        await store.info("file")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("a.csv", "text/csv"),
        ("a.csv.gz", "application/gzip"),
        ("a/b.json", "application/json"),
        ("a.parquet", "application/octet-stream"),
        ("README", "application/octet-stream"),
        ("data:x,.txt", "text/plain"),
    ],
)
def test_the_content_type_is_that_of_the_extension(key: str, kind: str) -> None:
    assert content_type_of(key) == kind


async def test_a_url_names_the_root(root: Path) -> None:
    spaced = root.parent / "with space"
    spaced.mkdir()
    (spaced / "a").write_bytes(b"x")
    store = from_spec(MountSpec("/x", store=f"file://{root.parent}/with%20space"), environ={}, clock=SystemClock())
    assert await read_all(store, "a") == b"x"
    await store.close()


@pytest.mark.parametrize("url", ["file://host/data", "file:data", "s3://bucket", "file://"])
def test_a_url_that_names_no_directory_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        from_spec(MountSpec("/x", store=url), environ={}, clock=SystemClock())


@pytest.mark.slow
async def test_a_large_directory_is_listed_with_bounded_memory(root: Path) -> None:
    folder = root / "flat"
    folder.mkdir()
    count = 50_000
    for number in range(count):
        os.close(os.open(folder / f"part-{number * 7919 % count:05}", os.O_CREAT | os.O_WRONLY))
    store = FileStore(str(root), window_names=5_000)
    seen, after = 0, ""
    while True:
        page = await store.list("flat/", after=after)
        assert all(entry.key == f"flat/part-{seen + place:05}" for place, entry in enumerate(page.entries))
        seen += len(page.entries)
        assert sum(window.names.count for window in store._windows.paths._kept.values()) <= 5_000
        if page.after is None:
            break
        after = page.after
    assert seen == count
    await store.close()
