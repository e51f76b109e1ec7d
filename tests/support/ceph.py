"""A real Ceph RGW: one monitor, one OSD in memory, one gateway."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.processes import Child, free_port, require, wait_until
from support.servers import ACCESS_KEY, SECRET_KEY, S3Server

_SETTINGS = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
keyring = {folder}/keyring
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
[osd.0]
keyring = {folder}/osd/keyring
[client.rgw.a]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
"""


@contextmanager
def ceph(folder: Path) -> Iterator[S3Server]:
    """Ceph's object gateway over a cluster of one, up in about 15 s."""
    for program in ("ceph-mon", "ceph-osd", "radosgw", "ceph"):
        require(program)
    for name in ("mon", "osd", "rgw", "run"):
        (folder / name).mkdir()
    fsid, port, v2, v1 = str(uuid.uuid4()), free_port(), free_port(), free_port()
    environ = {"CEPH_CONF": str(folder / "ceph.conf")}
    (folder / "ceph.conf").write_text(_SETTINGS.format(folder=folder, fsid=fsid, v1=v1, v2=v2, port=port))

    def tool(*command: str, given: str = "") -> str:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environ}
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-800:]}")
        return done.stdout

    _make_keys(tool, folder)
    tool("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]", "--fsid", fsid, f"{folder}/monmap")
    tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", f"{folder}/monmap", "--keyring", f"{folder}/keyring")
    with ExitStack() as stack:

        def start(*command: str) -> Child:
            child = Child(command, folder / f"{command[0]}.out", environ=environ)
            stack.callback(child.stop, grace_s=0)
            return child

        start("ceph-mon", "-f", "-i", "a").wait_listening(v2)
        secret = tool("ceph-authtool", "--gen-print-key").strip()
        tool("ceph-authtool", "-C", f"{folder}/osd/keyring", "-n", "osd.0", "-a", secret)
        osd = str(uuid.uuid4())
        tool("ceph", "osd", "new", osd, "-i", "-", given=json.dumps({"cephx_secret": secret}))
        tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        tool("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default")
        start("ceph-osd", "-f", "-i", "0")
        wait_until(lambda: "1 up" in tool("ceph", "osd", "stat"), "the OSD is up")
        gateway = start("radosgw", "-f", "-n", "client.rgw.a")
        gateway.wait_listening(port)
        user = ("--uid=test", "--display-name=test", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
        tool("radosgw-admin", "user", "create", *user)
        yield S3Server(f"http://127.0.0.1:{port}", gateway)


def _make_keys(tool: object, folder: Path) -> None:
    assert callable(tool)
    ring = f"{folder}/keyring"
    tool("ceph-authtool", "-C", ring, "-g", "-n", "mon.", "--cap", "mon", "allow *")
    everything = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
    tool("ceph-authtool", ring, "-g", "-n", "client.admin", *everything)
    tool("ceph-authtool", ring, "-g", "-n", "client.rgw.a", "--cap", "mon", "allow rwx", "--cap", "osd", "allow rwx")
