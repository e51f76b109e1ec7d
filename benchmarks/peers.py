"""The servers that Headrace is measured beside: each started on a free loopback port, stopped by its process id."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY, SECRET = "benchkey", "benchsecret-7f3a"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Peer:
    """A server under load. `prefix` comes before `/bucket/key` in its URLs; `pid` is the process to account."""

    name: str
    url: str
    pids: tuple[int, ...]
    signed: bool
    prefix: str = ""
    key: str = KEY
    secret: str = SECRET


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def process(
    command: list[str], *, log: Path, cpu: int | None = None, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A child for the length of a block; `cpu` pins it and all that it starts."""
    pinned = ["taskset", "-c", str(cpu), *command] if cpu is not None else command
    with open(log, "ab") as out:
        child = subprocess.Popen(pinned, stdout=out, stderr=out, env={**os.environ, **(env or {})}, start_new_session=True)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def wait_port(port: int, child: subprocess.Popen[bytes], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise RuntimeError(f"{child.args} ended with {child.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing listens on {port} after {seconds} s")


@contextmanager
def seaweed(work: Path, *, cpu: int | None = None) -> Iterator[Peer]:
    """SeaweedFS, all roles in one process, with its S3 door."""
    root = work / "weed"
    root.mkdir()
    identity = {"name": "b", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (root / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = {name: _weed_port() for name in ("master", "volume", "filer", "s3", "iceberg", "lance")}
    command = [
        str(BIN / "weed"), "server", f"-dir={root}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
        f"-master.port={ports['master']}", f"-volume.port={ports['volume']}", f"-filer.port={ports['filer']}",
        f"-s3.port={ports['s3']}", f"-s3.config={root / 's3.json'}", "-master.volumeSizeLimitMB=1024", "-volume.max=200",
        "-master.telemetry=false", f"-s3.port.iceberg={ports['iceberg']}", f"-s3.port.lance={ports['lance']}",
    ]  # fmt: skip
    with process(command, log=work / "weed.log", cpu=cpu) as child:
        wait_port(ports["s3"], child, seconds=60)
        yield Peer("SeaweedFS S3", f"http://127.0.0.1:{ports['s3']}", (child.pid,), signed=True)


def upload(peer: Peer, bucket: str, data: Path) -> None:
    import boto3
    from botocore.config import Config

    config = Config(request_checksum_calculation="when_required", s3={"addressing_style": "path"})
    s3 = boto3.client(
        "s3", endpoint_url=peer.url, aws_access_key_id=peer.key, aws_secret_access_key=peer.secret,
        region_name="us-east-1", config=config,
    )  # fmt: skip
    s3.create_bucket(Bucket=bucket)
    for path in sorted(data.iterdir()):
        s3.upload_file(str(path), bucket, path.name)


def _weed_port() -> int:
    # Each of its ports has a gRPC twin 10,000 above.
    while True:
        port = free_port()
        if port < 55000:
            return port


@contextmanager
def rclone(work: Path, origin: Peer, *, cpu: int | None = None, writes_through: bool = False) -> Iterator[Peer]:
    """`rclone serve s3` over the same origin: with a full VFS cache or, with `writes_through`, such that the origin gets each write."""
    port = free_port()
    config = work / "rclone.conf"
    config.write_text(
        f"[origin]\ntype = s3\nprovider = Other\nendpoint = {origin.url}\naccess_key_id = {origin.key}\n"
        f"secret_access_key = {origin.secret}\nforce_path_style = true\nregion = us-east-1\n"
    )
    command = [
        str(BIN / "rclone"), "--config", str(config), "--cache-dir", str(work / "rclone-cache"), "serve", "s3", "origin:",
        "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--vfs-cache-mode", "off" if writes_through else "full",
        "--vfs-fast-fingerprint", "--no-modtime", "--vfs-cache-max-size", "20G", "--dir-cache-time", "1h",
    ]  # fmt: skip
    with process(command, log=work / "rclone.log", cpu=cpu) as child:
        wait_port(port, child)
        yield Peer("rclone serve s3", f"http://127.0.0.1:{port}", (child.pid,), signed=True)


@contextmanager
def rclone_local(work: Path, root: Path) -> Iterator[Peer]:
    """`rclone serve s3` over a local directory."""
    port = free_port()
    command = [
        str(BIN / "rclone"), "--cache-dir", str(work / "rclone-local"), "serve", "s3", str(root), "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{KEY},{SECRET}", "--vfs-fast-fingerprint", "--no-modtime", "--dir-cache-time", "1h",
    ]  # fmt: skip
    with process(command, log=work / "rclone-local.log") as child:
        wait_port(port, child)
        yield Peer("rclone serve s3", f"http://127.0.0.1:{port}", (child.pid,), signed=True)


@contextmanager
def juicefs(work: Path, *, cpu: int | None = None) -> Iterator[Peer]:
    """The JuiceFS gateway over a local object directory and SQLite."""
    root = work / "juicefs"
    root.mkdir()
    port, meta = free_port(), f"sqlite3://{root}/meta.db"
    subprocess.run(
        [str(BIN / "juicefs"), "format", "--storage", "file", "--bucket", f"{root}/objects/", meta, "bench"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    command = [
        str(BIN / "juicefs"), "gateway", "--no-usage-report", "--multi-buckets", "--cache-dir", str(root / "cache"), meta,
        f"127.0.0.1:{port}",
    ]  # fmt: skip
    env = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET}
    with process(command, log=work / "juicefs.log", cpu=cpu, env=env) as child:
        wait_port(port, child)
        yield Peer("JuiceFS gateway", f"http://127.0.0.1:{port}", (child.pid,), signed=True)


_NGINX = """
{user}worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush off; tcp_nodelay on; keepalive_requests 1000000;
  client_body_temp_path {root}/b; proxy_temp_path {root}/t; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  proxy_cache_path {root}/cache levels=1:2 keys_zone=c:64m max_size=20g inactive=10h use_temp_path=off;
  upstream files {{ server 127.0.0.1:{files}; keepalive 16; }}
  server {{ listen 127.0.0.1:{files}; root {data}; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://files; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache c; proxy_cache_valid 200 206 10h; proxy_cache_lock on; proxy_ignore_headers Cache-Control Expires Vary;
      proxy_set_header Authorization ""; proxy_force_ranges on;
    }}
  }}
}}
"""


@contextmanager
def nginx(work: Path, data: Path, *, cpu: int | None = None) -> Iterator[Peer]:
    """nginx `proxy_cache` over files that another nginx server of the same process reads; checks no signature."""
    root = work / "nginx"
    root.mkdir()
    port, files = free_port(), free_port()
    (root / "nginx.conf").write_text(
        _NGINX.format(root=root, data=data, port=port, files=files, user="user root; " if os.getuid() == 0 else "")
    )
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    command = [binary, "-c", str(root / "nginx.conf"), "-e", str(root / "error.log")]
    with process(command, log=work / "nginx.log", cpu=cpu) as child:
        wait_port(port, child)
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        yield Peer("nginx proxy_cache", f"http://127.0.0.1:{port}", (child.pid, *map(int, children)), signed=False)


@contextmanager
def sketch(work: Path, data: Path, *, cpu: int | None = None) -> Iterator[Peer]:
    """The bare uvloop + httptools + SigV4 + mmap sketch."""
    command = [sys.executable, str(Path(__file__).parent / "sketch_server.py"), str(data / "bench"), KEY, SECRET]
    pinned = ["taskset", "-c", str(cpu), *command] if cpu is not None else command
    with open(work / "sketch.log", "ab") as err:
        child = subprocess.Popen(pinned, stdout=subprocess.PIPE, stderr=err)
    try:
        if child.stdout is None:
            raise RuntimeError("no output")
        yield Peer("bare sketch", f"http://127.0.0.1:{int(child.stdout.readline())}", (child.pid,), signed=True)
    finally:
        child.terminate()
        child.wait(10)


@contextmanager
def headrace(
    work: Path, mounts: str, *, processes: int = 1, cpu: int | None = None, name: str = "node", env: dict[str, str] | None = None
) -> Iterator[Peer]:
    """`headrace up` with `mounts` (TOML)."""
    home = work / name
    home.mkdir(exist_ok=True)
    config = home / "headrace.toml"
    config.write_text(
        f'[server]\nhome = "{home}/state"\ndata_listen = "127.0.0.1:0"\ncontrol_listen = "127.0.0.1:0"\nprocesses = {processes}\n'
        f'\n[[key]]\nid = "{KEY}"\nsecret = "env:BENCH_SECRET"\n\n{mounts}'
    )
    ours, theirs = os.pipe()
    command = [sys.executable, "-m", "headrace", "--config", str(config), "up", "--once-ready-fd", str(theirs)]
    pinned = ["taskset", "-c", str(cpu), *command] if cpu is not None else command
    # Where byte code may not be written every start compiles every module, which no installation does.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ = {
        **inherited,
        "BENCH_SECRET": SECRET,
        "ORIGIN_ACCESS_KEY_ID": KEY,
        "ORIGIN_SECRET_ACCESS_KEY": SECRET,
        **(env or {}),
    }
    with open(work / f"{name}.log", "ab") as out:
        child = subprocess.Popen(pinned, stdout=out, stderr=out, env=environ, pass_fds=(theirs,))
    os.close(theirs)
    try:
        with open(ours, "rb") as pipe:
            line = pipe.readline()
        if not line:
            raise RuntimeError((work / f"{name}.log").read_text())
        yield Peer("Headrace", json.loads(line)["data_url"], tuple(_tree(child.pid)), signed=True)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(60)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found.extend(_tree(int(text)))
    return found


def worker_pids(peer: Peer) -> list[int]:
    """The serving processes among a node's."""
    return [pid for pid in peer.pids if b"headrace.node.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
