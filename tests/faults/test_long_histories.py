"""Histories of 20,000 random steps a seed, over both write modes: nothing acknowledged is lost or blended, whatever happens.

A failure names its seed and step; `HISTORY=back:2:1234` takes that history again up to that step alone.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.histories import History

STEPS = 20_000
MODES = ("through", "back")


async def play(mode: str, seed: int, steps: int, home: Path) -> None:
    history = History(seed, home, back=mode == "back")
    try:
        await history.play(steps)
    except BaseException as error:
        place = f"HISTORY={mode}:{seed}:{len(history.taken)}"
        error.add_note(f"{place} after {', '.join(history.taken[-12:])}")
        raise


@pytest.mark.parametrize("mode", MODES)
async def test_short_histories(mode: str, tmp_path: Path) -> None:
    await play(mode, 0, 1_000, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
async def test_long_histories(mode: str, seed: int, tmp_path: Path) -> None:
    await play(mode, seed, STEPS // len(MODES), tmp_path)


@pytest.mark.skipif("HISTORY" not in os.environ, reason="HISTORY names no history to take again")
async def test_the_history_that_was_named(tmp_path: Path) -> None:
    mode, seed, steps = os.environ["HISTORY"].split(":")
    await play(mode, int(seed), int(steps), tmp_path)
