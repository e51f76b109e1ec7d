"""Surveys of whatever a path covers: each store by itself, in bounded number, and ended when nobody waits for them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.cache.settings import CacheSettings, DiskSettings
from headrace.control.node_view import Found
from headrace.embedded import OwnNamespace
from headrace.model.clock import SystemClock
from headrace.model.errors import HeadraceError, NotFound, Unavailable
from headrace.model.mounts import MountSpec, Residency
from headrace.model.objects import Listing
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.node import surveys
from headrace.node.messages import Survey
from headrace.node.surveys import Surveys
from headrace.stores.faulty import FaultyStore
from headrace.wiring import Parts, build_store, caches_of, listings_in, open_pages

_numbers = itertools.count()


@pytest.fixture
async def namespace(tmp_path: Path) -> AsyncIterator[Namespace]:
    """`/data` with `/data/deep` mounted in it, and `/both`, a union of two stores."""
    for key in ("d/a", "d/deep/hidden", "d/deeper", "e/in", "o/only", "m/k"):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(b"x")
    pages = open_pages(
        CacheSettings(memory="0", disk=(DiskSettings("pages", "1GiB"),)), tmp_path, clock=SystemClock(), emit=lambda _: None
    )
    parts = Parts(SystemClock(), lambda _: None, {}, pages)
    specs = (
        MountSpec("/data", f"file://{tmp_path}/d"),
        MountSpec("/data/deep", f"file://{tmp_path}/e"),
        MountSpec("/both", union=(MountSpec("", f"file://{tmp_path}/d"), MountSpec("", f"file://{tmp_path}/o"))),
        MountSpec("/none", f"file://{tmp_path}/m", residency=Residency.NONE),
    )
    namespace = OwnNamespace(MountTable(Mount(spec.path, spec, build_store(spec, parts)) for spec in specs), pages)
    yield namespace
    await namespace.close()


async def whole(running: Surveys, path: str) -> Found:
    request = Survey(f"{next(_numbers)}", path)
    while not (reply := await running.ask(request)).over:
        pass
    return reply.found


async def test_each_store_below_a_path_is_looked_through_once_as_it_shows(namespace: Namespace, tmp_path: Path) -> None:
    running = Surveys(namespace, listings_in(tmp_path))
    assert await whole(running, "/data") == Found(objects=3, new=3)
    # The union's first member shows all of it: what the deeper mount hides in /data is seen there for the first time.
    assert await whole(running, "/both") == Found(objects=4, new=4)
    assert await whole(running, "/none") == Found(objects=1, new=1)
    (tmp_path / "e/in").write_bytes(b"changed")
    (tmp_path / "o/added").write_bytes(b"added")
    (tmp_path / "d/deep/hidden").unlink()
    assert await whole(running, "/data/deep") == Found(objects=1, changed=1)
    assert await whole(running, "/both/added") == Found(objects=1, added=1)
    assert await whole(running, "/both/") == Found(objects=4, deleted=1)
    with pytest.raises(NotFound, match="nothing is mounted at /absent"):
        await whole(running, "/absent")
    assert len(list(listings_in(tmp_path).iterdir())) == 3


async def test_a_store_that_cannot_be_listed_is_told_and_keeps_no_other_waiting(namespace: Namespace, tmp_path: Path) -> None:
    running = Surveys(namespace, listings_in(tmp_path))
    await whole(running, "/")
    (tmp_path / "d").rename(tmp_path / "away")
    (tmp_path / "o/only").write_bytes(b"changed")
    with pytest.raises(HeadraceError, match=r"/both: .*; /data: .*; the others were looked through"):
        await whole(running, "/")
    (tmp_path / "away").rename(tmp_path / "d")
    found = await whole(running, "/")
    assert (found.deleted, found.changed) == (0, 0), "what could not be listed was taken for deleted"
    await running.close()


class Held(FaultyStore):
    """Lists when it is let go."""

    def __init__(self, inner: object) -> None:
        super().__init__(inner)  # type: ignore[arg-type]
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        self.asked.set()
        await self.go.wait()
        return await super().list(prefix, delimiter=delimiter, after=after, limit=limit)


@pytest.fixture
def held(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> Held:
    [cached] = caches_of(namespace.resolve("/none/k").mount.store)
    held = Held(cached.inner)
    monkeypatch.setattr(cached, "_inner", held)
    monkeypatch.setattr(surveys, "_ANSWER_S", 0.01)
    return held


async def test_one_that_lasts_is_told_of_again_and_again_and_can_be_ended(namespace: Namespace, held: Held) -> None:
    running = Surveys(namespace, None)
    request = Survey("one", "/none")
    assert not (await running.ask(request)).over
    assert not (await running.ask(request)).over
    await running.end("one")
    assert not (await running.ask(Survey("two", "/none"))).over
    held.go.set()
    assert await whole(running, "/none") == Found(objects=1, new=1)
    await running.close()


async def test_one_that_nobody_asks_about_any_more_ends(
    namespace: Namespace, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveys, "_PATIENCE_S", 0.05)
    running = Surveys(namespace, None)
    await running.ask(Survey("one", "/none"))
    [run] = running._running.values()
    await asyncio.wait((run.task,), timeout=10)
    assert run.task.cancelled()
    await running.close()


async def test_when_its_mount_is_changed_it_ends_and_says_so(namespace: Namespace, held: Held) -> None:
    running = Surveys(namespace, None)
    request = Survey("one", "/none")
    await running.ask(request)
    before = namespace.table
    namespace.table = MountTable(mount for mount in before.mounts if mount.path != "/data")
    await running.mounts_changed()
    assert not (await running.ask(request)).over
    namespace.table = MountTable(mount for mount in before.mounts if mount.path != "/none")
    await running.mounts_changed()
    with pytest.raises(Unavailable, match="mounts were changed"):
        await running.ask(request)
    namespace.table = before


async def test_there_are_only_so_many(namespace: Namespace, held: Held) -> None:
    running = Surveys(namespace, None)
    for number in range(8):
        await running.ask(Survey(f"{number}", "/none"))
    with pytest.raises(Unavailable, match="8 surveys run already"):
        await running.ask(Survey("one more", "/none"))
    await running.close()
