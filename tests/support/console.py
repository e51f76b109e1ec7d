"""The control port served by uvicorn in a thread, over a fake node."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from headrace.console.app import build_app
from headrace.console.client import AdminClient
from headrace.control.plane import ControlPlane
from headrace.control.settings import ControlSettings
from headrace.ledger.ledger import Ledger
from headrace.model.clock import SystemClock
from headrace.model.mounts import MountSpec
from headrace.node.home import Home
from support.fake_node import FakeNode


class ServedConsole:
    """Where it listens, and what it serves."""

    def __init__(self, home: Path, plane: ControlPlane, node: FakeNode, port: int) -> None:
        self.home = home
        self.plane = plane
        self.node = node
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.client = AdminClient(self.url, plane.admin_token())


@contextmanager
def served_console(home: Path, node: FakeNode) -> Iterator[ServedConsole]:
    ledger = Ledger(home, SystemClock())
    settings = ControlSettings(
        home=home, mounts=(MountSpec("/fixed", "s3://fixed"), MountSpec("/sales", "s3://sales")), hosts=("console.example",)
    )
    plane = ControlPlane(ledger, settings, SystemClock())
    app = build_app(plane, node)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=3)
    server = uvicorn.Server(config)
    started = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        async def serve() -> None:
            running = asyncio.ensure_future(server.serve(sockets=[listening]))
            while not server.started and not running.done():
                await asyncio.sleep(0.005)
            started.set()
            await running

        thread = threading.Thread(target=lambda: asyncio.run(serve()), name="console")
        thread.start()
        assert started.wait(20)
        port = listening.getsockname()[1]
        node_home = Home(home)
        node_home.prepare()
        node_home.write_addresses("http://127.0.0.1:9400", f"http://127.0.0.1:{port}")
        try:
            yield ServedConsole(home, plane, node, port)
        finally:
            server.should_exit = True
            thread.join(20)
            ledger.close()
            assert not thread.is_alive()
