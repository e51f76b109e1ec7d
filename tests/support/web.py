"""Plain web servers over a directory: nginx with index pages, and Python's own, which knows neither ranges nor ETags."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.processes import Child, free_port
from support.servers import nginx


@contextmanager
def nginx_files(folder: Path, root: Path, *, more: str = "") -> Iterator[str]:
    """The URL of an nginx that serves `root` and shows index pages; `more` goes into its server block."""
    port = free_port()
    block = (
        "types { text/plain txt; text/html html; } default_type text/plain;\n"
        f"server {{ listen 127.0.0.1:{port}; root {root}; autoindex on; large_client_header_buffers 4 16k;\n{more}\n}}"
    )
    with nginx(folder, block, port=port) as server:
        yield server.endpoint


@contextmanager
def python_files(folder: Path, root: Path) -> Iterator[str]:
    """The URL of Python's `http.server` over `root`."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        "--directory",
        str(root),
        "--protocol",
        "HTTP/1.1",
        str(port),
    ]
    child = Child(command, folder / "http-server.log")
    try:
        child.wait_listening(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stop()
