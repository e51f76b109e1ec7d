"""The control plane without a server: the same rules over the same ledger, for commands that change it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.control.plane import ControlPlane
from headrace.ledger.ledger import Ledger
from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
from headrace.settings import Settings

ACTOR = "command line"


@contextmanager
def open_plane(settings: Settings) -> Iterator[ControlPlane]:
    """The control plane of a node that does not run."""
    clock = SystemClock()
    ledger = Ledger(settings.home, clock)
    try:
        yield ControlPlane(ledger, settings.control(), clock)
    finally:
        ledger.close()


def try_here(spec: MountSpec) -> bool:
    """List and read a little through `spec` from this process; whether anything is there.

    Raises the error that says what is wrong.
    """
    from headrace.wiring import Parts, try_mount  # noqa: PLC0415 - listing mounts needs no stores

    async def attempt() -> bool:
        return await try_mount(spec, Parts(SystemClock(), lambda _event: None, os.environ))

    return asyncio.run(attempt())
