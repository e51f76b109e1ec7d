"""Listening sockets: one per worker on one port, owned by the supervisor."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from headrace.model.errors import SettingsError

_BACKLOG = 1024


def parse_address(text: str) -> tuple[str, int]:
    """`host:port`, IPv6 hosts in brackets. Raises `SettingsError`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{text!r} is not an address: write host:port, such as 127.0.0.1:9400")
    return host.strip("[]"), int(port)


def listen_many(address: str, count: int) -> list[socket.socket]:
    """`count` sockets that share one port; with port 0 the kernel chooses it. Raises `SettingsError`.

    The port is tried exclusively first: `SO_REUSEPORT` alone would join a stranger's listeners.
    """
    host, port = parse_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets: list[socket.socket] = []
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            if port:
                probe.listen(1)
        for _ in range(count):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            port = sock.getsockname()[1]
            sock.listen(_BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise SettingsError(
            f"cannot listen on {address}: {error.strerror}; stop what listens there, or set another address under [server]"
        ) from error
    return sockets


def listen_unix(path: Path) -> socket.socket:
    """A Unix listening socket that only its owner may connect to; a stale file is replaced."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    old = os.umask(0o177)
    try:
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        raise SettingsError(f"cannot listen on {path}: {error.strerror or error}; a shorter [server] home may help") from error
    finally:
        os.umask(old)
    sock.listen(_BACKLOG)
    return sock


def show_address(sock: socket.socket) -> str:
    """`host:port` that a client on this machine can use."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  shown, not bound
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
