"""What a process's callers have written, told to the supervisor: soon, each path once, and never more than so much at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.model.events import WriteServed
from headrace.node.messages import Event, Wrote

GATHER_S = 0.1
MAX_PATHS = 256
_CHANGES_NOTHING = frozenset({"CreateMultipartUpload", "UploadPart", "UploadPartCopy", "AbortMultipartUpload"})


class Written:
    """Gathers paths for a moment. Of too many only their mounts are told."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._paths: set[str] = set()
        self._mounts: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, event: WriteServed) -> None:
        """A write was answered. In the loop's thread; never raises, never blocks."""
        if event.status >= 400 or event.operation in _CHANGES_NOTHING:
            return
        if len(self._paths) < MAX_PATHS:
            self._paths.add(event.path)
        else:
            self._mounts.add(event.mount)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        paths, self._paths, mounts, self._mounts = self._paths, set(), self._mounts, set()
        self._tell(Wrote(tuple(sorted(paths | mounts))))
