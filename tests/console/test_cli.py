from __future__ import annotations

import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from headrace.console.cli import COMMANDS, main
from support.console import ServedConsole
from support.processes import free_port


def run(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(args)
    out, err = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return code, out, err


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a server, whose control port nobody has."""
    config = tmp_path / "headrace.toml"
    config.write_text(f'[server]\nhome = "{tmp_path}"\ncontrol_listen = "127.0.0.1:{free_port()}"\n')
    monkeypatch.setenv("HEADRACE_CONFIG", str(config))
    return tmp_path


@pytest.fixture
def served(console: ServedConsole, home: Path) -> ServedConsole:
    assert console.home == home
    return console


def test_help_takes_less_than_three_tenths_of_a_second() -> None:
    """Processor time of the whole process: what a user waits on a machine that is not busy otherwise."""
    took = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "headrace", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.3


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom headrace.console.cli import main\ntry:\n main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'msgspec', 'sqlalchemy', 'rich', 'asyncio', 'aiohttp', 'starlette', 'cryptography', 'http'}\n"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_line_in_the_help_is_the_commands_own(name: str) -> None:
    lazy = COMMANDS[name]
    if importlib.util.find_spec(lazy.module) is None:
        pytest.skip(f"{lazy.module} is not there yet")
    command: click.Command = getattr(importlib.import_module(lazy.module), lazy.attribute)
    assert (command.help or "").splitlines()[0] == lazy.help
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--config" in options
    assert "--json" in options or name in ("cat", "mount", "demo")


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["nonsense"], ["mount", "add"], ["load"], ["ls", "--nonsense"], ["mount", "set", "/a"]):
        code, out, err = run(args, capsys)
        assert (code, out) == (2, ""), args
        assert err


def test_config_is_accepted_before_and_after_the_subcommand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "other.toml"
    config.write_text(f'[server]\nhome = "{tmp_path}"\n[[mount]]\npath = "/here"\nstore = "s3://here"\n')
    for args in (
        ["--config", str(config), "mount", "ls", "--json"],
        ["mount", "--config", str(config), "ls", "--json"],
        ["mount", "ls", "--json", "--config", str(config)],
    ):
        code, out, _ = run(args, capsys)
        assert code == 0
        assert [view["spec"]["path"] for view in json.loads(out)] == ["/here"]


def test_an_unknown_key_in_the_settings_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "bad.toml"
    config.write_text("[server]\ndata_listne = 'x'\n")
    code, _, err = run(["mount", "ls", "--config", str(config)], capsys)
    assert code == 2
    assert "data_listen" in err
    assert len(err.splitlines()) == 1


def test_a_failure_is_one_line_with_the_next_step(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["status"], capsys)
    assert (code, out) == (1, "")
    assert err == f"headrace: no server runs on {home}: start one with `headrace up`\n"


def test_a_failure_for_machines_is_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(["status", "--json"], capsys)
    assert code == 1
    assert json.loads(err)["error"]["kind"] == "Unavailable"


def test_errors_do_not_carry_terminal_controls(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["mount", "rm", "/a\x1b[31m"], ["mount", "add", "/a\x1b]0;x\x07", "s3://b"]):
        code, _, err = run(args, capsys)
        assert code in (1, 2)
        assert "\x1b" not in err
        assert "\\x1b" in err


def test_mounts_without_a_server_go_to_its_ledger_after_a_try(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("headrace.stores.registry")
    (home / "data").mkdir()
    (home / "data" / "x.csv").write_text("1,2\n")
    code, out, err = run(["mount", "add", "/data", f"file://{home}/data", "--freshness", "5s"], capsys)
    assert (code, out) == (0, "mounted /data\n")
    assert "no server runs here" in err
    code, _, _ = run(["mount", "set", "/data", "--freshness", "verify", "--anonymous"], capsys)
    assert code == 0
    view = json.loads(run(["mount", "ls", "--json"], capsys)[1])[0]
    assert view["spec"]["freshness"] == "verify"
    assert view["spec"]["anonymous"] is True
    assert run(["mount", "rm", "/data"], capsys)[0] == 0
    assert "nothing is mounted yet" in run(["mount", "ls"], capsys)[1]


def test_a_mount_that_cannot_be_read_is_not_added(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("headrace.stores.registry")
    code, _, err = run(["mount", "add", "/data", f"file://{home}/missing"], capsys)
    assert code != 0
    assert len(err.splitlines()) == 1
    assert json.loads(run(["mount", "ls", "--json"], capsys)[1]) == []


def test_mounts_go_through_a_server_that_runs(served: ServedConsole, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["mount", "add", "/new", "s3://new", "--max-connections", "5"], capsys)
    assert (code, out, err) == (0, "mounted /new; note: nothing is there yet\n", "")
    assert served.node.tried[-1].max_connections == 5
    code, _, _ = run(["mount", "set", "/new", "--no-anonymous", "--region", "eu-west-1"], capsys)
    assert code == 0
    (new,) = [spec for spec in served.node.pushed[-1].mounts if spec.path == "/new"]
    assert (new.region, new.max_connections) == ("eu-west-1", 5)
    assert run(["mount", "rm", "/new"], capsys)[0] == 0


def test_a_union_is_mounted_from_its_members(served: ServedConsole, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = run(["mount", "add", "/all", "--union", "s3://a", "--union", "s3://b", "--credentials", "env:X"], capsys)
    assert code == 0
    spec = served.node.tried[-1]
    assert [member.store for member in spec.union] == ["s3://a", "s3://b"]
    assert all(member.credentials == "env:X" for member in spec.union)


def test_members_of_a_union_have_options_of_their_own_and_the_list_shows_them(
    served: ServedConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = "s3://a/x,endpoint=http://127.0.0.1:1,freshness=immutable", "file:///b"
    assert run(["mount", "add", "/all", "--union", one, "--union", two, "--freshness", "5s"], capsys)[0] == 0
    spec = served.node.tried[-1]
    assert [(m.store, m.endpoint, m.freshness) for m in spec.union] == [
        ("s3://a/x", "http://127.0.0.1:1", "immutable"),
        ("file:///b", "", "5s"),
    ]
    shown = run(["mount", "ls"], capsys)[1]
    assert "s3://a/x + file:///b" in shown
    assert "immutable + 5s" in shown
    assert run(["mount", "set", "/all", "--freshness", "verify"], capsys)[0] == 0
    assert [member.freshness for member in served.node.tried[-1].union] == ["verify", "verify"]
    assert run(["mount", "set", "/all", "--union", "file:///b", "--union", "file:///c"], capsys)[0] == 0
    assert [member.store for member in served.node.tried[-1].union] == ["file:///b", "file:///c"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "/new", "s3://a", "--union", "s3://b"], "write STORE or --union, not both"),
        (["set", "/fixed", "--store", "s3://a", "--union", "s3://b"], "write --store or --union, not both"),
        (["add", "/new", "--union", "s3://a,endpont=x"], "did you mean endpoint?"),
        (["add", "/new", "--union", "bad"], "union member 0: 'bad' is no store this release knows"),
        (["add", "/new", "--union", "s3://a", "--write-target", "1"], "write_target 1 names no member"),
    ],
)
def test_a_union_that_cannot_be_is_refused_in_words(
    served: ServedConsole, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, _, err = run(["mount", *arguments], capsys)
    assert (code, said in err) == (2, True), err
    assert served.node.tried == []


def test_load_waits_and_tells_how_it_went(served: ServedConsole, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["load", "/sales"], capsys)
    assert code == 0
    assert "done: 20 objects, 200 B" in out
    record = json.loads(run(["load", "/sales", "--json"], capsys)[1])
    assert record["state"] == "done"
    jobs = json.loads(run(["jobs", "--json"], capsys)[1])
    assert [job["target"] for job in jobs] == ["/sales", "/sales"]
    assert "/sales" in run(["jobs"], capsys)[1]


def test_a_load_of_nothing_fails_and_one_outside_of_all_mounts_is_no_job(
    served: ServedConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(["load", "/sales/nothing"], capsys)
    assert (code, err) == (1, "headrace: nothing is at /sales/nothing: `headrace ls` shows what there is\n")
    code, _, err = run(["load", "/nope"], capsys)
    assert (code, err) == (1, "headrace: nothing is mounted at /nope; mounts: /fixed, /sales\n")
    assert [job["target"] for job in json.loads(run(["jobs", "--json"], capsys)[1])] == ["/sales/nothing"]
    assert run(["load", "/sales/"], capsys)[0] == 0
    assert run(["load", "/"], capsys)[0] == 0


def test_free_of_a_path_with_a_slash_frees_all_below_it(served: ServedConsole, capsys: pytest.CaptureFixture[str]) -> None:
    run(["free", "/sales/"], capsys)
    run(["free", "/sales/001"], capsys)
    assert served.node.freed == [("/sales", True), ("/sales/001", False)]


def test_a_mount_path_without_its_slash_is_hinted_at(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args in (["mount", "rm", "y"], ["mount", "set", "y", "--anonymous"], ["mount", "add", "y", "s3://b"]):
        code, _, err = run(args, capsys)
        assert (code, err) == (2, "headrace: mount path 'y' must begin with a slash: write '/y'\n")


def test_a_misspelt_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'status'?" in run(["stats"], capsys)[2].lower()
    assert "did you mean 'add'?" in run(["mount", "ad"], capsys)[2].lower()


def test_pin_and_free(served: ServedConsole, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pin", "/sales"], capsys)[1] == "/sales is pinned\n"
    assert run(["pin"], capsys)[1] == "/sales\n"
    assert run(["pin", "/sales", "--off"], capsys)[1] == "/sales is not pinned\n"
    assert run(["free", "-r", "/sales"], capsys)[1] == "freed 12.1 KiB\n"
    assert served.node.freed == [("/sales", True)]


def test_status_and_top_show_the_node(served: ServedConsole, capsys: pytest.CaptureFixture[str]) -> None:
    served.node.slow_key = "/b/\x1b[31mred"
    out = run(["status"], capsys)[1]
    assert "hit ratio 75.0 %" in out
    assert "refused the connection" in out
    assert "\x1b" not in out
    assert "\\x1b[31mred" in out
    assert json.loads(run(["status", "--json"], capsys)[1])["data_url"] == "http://127.0.0.1:9400"
    lines = run(["top", "--interval", "0.1", "--count", "2"], capsys)[1].splitlines()
    assert len(lines) == 2
    assert "requests/s" in lines[1]


def test_a_reader_that_left_is_no_traceback(home: Path) -> None:
    env = dict(os.environ)
    command = f"'{sys.executable}' -m headrace settings --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=env)
    assert "Traceback" not in done.stderr
