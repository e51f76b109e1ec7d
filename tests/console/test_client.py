from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.console.client import AdminClient, find_server, need_server
from headrace.control.node_view import Found
from headrace.ledger.records import JobState
from headrace.model.errors import AccessDenied, NotFound, SettingsError, Unavailable, VersionChanged
from headrace.model.mounts import MountSpec
from support.console import ServedConsole
from support.processes import free_port, wait_until

SPEC = MountSpec("/new", "s3://new", endpoint="http://127.0.0.1:1")


def test_mounts_are_added_changed_and_removed(console: ServedConsole) -> None:
    console.client.add_mount(SPEC)
    changed = MountSpec("/new", "s3://new", freshness="1s")
    console.client.replace_mount(changed, expected=SPEC)
    with pytest.raises(VersionChanged):
        console.client.replace_mount(SPEC, expected=SPEC)
    views = {view.spec.path: view for view in console.client.mounts()}
    assert views["/new"].spec == changed
    assert views["/new"].origin == "ledger"
    assert views["/fixed"].origin == "settings"
    console.client.remove_mount("/new")
    assert "/new" not in {view.spec.path for view in console.client.mounts()}


def test_errors_cross_the_wire_as_themselves(console: ServedConsole) -> None:
    with pytest.raises(SettingsError, match="change it there"):
        console.client.remove_mount("/fixed")
    with pytest.raises(NotFound, match="nothing is mounted at /nope"):
        console.client.remove_mount("/nope")
    with pytest.raises(NotFound, match="headrace jobs"):
        console.client.job("nope")
    with pytest.raises(NotFound, match="nothing is served at"):
        console.client.job("../../healthz")
    console.node.try_failure = AccessDenied("the store refused the key AKIA1")
    with pytest.raises(AccessDenied, match="refused the key AKIA1"):
        console.client.add_mount(SPEC)


def test_a_load_is_followed_to_its_end(console: ServedConsole) -> None:
    job = console.client.load("/sales")
    for _ in range(1000):
        job = console.client.job(job.id)
        if job.state.over:
            break
    assert job.state is JobState.DONE
    assert job.progress.objects_done == 20
    assert console.client.jobs()[0].id == job.id
    assert console.client.cancel_job(job.id).state is JobState.DONE
    with pytest.raises(SettingsError, match="is done"):
        console.client.resume_job(job.id)


def test_pins_frees_and_stats(console: ServedConsole) -> None:
    assert console.client.pin("/sales", True)
    assert console.client.pins() == ("/sales",)
    assert not console.client.pin("/sales", True)
    assert console.client.free("/sales", prefix=True) == 12345
    assert console.client.stats().mounts[0].path == "/sales"


def test_a_look_through_the_stores_is_told_as_it_goes_on(console: ServedConsole) -> None:
    told: list[Found] = []
    console.node.found = [Found(10), Found(20, added=1), Found(30, added=1, deleted=2)]
    assert console.client.survey("/sales", told.append) == Found(30, added=1, deleted=2)
    assert told == [Found(10), Found(20, added=1), Found(30, added=1, deleted=2)]


def test_what_ends_a_look_is_raised_whenever_it_comes(console: ServedConsole) -> None:
    console.node.found = [NotFound("nothing is mounted at /x")]
    with pytest.raises(NotFound, match="nothing is mounted at /x"):
        console.client.survey("/x", lambda _: None)
    console.node.found = [Found(10), Unavailable("the store is away")]
    with pytest.raises(Unavailable, match="the store is away"):
        console.client.survey("/x", lambda _: None)
    with pytest.raises(SettingsError, match="begin with a slash"):
        console.client.survey("x", lambda _: None)


def test_a_look_ends_with_the_connection(console: ServedConsole) -> None:
    console.node.found = [Found(1)]
    console.node.hold = asyncio.Event()

    def leave(_found: Found) -> None:
        assert console.node.surveys == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        console.client.survey("/sales", leave)
    wait_until(lambda: console.node.surveys == 0, "the look to end")


def test_a_wrong_token_is_named(console: ServedConsole) -> None:
    with pytest.raises(AccessDenied, match="does not know this token"):
        AdminClient(console.url, "guess").stats()


def test_a_running_server_is_found_by_its_home(console: ServedConsole) -> None:
    found = find_server(console.home, "127.0.0.1:1")
    assert found is not None
    assert found.url == console.url


def test_a_server_that_is_gone_is_not_found(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    assert find_server(tmp_path, listen) is None
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "admin.token").write_text("token")
    assert find_server(tmp_path, listen) is None
    with pytest.raises(Unavailable, match="headrace up"):
        need_server(tmp_path, listen)
    with pytest.raises(Unavailable, match="headrace doctor"):
        AdminClient(f"http://{listen}", "token").stats()
