from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from headrace.console import checks
from headrace.console.checks import Level
from headrace.console.cli import main
from support.processes import free_port


@pytest.mark.parametrize(
    ("release", "level"), [("6.1.0-18-amd64", Level.OK), ("5.6.0", Level.OK), ("5.5.19", Level.FAILED), ("odd", Level.FAILED)]
)
def test_kernel(release: str, level: Level) -> None:
    assert checks.judge_kernel("Linux", release).level is level
    assert checks.judge_kernel("Darwin", release).level is Level.FAILED


def test_every_bad_finding_has_a_remedy() -> None:
    bad = [
        checks.judge_kernel("Linux", "4.1"),
        checks.judge_files(1024, 4096),
        checks.judge_locked_memory(65536, 10**9),
        checks.judge_disk(Path("/x"), 10**6, 0),
        checks.judge_disk(Path("/x"), 10**10, 10**12),
        checks.judge_sqlite((3, 40, 1)),
        checks.judge_clock(-3600, "http://store"),
    ]
    assert all(check.level is not Level.OK and check.remedy for check in bad)


def test_good_findings() -> None:
    good = [
        checks.judge_files(65536, 65536),
        checks.judge_locked_memory(65536, 0),
        checks.judge_locked_memory(-1, 10**12),
        checks.judge_disk(Path("/x"), 10**12, 10**10),
        checks.judge_sqlite((3, 53, 0)),
        checks.judge_clock(1.0, "http://store"),
    ]
    assert all(check.level is Level.OK and not check.remedy for check in good)


def test_a_port_that_is_taken_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert checks.check_port("data_listen", listen).level is Level.FAILED
    assert checks.check_port("data_listen", listen).level is Level.OK
    assert checks.check_port("data_listen", "nonsense").level is Level.FAILED


def test_a_store_without_a_clock_is_no_finding() -> None:
    assert checks.check_clock(f"http://127.0.0.1:{free_port()}", 0.0) is None


def test_doctor_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "headrace.toml"
        port = taken.getsockname()[1]
        config.write_text(
            f'[server]\nhome = "{tmp_path}/home"\ndata_listen = "127.0.0.1:{port}"\ncontrol_listen = "127.0.0.1:0"\n'
        )
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--json", "--config", str(config)])
    assert ended.value.code == 1
    failed = [check for check in json.loads(capsys.readouterr().out) if check["level"] == "failed"]
    assert [check["name"] for check in failed] == ["port"]
    assert "data_listen" in failed[0]["remedy"]
