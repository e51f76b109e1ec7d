"""`headrace fuse` as a process of its own, at a directory of the test's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.node import readable
from support.processes import wait_until


@dataclass
class FuseMount:
    """A mounted namespace, and what stands behind it."""

    root: Path
    home: Path
    config: Path
    process: subprocess.Popen[bytes]

    @property
    def data(self) -> Path:
        """Where the mount /data is."""
        return self.root / "data"

    def log(self) -> str:
        return (self.home / "fuse.log").read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def require_fuse() -> None:
    """Skip, with the reason, where nobody may mount."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is missing or may not be used here")
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        pytest.skip("mounting without root needs fusermount3 (apt install fuse3)")


def start_fuse(
    home: Path, config: str, *options: str, environ: dict[str, str] | None = None, config_path: Path | None = None
) -> FuseMount:
    """Start it and wait until the directory is there; `config` is added behind its `[server]` table.

    With `config_path`, that file is used instead, and the home that it names.
    """
    require_fuse()
    home.mkdir(parents=True, exist_ok=True)
    root = home / "mnt"
    with suppress(FileExistsError):  # where a mount was killed, even asking whether it is there fails
        root.mkdir()
    path = config_path or home / "headrace.toml"
    if config_path is None:
        path.write_text(f'[server]\nhome = "{home}/state"\n\n{config}')
    merged = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")} | (environ or {})
    with open(home / "fuse.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace", "--config", str(path), "fuse", str(root), "--json", *options],
            env=merged,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    if not readable(process.stdout.fileno(), 30) or not process.stdout.readline():
        process.kill()
        process.wait()
        raise AssertionError((home / "fuse.log").read_text())
    return FuseMount(root, home, path, process)


def end_fuse(mount: FuseMount) -> None:
    """Stop it, however it fares, and leave no mount behind."""
    if mount.process.poll() is None:
        mount.process.terminate()
        try:
            mount.process.wait(30)
        except subprocess.TimeoutExpired:
            mount.process.kill()
            mount.process.wait()
    if mount.process.stdout is not None:
        mount.process.stdout.close()
    unmount(mount.root)


def unmount(root: Path) -> None:
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    subprocess.run([*command, str(root)], capture_output=True, check=False)
    wait_until(lambda: not os.path.ismount(root), "the mount to go")


@contextmanager
def mounted(home: Path, config: str, *options: str, environ: dict[str, str] | None = None) -> Iterator[FuseMount]:
    mount = start_fuse(home, config, *options, environ=environ)
    try:
        yield mount
    finally:
        end_fuse(mount)
