"""A namespace mounted at a directory, from the mount to the unmount."""

from __future__ import annotations

import asyncio
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

from headrace.gateways import fsspec as calls
from headrace.gateways.fuse.device import MountOptions, mount
from headrace.gateways.fuse.handing import Wholes
from headrace.gateways.fuse.inodes import Inodes
from headrace.gateways.fuse.modes import Modes
from headrace.gateways.fuse.server import Server
from headrace.gateways.fuse.shared import FuseOptions, Shared
from headrace.gateways.fuse.staged import StagingArea
from headrace.model.errors import SettingsError
from headrace.namespace.namespace import Namespace

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def serve(
    namespace: Namespace,
    mountpoint: Path,
    *,
    wholes: Wholes,
    area: StagingArea,
    how: MountOptions,
    options: FuseOptions,
    ready: Callable[[], None],
) -> int:
    """Serve `namespace` at `mountpoint` until it is unmounted or a signal ends it; how many written files were not stored.

    `ready` is called when it is there. Raises `SettingsError`, `NotFound` when `options.path` is nothing, and what asking for
    it raises.
    """
    root = options.path.strip("/")
    node = await calls.stat(namespace, root)
    if node.info is not None:
        raise SettingsError(f"/{root} is an object: mount a directory", path=root)
    if not how.read_only:
        area.new().close()
    device = await asyncio.to_thread(mount, mountpoint, how)
    defaults = options.defaults
    modes = Modes(stat.S_IFDIR | defaults.dir_mode, defaults.uid, defaults.gid, time.time_ns())
    server = Server(Shared(namespace, device, Inodes(root, modes), options, area, time.time_ns), wholes)
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, server.stop)
    try:
        ready()
        return await server.run()
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        await asyncio.to_thread(device.unmount)
        device.close()
