"""The demo: its parts here, and all of it against real servers at a small scale."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.console.demo_queries import same_rows
from headrace.console.demo_report import HEAD, Measured, Run, draw_chart, figures, table_rows
from headrace.console.demo_servers import free_ports, port_or_free
from headrace.console.printer import print_json
from support.processes import require, wait_until

ROWS = [
    Measured("one", Run(10.0, 2**20), Run(11.0, 2**20), Run(0.5, 0)),
    Measured("two", Run(2.0, 2**10), Run(2.0, 2**10), Run(1.0, 0)),
]


def test_the_table_ends_with_the_sum() -> None:
    rows = table_rows(ROWS)
    assert all(len(row) == len(HEAD) for row in rows)
    assert rows[0] == ("one", "10.00 s", "11.00 s", "0.50 s", "1.0 MiB", "1.0 MiB", "0 B", "20.0 ×")
    assert rows[-1][0] == "all"
    assert rows[-1][-1] == "8.0 ×"


def test_json_tells_what_the_table_shows_in_units_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(figures(ROWS))
    assert json.loads(capsys.readouterr().out)[0] == {
        "query": "one",
        "direct": {"seconds": 10.0, "link_bytes": 2**20},
        "cold": {"seconds": 11.0, "link_bytes": 2**20},
        "warm": {"seconds": 0.5, "link_bytes": 0},
        "speed_up": 20.0,
    }


def test_the_chart_is_a_picture(tmp_path: Path) -> None:
    draw_chart(ROWS, tmp_path / "chart.png", link="a slow link")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_answers_are_equal_up_to_the_order_of_floating_sums() -> None:
    assert same_rows([(1, "a", 0.1 + 0.2)], [(1, "a", 0.3)])
    assert same_rows([(float("nan"),)], [(float("nan"),)])
    assert not same_rows([(1, 2.0)], [(1, 2.001)])
    assert not same_rows([(1,)], [(1,), (2,)])
    assert not same_rows([(1,)], [(1, 2)])


def test_a_taken_port_is_left_to_its_owner() -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = owner.getsockname()[1]
        assert port_or_free(port) != port


def test_ports_for_the_store_have_room_for_grpc() -> None:
    ports = free_ports(6)
    assert len(set(ports)) == 6
    assert max(ports) + 10_000 < 65_536


def _children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_whole_demo_answers_equally_keeps_its_data_and_leaves_nothing_running(tmp_path: Path) -> None:
    require("weed")
    require("tpchgen-cli")
    command = [sys.executable, "-m", "headrace", "demo", "--dir", str(tmp_path), "--scale", "0.01"]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    once = subprocess.run([*command, "--once", "--json"], capture_output=True, text=True, timeout=300, check=False, env=environ)
    assert once.returncode == 0, once.stderr[-2000:]
    assert once.stderr.count("equal answers") == 8
    told = json.loads(once.stdout)
    assert len(told["queries"]) == 8
    assert told["chart"] == str(tmp_path / "demo.png")
    assert (tmp_path / "demo.png").exists()

    log = tmp_path / "second.log"
    with log.open("wb") as output:
        second = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
    try:
        wait_until(
            lambda: "Ctrl-C ends everything" in log.read_text() or second.poll() is not None, "demo serves", deadline_s=200
        )
        assert "there from an earlier run" in log.read_text()
        children = _children(second.pid)
        assert len(children) == 3
    finally:
        second.send_signal(signal.SIGINT)
        second.wait(60)
    assert second.returncode == 0
    assert not any(_alive(child) for child in children)
