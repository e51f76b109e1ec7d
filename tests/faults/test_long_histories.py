"""Histories of 20,000 random steps for each seed and write mode: nothing acknowledged is lost or blended, whatever happens.

A failure names its seed and step; `HISTORY=back:2:1234` takes that history again up to that step alone, `HEADRACE_STEPS`
makes all of them longer. They lie in memory where that can be had: what a disk loses is for other tests, and syncing it took
half of the time.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.histories import History

STEPS = int(os.environ.get("HEADRACE_STEPS", "20000"))
MEMORY = Path("/dev/shm")
MODES = ("through", "back")


async def play(mode: str, seed: int, steps: int, home: Path) -> None:
    history = History(seed, home, back=mode == "back")
    try:
        await history.play(steps)
    except BaseException as error:
        place = f"HISTORY={mode}:{seed}:{len(history.taken)}"
        error.add_note(f"{place} after {', '.join(history.taken[-12:])}")
        raise


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else tmp_path, prefix="headrace-test-") as folder:
        yield Path(folder)
        gc.collect()  # processes that were left by a restart hold mappings, and with them descriptors, until they are collected


@pytest.mark.parametrize("mode", MODES)
async def test_short_histories(mode: str, home: Path) -> None:
    await play(mode, 0, 1_000, home)


@pytest.mark.slow
@pytest.mark.timeout(300 * max(1, STEPS // 20_000))
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
async def test_long_histories(mode: str, seed: int, home: Path) -> None:
    await play(mode, seed, STEPS, home)


@pytest.mark.skipif("HISTORY" not in os.environ, reason="HISTORY names no history to take again")
async def test_the_history_that_was_named(home: Path) -> None:
    mode, seed, steps = os.environ["HISTORY"].split(":")
    await play(mode, int(seed), int(steps), home)
