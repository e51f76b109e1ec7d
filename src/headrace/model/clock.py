"""Time as a component, so that nothing that decides reads the machine's clock by itself."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one to measure with, one to show and to compare with other machines."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never jumps. Leases, freshness and timeouts use it."""

    def time(self) -> float:
        """Seconds since 1970 UTC; may jump. Signatures and dates shown to people use it."""


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)
