from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import pytest

from headrace import bridge
from headrace.client import Client
from headrace.model.errors import SettingsError
from headrace.namespace.namespace import Namespace
from headrace.session import KeyPair, Session, SessionOptions, find_key, read_credentials

FILE = "access_key_id = local\nsecret_access_key = very=secret\n"


def test_reads_the_key_that_the_node_wrote(tmp_path: Path) -> None:
    assert read_credentials(tmp_path / "credentials") is None
    (tmp_path / "credentials").write_text(FILE)
    assert read_credentials(tmp_path / "credentials") == KeyPair("local", "very=secret")
    (tmp_path / "credentials").write_text("access_key_id = local\n")
    with pytest.raises(SettingsError, match="secret_access_key"):
        read_credentials(tmp_path / "credentials")


def test_a_given_key_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(FILE)
    environ = {"HEADRACE_ACCESS_KEY_ID": "env", "HEADRACE_SECRET_ACCESS_KEY": "s"}
    assert find_key(SessionOptions(key_id="arg", secret="s"), tmp_path, environ) == KeyPair("arg", "s")
    assert find_key(SessionOptions(), tmp_path, environ) == KeyPair("env", "s")
    assert find_key(SessionOptions(), tmp_path, {}) == KeyPair("local", "very=secret")


def test_half_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        find_key(SessionOptions(key_id="arg"), tmp_path, {})
    with pytest.raises(SettingsError):
        find_key(SessionOptions(), tmp_path, {"HEADRACE_ACCESS_KEY_ID": "env"})


def test_a_key_pair_shows_no_secret() -> None:
    assert "hush" not in repr(KeyPair("ann", "hush"))


async def _empty(_: SessionOptions) -> Namespace:
    return Namespace()


def test_a_session_is_pickled_without_what_it_opened() -> None:
    session = Session(SessionOptions(endpoint="http://127.0.0.1:1"), _empty)
    first = session.run(_itself)
    again = pickle.loads(pickle.dumps(session))
    assert again.options == session.options
    assert again.run(_itself) is not first


def test_callers_that_come_while_it_is_opened_share_what_is_opened() -> None:
    opened: list[Namespace] = []
    release = asyncio.Event()

    async def opener(_: SessionOptions) -> Namespace:
        await release.wait()
        opened.append(Namespace())
        return opened[-1]

    session = Session(SessionOptions(), opener)

    async def race() -> None:
        first = asyncio.ensure_future(session.call(_itself))
        while session._opening is None:
            await asyncio.sleep(0)
        release.set()
        while not session._opening.done():
            await asyncio.sleep(0)
        assert not first.done(), "this test is about a caller that comes just then"
        assert await session.call(_itself) is await first

    bridge.run(race())
    assert len(opened) == 1


async def _itself(namespace: Namespace) -> Namespace:
    return namespace


def test_opens_once_however_many_ask_at_the_same_time() -> None:
    opened = 0

    async def opener(_: SessionOptions) -> Namespace:
        nonlocal opened
        opened += 1
        await asyncio.sleep(0.01)
        return Namespace()

    session = Session(SessionOptions(), opener)

    async def ask() -> set[int]:
        return {id(n) for n in await asyncio.gather(*(session.call(_itself) for _ in range(5)))}

    assert len(asyncio.run(ask())) == 1
    assert opened == 1


def test_a_failed_opening_is_tried_again() -> None:
    tries = 0

    async def opener(_: SessionOptions) -> Namespace:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise SettingsError("not yet")
        return Namespace()

    session = Session(SessionOptions(), opener)
    with pytest.raises(SettingsError):
        session.run(_itself)
    assert isinstance(session.run(_itself), Namespace)


def test_an_embedded_client_without_mounts_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "headrace.toml"
    config.write_text("")
    monkeypatch.delenv("HEADRACE_ENDPOINT", raising=False)
    with pytest.raises(SettingsError, match=r"\[\[mount\]\]"):
        Client.connect(str(config), mode="embedded").stat("b/x")


def test_a_remote_client_without_a_key_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    for name in ("HEADRACE_ACCESS_KEY_ID", "HEADRACE_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match="HEADRACE_ACCESS_KEY_ID"):
        Client.connect(endpoint="http://127.0.0.1:1").stat("b/x")
