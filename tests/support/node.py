"""A real `headrace up` in a home of its own, on ports that the kernel chose."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from headrace.session import read_credentials


@dataclass
class RunningNode:
    """Where a node answers, and the process behind it."""

    home: Path
    config: Path
    process: subprocess.Popen[bytes]
    data: str = ""
    control: str = ""
    token: str = ""
    key_id: str = ""
    secret: str = ""
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def data_url(self) -> str:
        return f"http://{self.data}"

    def api(self, path: str, *, method: str = "GET", body: object = None) -> object:
        """The control port's answer as decoded JSON."""
        request = urllib.request.Request(f"http://{self.control}{path}", method=method)
        request.add_header("authorization", f"Bearer {self.token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def cli(self, *arguments: str, timeout_s: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`headrace …` as its own process, with this node's settings."""
        command = [sys.executable, "-m", "headrace", "--config", str(self.config), *arguments]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=timeout_s)
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def worker_pids(self) -> list[int]:
        """Process ids of the serving processes alive now."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        pids = []
        for child in children:
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            if b"headrace.node.worker" in command:
                pids.append(int(child))
        return pids


def readable(descriptor: int, deadline_s: float) -> bool:
    """Whether something, or the end, can be read in time. Any descriptor will do, which `select` cannot say."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(1000 * deadline_s))


def start_node(
    home: Path, config: str, *, processes: int = 2, environ: Mapping[str, str] | None = None, behind: Sequence[str] = ()
) -> RunningNode:
    """Start it and wait until it serves; `config` is added behind its `[server]` table, `behind` begins its command."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "headrace.toml"
    path.write_text(
        f'[server]\nhome = "{home}/state"\ndata_listen = "127.0.0.1:0"\ncontrol_listen = "127.0.0.1:0"\n'
        f"processes = {processes}\n\n{config}"
    )
    merged = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")} | dict(environ or {})
    ours, theirs = os.pipe()
    with open(home / "node.log", "ab") as log:
        process = subprocess.Popen(
            [*behind, sys.executable, "-m", "headrace", "--config", str(path), "up", "--once-ready-fd", str(theirs)],
            stdout=log,
            stderr=log,
            env=merged,
            pass_fds=(theirs,),
        )
    os.close(theirs)
    node = RunningNode(home=home / "state", config=path, process=process, environ=merged)
    with open(ours, "rb") as pipe:
        line = pipe.readline() if readable(pipe.fileno(), 30) else b""
    if not line:
        process.kill()
        process.wait()
        raise AssertionError(f"the node did not start:\n{(home / 'node.log').read_text()}")
    told = json.loads(line)
    node.data, node.control = told["data_url"].removeprefix("http://"), told["control_url"].removeprefix("http://")
    node.token = (node.home / "run" / "admin.token").read_text().strip()
    owner = read_credentials(node.home / "credentials")
    assert owner is not None, "the node wrote no credentials"
    node.key_id, node.secret = owner.key_id, owner.secret
    return node


def stop_node(node: RunningNode, *, timeout_s: float = 40) -> int:
    """SIGTERM and wait; the exit status."""
    if node.process.poll() is None:
        node.process.send_signal(signal.SIGTERM)
        try:
            node.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            node.process.kill()
            node.process.wait()
            raise
    return node.process.returncode


@contextmanager
def running_node(
    home: Path, config: str, *, processes: int = 2, environ: Mapping[str, str] | None = None, behind: Sequence[str] = ()
) -> Iterator[RunningNode]:
    """A node for the length of a block."""
    node = start_node(home, config, processes=processes, environ=environ, behind=behind)
    try:
        yield node
    finally:
        stop_node(node)
