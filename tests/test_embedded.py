"""A namespace inside a process that is no node: a refusal leaves nothing behind, what can be built later is taken up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.embedded import OwnNamespace, open_namespace
from headrace.model.clock import SystemClock
from headrace.model.errors import SettingsError, Unavailable
from headrace.model.mounts import MountSpec
from headrace.namespace.table import MountTable
from headrace.settings import load_settings
from headrace.wiring import LiveMounts, Parts

LATE = 'endpoint = "http://127.0.0.1:1"\ntimeout = "1s"\n'


def ignore(_event: object) -> None: ...


async def test_a_mount_that_cannot_be_built_is_raised_and_nothing_goes_on_trying(tmp_path: Path) -> None:
    config = tmp_path / "headrace.toml"
    mount = f'[[mount]]\npath = "/a"\nstore = "s3://b"\n{LATE}credentials = "file:{tmp_path}/keys"\n'
    config.write_text(f'[server]\nhome = "{tmp_path}/home"\n\n{mount}')
    before = asyncio.all_tasks()
    with pytest.raises(SettingsError, match="keys"):
        await open_namespace(load_settings(str(config)), clock=SystemClock(), emit=ignore)
    await asyncio.sleep(0)
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def test_what_can_be_built_later_is_taken_up_and_said_to_be_away_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.wiring._AGAIN_S", 0.01)
    keys, store = tmp_path / "keys", "s3://b"
    live = LiveMounts(Parts(SystemClock(), ignore, {}))
    spec = MountSpec("/a", store, endpoint="http://127.0.0.1:1", timeout="1s", credentials=f"file:{keys}")
    await live.apply([spec])
    with pytest.raises(Unavailable, match=r"/a is not served: .*keys"):
        await live.namespace.info("/a/x")
    kept = live.namespace.table
    await asyncio.sleep(0.05)
    assert live.namespace.table is kept, "nothing changed, so readers keep their table"
    keys.write_text("id\nsecret\n")
    keys.chmod(0o600)
    async with asyncio.timeout(10):
        while live.failed:
            await asyncio.sleep(0.01)
    assert live.namespace.table is not kept
    own = OwnNamespace(MountTable(), live=live)
    await own.close()
