"""A real PostgreSQL in a folder of its own, on a port that the kernel chose."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from support.processes import Child, free_port, wait_until

USER, PASSWORD = "owner", "owners-password-5d1c"


@dataclass(frozen=True)
class PostgresServer:
    port: int
    child: Child

    @property
    def url(self) -> str:
        return f"sql://127.0.0.1:{self.port}/work"

    @property
    def environ(self) -> Mapping[str, str]:
        """The owner's login, for `credentials = "env:P"`."""
        return {"P_USERNAME": USER, "P_PASSWORD": PASSWORD}

    def connect(self, database: str = "work") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of its owner, each statement committed by itself."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=USER, password=PASSWORD, autocommit=True, connect_timeout=5
        )


def _program(name: str) -> str:
    places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which(name, path=":".join([*places, os.environ.get("PATH", "")]))
    if found:
        return found
    message = f"{name} is not installed: run scripts/ensure-servers.sh"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def postgres(folder: Path) -> Iterator[PostgresServer]:
    """Up in about 3 s, with an empty database `work`."""
    initdb, server = _program("initdb"), _program("postgres")
    as_user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        for place in (folder, *folder.parents):
            if place.stat().st_uid == 0 and place != Path("/") and "pytest" in str(place):
                place.chmod(place.stat().st_mode | 0o011)
        shutil.chown(folder, "postgres")
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    data, port = folder / "data", free_port()
    made = [
        *as_user,
        initdb,
        "-N",
        "-D",
        str(data),
        "-U",
        USER,
        "-A",
        "scram-sha-256",
        f"--pwfile={password}",
        "--no-instructions",
    ]
    subprocess.run([*made, "-E", "UTF8", "--locale=C.UTF-8"], check=True, capture_output=True, timeout=60, cwd=folder)
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off", "shared_buffers": "16MB"}
    options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
    child = Child([*as_user, server, "-D", str(data), "-p", str(port), *options], folder / "postgres.log", cwd=folder)
    running = PostgresServer(port, child)
    try:
        child.wait_listening(port)
        wait_until(lambda: _accepts(running), "PostgreSQL accepts connections")
        with running.connect("postgres") as connection:
            connection.execute("CREATE DATABASE work")
        yield running
    finally:
        child.stop()


def _accepts(server: PostgresServer) -> bool:
    try:
        server.connect("postgres").close()
    except psycopg.OperationalError:
        return False
    return True
