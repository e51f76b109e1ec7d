"""`headrace sync` on the command line, against the control port over stores in memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.console.cli import main
from headrace.console.cmd_syncs import default_name
from headrace.console.sync_client import SyncClient
from headrace.control.sync.steps import SidePage
from headrace.ledger.records import JobState
from headrace.ledger.sync_records import Mode, SyncSpec
from headrace.model.errors import AccessDenied, NotFound, SettingsError
from headrace.model.mounts import MountSpec, WriteMode
from support.console import ServedConsole, served_console
from support.syncing import SyncNode, bodies


@pytest.fixture
def node() -> SyncNode:
    made = SyncNode()
    for number in range(3):
        made.a.put(f"k{number}", b"x" * number)
    return made


@pytest.fixture
def served(tmp_path: Path, node: SyncNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedConsole]:
    config = tmp_path / "headrace.toml"
    config.write_text(f'[server]\nhome = "{tmp_path}"\n')
    monkeypatch.setenv("HEADRACE_CONFIG", str(config))
    with served_console(tmp_path, node) as console:
        for path in ("/a", "/b"):
            console.client.add_mount(MountSpec(path, "memory://", write=WriteMode.THROUGH))
        yield console


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(args)
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def said(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    code, out, err = run(capsys, *args)
    assert code == 0, err
    return out


@pytest.mark.parametrize(
    "args", [["sync"], ["sync", "/"], ["sync", "--wait"], ["sync", "--json"], ["sync", "--json", "/a", "--wait"]]
)
def test_a_path_or_none_means_waiting_for_stores(
    served: ServedConsole, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    out = said(capsys, *args)
    assert json.loads(out)["writes"] == 0 if "--json" in args else "the store has everything" in out


def test_a_slip_in_a_subcommand_names_the_nearest(served: ServedConsole, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "sync", "shwo")
    assert code == 2
    assert "show" in err


def test_a_sync_from_its_making_to_its_end(served: ServedConsole, node: SyncNode, capsys: pytest.CaptureFixture[str]) -> None:
    planned = said(capsys, "sync", "add", "/a/", "/b", "--dry-run").splitlines()
    assert planned[0] == "copy k0 -> /b, 0 B"
    assert planned[-1] == "3 to copy (3 B); 0 alike; 3 objects in /a, 0 in /b"
    assert not bodies(node.b)
    assert "it has no schedule" in said(capsys, "sync", "add", "/a", "/b", "--mode", "two-way", "--name", "pair")
    assert "3 objects, 3 B" in said(capsys, "sync", "run", "pair")
    assert bodies(node.b) == bodies(node.a)
    assert "3 copied to B, 0 to A" in said(capsys, "sync", "show", "pair")
    assert json.loads(said(capsys, "sync", "ls", "--json"))[0]["spec"]["mode"] == "two-way"
    assert "pair" in said(capsys, "sync", "ls")
    assert said(capsys, "sync", "pause", "pair") == "pair is paused\n"
    assert "paused" in said(capsys, "sync", "ls")
    assert "follows its schedule" in said(capsys, "sync", "resume", "pair")
    steps = [json.loads(line) for line in said(capsys, "sync", "run", "pair", "--dry-run", "--json").splitlines()]
    assert steps == []
    assert "sync" in said(capsys, "jobs")
    said(capsys, "sync", "rm", "pair")
    assert json.loads(said(capsys, "sync", "ls", "--json")) == []


def test_a_refused_run_fails_with_the_next_step(
    served: ServedConsole, node: SyncNode, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "sync", "add", "/a", "/b", "--name", "pair")
    said(capsys, "sync", "run", "pair")
    for number in range(2):
        node.b.put(f"extra{number}", b"1")
    node.b.put("extra2", b"1")
    node.b.put("extra3", b"1")
    code, out, _ = run(capsys, "sync", "run", "pair")
    assert code == 1
    assert "4 of 7 objects of /b would be removed, more than 50 %" in out
    said(capsys, "sync", "run", "pair", "--force")
    assert bodies(node.b) == bodies(node.a)


def test_errors_of_the_server_come_as_themselves(served: ServedConsole, node: SyncNode) -> None:
    client = SyncClient(served.client)
    with pytest.raises(NotFound, match="headrace sync ls"):
        client.get("none")
    with pytest.raises(SettingsError, match="one in the other"):
        client.add(SyncSpec("s", "/a", "/a/b"))
    with pytest.raises(NotFound, match="nothing is mounted"):
        list(client.plan(SyncSpec("s", "/a", "/nowhere", Mode.MIRROR)))


def test_a_plan_that_breaks_off_says_why(served: ServedConsole, node: SyncNode, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = node.side_page

    async def refusing(path: str, *, after: str, limit: int) -> SidePage:
        if path == "/a" and after:
            raise AccessDenied("the rest is not yours to see")
        return await listed(path, after=after, limit=limit)

    monkeypatch.setattr(node, "side_page", refusing)
    node.page_limit = 1
    parts = SyncClient(served.client).plan(SyncSpec("s", "/a", "/b"))
    assert next(parts).steps
    with pytest.raises(AccessDenied, match="not yours to see"):
        list(parts)


def test_a_run_can_be_left_to_the_server(served: ServedConsole, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "sync", "add", "/a", "/b", "--name", "pair")
    record = json.loads(said(capsys, "sync", "run", "pair", "--detach", "--json"))
    assert record["kind"] == "sync"
    deadline = time.monotonic() + 20
    while served.client.job(record["id"]).state is not JobState.DONE:
        assert time.monotonic() < deadline
    assert SyncClient(served.client).get("pair").state.job_id == record["id"]


@pytest.mark.parametrize(
    ("a", "b", "name"),
    [("/sales", "/cloud/sales", "sales-cloud-sales"), ("/a b", "/ü", "a-b-"), ("/x" * 60, "/y", ("x-" * 60)[:63])],
)
def test_a_name_is_made_of_the_paths(a: str, b: str, name: str) -> None:
    assert default_name(a, b) == name.strip("-")
