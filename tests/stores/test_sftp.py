"""SFTP as it is met: host keys, changes within a second, in place, lost connections, wrong settings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from headrace.model.clock import SystemClock
from headrace.model.errors import AccessDenied, HeadraceError, NotFound, SettingsError, Unavailable, VersionChanged
from headrace.model.mounts import MountSpec
from headrace.model.writing import BytesBody
from headrace.stores.contract_hooks import read_all
from headrace.stores.registry import open_store
from headrace.stores.store import Store
from support.sshd import SshServer, make_key, sshd

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def open_sftp(url: str, environ: Mapping[str, str], **options: str) -> Store:
    return open_store(MountSpec("/f", url, **{"credentials": "env:F", **options}), environ=environ, clock=SystemClock())  # type: ignore[arg-type]  # of tests


@pytest.fixture
async def store(server: SshServer, tmp_path: Path) -> AsyncIterator[Store]:
    made = open_sftp(server.url(tmp_path), server.environ)
    yield made
    await made.close()


async def test_a_host_whose_key_is_not_known_is_refused(server: SshServer, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    for known in ("", f"[127.0.0.1]:{server.port} {other}"):
        (tmp_path / "known").write_text(known)
        store = open_sftp(server.url(tmp_path), {**server.environ, "F_KNOWN_HOSTS": str(tmp_path / "known")})
        with pytest.raises(AccessDenied, match="host key is not a known one"):
            await store.list()
        await store.close()


async def test_changes_within_one_second_are_never_taken_for_the_same_version(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "quick"
    path.write_bytes(b"1" * 100)
    early = asyncio.ensure_future(store.info("quick"))
    await asyncio.sleep(0)
    path.write_bytes(b"2" * 100)
    info = await early
    assert time.time() - path.stat().st_mtime > 1
    assert await read_all(store, "quick", version=info.version) == b"2" * 100
    path.write_bytes(b"3" * 100)
    with pytest.raises(VersionChanged):
        await read_all(store, "quick", version=info.version)


async def test_what_is_written_twice_within_a_second_has_two_versions(store: Store) -> None:
    told = [await store.write("a", BytesBody(data)) for data in (b"one", b"two", b"six")]
    assert len({info.version for info in told}) == 3
    assert await store.info("a") == told[-1]


async def test_a_file_that_is_overwritten_in_place_while_it_is_read_is_an_error(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"1" * 8_000_000)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    seen = 0
    with pytest.raises(VersionChanged):
        async for piece in await store.read("large"):
            if not seen:
                with path.open("r+b") as file:
                    file.write(b"2" * 8_000_000)
            seen += len(piece)
    assert seen < 8_000_000


async def test_a_lost_connection_is_unavailable_and_then_made_anew(server: SshServer, store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    os.utime(tmp_path / "a", (1_700_000_000, 1_700_000_000))
    assert await read_all(store, "a") == b"x"
    children = Path(f"/proc/{server.child.pid}/task/{server.child.pid}/children").read_text().split()
    reading = await store.read("a")
    for child in children:
        os.kill(int(child), 9)
    with pytest.raises(Unavailable):
        async for _ in reading:
            pass
    await reading.aclose()
    for _ in range(3):
        with contextlib.suppress(Unavailable):
            assert await read_all(store, "a") == b"x"
            return
    raise AssertionError("no connection was made anew")


async def test_links_are_followed_and_those_that_lead_nowhere_are_left_out(store: Store, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"x")
    os.utime(tmp_path / "d" / "a", (1_700_000_000, 1_700_000_000))
    (tmp_path / "link").symlink_to("d/a")
    (tmp_path / "broken").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / os.fsdecode(b"\xff")).touch()
    assert [entry.key for entry in (await store.list()).entries] == ["d/a", "link"]
    assert await read_all(store, "link") == b"x"
    for key in ("broken", "pipe", "d"):
        with pytest.raises(NotFound):
            await store.read(key)


async def test_a_directory_that_is_not_there_is_an_error_never_empty(server: SshServer, tmp_path: Path) -> None:
    store = open_sftp(server.url(tmp_path / "absent"), server.environ)
    with pytest.raises(NotFound):
        await store.list()
    await store.close()


@pytest.mark.parametrize(
    ("url", "environ", "words"),
    [
        ("sftp://ann:PLANTED@host/x", {}, "no user or password"),
        ("sftp://host/x?key=PLANTED", {}, "without a query"),
        ("sftp://host/a/../b", {}, "absolute/path"),
        ("sftp://", {}, "absolute/path"),
        ("sftp://169.254.169.254/x", {}, "metadata"),
        ("sftp://host/x", {}, "F_USERNAME"),
        ("sftp://host/x", {"F_USERNAME": "a"}, "F_KEY_FILE or F_PASSWORD"),
        ("sftp://host/x", {"F_USERNAME": "a", "F_PASSWORD": "PLANTED", "HOME": "/nowhere"}, "never taken unseen"),
    ],
)
def test_a_wrong_mount_is_refused_by_name(url: str, environ: Mapping[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        open_sftp(url, environ)
    assert "PLANTED" not in str(caught.value)


def test_credentials_by_other_references_and_a_missing_package_are_said(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HeadraceError, match="env:PREFIX"):
        open_sftp(server.url(tmp_path), server.environ, credentials="anonymous")
    monkeypatch.setitem(__import__("sys").modules, "asyncssh", None)
    with pytest.raises(SettingsError, match=r"pip install 'headrace\[sftp\]'"):
        open_sftp(server.url(tmp_path), server.environ)
