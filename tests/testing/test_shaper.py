"""The link as a program of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from headrace.model.errors import SettingsError
from headrace.testing.link import Flapping, LinkState
from headrace.testing.shaper import main, parse_address, parse_flapping, parse_rate

SRC = str(Path(__file__).parents[2] / "src")


def test_rates_addresses_and_schedules_are_read_as_people_write_them() -> None:
    assert parse_rate("200mbit") == 25_000_000
    assert parse_rate("1gbit") == 125_000_000
    assert parse_rate("0") == 0
    assert parse_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_flapping("30s/500ms/refuse") == Flapping(30, 0.5, LinkState.REFUSE)


@pytest.mark.parametrize("text", ["200", "fast", "xmbit", "200MB"])
def test_a_rate_without_a_known_unit_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match="200mbit"):
        parse_rate(text)


def test_a_wrong_option_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--target", "nowhere"]) == 2
    assert "HOST:PORT" in capsys.readouterr().err


async def test_the_program_shapes_counts_and_obeys_its_control_port() -> None:
    size = 6_250_000

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(bytes(size))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(send, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "headrace.testing.shaper", "--target", f"127.0.0.1:{port}"),
        *("--rtt", "40ms", "--rate", "200mbit", "--control", "127.0.0.1:0"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SRC},
    )
    assert process.stdout is not None
    try:
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        started = time.monotonic()
        reader, writer = await asyncio.open_connection(*parse_address(ready["listen"]))
        writer.write(b"go\n")
        assert len(await reader.read()) == size
        assert 0.32 <= time.monotonic() - started < 0.6
        writer.close()
        answers, control = await asyncio.open_connection(*parse_address(ready["control"]))
        control.write(b"stats\nrefuse\nnonsense\n")
        stats, refused, wrong = [json.loads(await answers.readline()) for _ in range(3)]
        assert stats["down_bytes"] == size
        assert refused["state"] == "refuse"
        assert "blackhole" in wrong["error"]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*parse_address(ready["listen"]))
        control.close()
        process.send_signal(signal.SIGUSR1)
        assert json.loads(await asyncio.wait_for(process.stdout.readline(), 5))["connections_total"] == 1
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == 0
    finally:
        server.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
