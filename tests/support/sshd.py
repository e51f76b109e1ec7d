"""A real OpenSSH server on a port that the kernel chose, with keys of its own."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.processes import Child, free_port, require


@dataclass(frozen=True)
class SshServer:
    port: int
    folder: Path
    child: Child

    @property
    def environ(self) -> Mapping[str, str]:
        """For `credentials = "env:F"`."""
        return {
            "F_USERNAME": getpass.getuser(),
            "F_KEY_FILE": str(self.folder / "user"),
            "F_KNOWN_HOSTS": str(self.folder / "known_hosts"),
        }

    def url(self, path: Path) -> str:
        return f"sftp://127.0.0.1:{self.port}{path}"


def make_key(path: Path) -> str:
    """A new key pair at `path`; the public half."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return path.with_name(path.name + ".pub").read_text()


@contextmanager
def sshd(folder: Path) -> Iterator[SshServer]:
    """Up at once; whoever runs the tests may log in with the key `folder/user`."""
    program, port = require("sshd"), free_port()
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it refuses to run as root without
    host = make_key(folder / "host")
    (folder / "authorized").write_text(make_key(folder / "user"))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nAuthorizedKeysFile {folder / 'authorized'}\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "MaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    child = Child([program, "-D", "-e", "-f", str(folder / "sshd_config")], folder / "sshd.log")
    try:
        child.wait_listening(port)
        yield SshServer(port, folder, child)
    finally:
        child.stop()
