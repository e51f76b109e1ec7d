"""Children of a test run: kernel-chosen ports, waiting until they answer, logs kept, stopped by their own pid."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_DEADLINE_S = 60.0


def require(program: str) -> str:
    """The path of a server's program. Without it the test is skipped; with `CI=true` it fails."""
    places = (Path(sys.executable).parent, ROOT / ".servers/node_modules/.bin")
    for place in places:
        if (place / program).exists():
            return str(place / program)
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found:
        return found
    message = f"{program} is not installed: run scripts/ensure-servers.sh"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def free_port(*, also_offset: int = 0, below: int = 65536) -> int:
    """A port that the kernel says is free on 127.0.0.1; with `also_offset`, so is the one that far above it."""
    for _ in range(1000):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            if port + also_offset >= 65536 or port >= below:
                continue
            try:
                if also_offset:
                    second.bind(("127.0.0.1", port + also_offset))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port found")


def answers(port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def wait_until(check: Callable[[], bool], what: str, *, deadline_s: float = _DEADLINE_S) -> None:
    """Poll until `check` holds. Raises `TimeoutError` that names `what`."""
    end = time.monotonic() + deadline_s
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline_s:.0f} s in vain: {what}")
        time.sleep(0.02)


class Child:
    """A started program. Its output goes to `log`; it dies with this process."""

    def __init__(
        self, command: Sequence[str], log: Path, *, environ: dict[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        self.log = log
        self.name = Path(command[0]).name
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_listening(self, port: int, *, deadline_s: float = _DEADLINE_S) -> None:
        """Until the port accepts, and the listener is this child (or a child of its session)."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
            return answers(port)

        try:
            wait_until(ready, f"{self.name} listening on port {port}", deadline_s=deadline_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.tail()}") from None
        if not self._owns(port):
            raise RuntimeError(f"port {port} is served by another process than {self.name} ({self.pid})")

    def tail(self, lines: int = 20) -> str:
        """The end of the child's output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Ask the child to end, then insist. May be called twice."""
        if self.process.poll() is None and grace_s > 0:
            self.process.terminate()
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        elif self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _owns(self, port: int) -> bool:
        inodes = _listening_inodes(port)
        return any(inodes & _socket_inodes(pid) for pid in _session_pids(self.pid))


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def _session_pids(session: int) -> list[int]:
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == session:
                    pids.append(int(entry.name))
            except ProcessLookupError:
                continue
    return pids


def _socket_inodes(pid: int) -> set[str]:
    names = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.add(str(descriptor.readlink()))
        except OSError:
            continue
    return names
