"""One open file of the kernel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.streaming import Stream


@dataclass(slots=True, eq=False)
class OpenFile:
    """What is known of it between its open and its release."""

    handle: int
    inode: Inode
    writes: bool
    passed: bool = False
    """Whether the kernel reads and writes it by itself."""
    expected: int = 0
    """Where a forward reader's next request begins."""
    forward: int = -1
    """Where the last request began that was such a one."""
    stream: Stream | None = None
    beginning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a stream is begun: of requests that come together, one begins it."""
