"""A real OpenStack Swift: one proxy with its S3 door, one account, container and object server, each on a port of its own."""

from __future__ import annotations

import getpass
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support.processes import ROOT, Child, free_port, require, wait_until
from support.servers import S3Server

_BIN = ROOT / ".servers/swift/bin"
_PIPELINE = (
    "catch_errors gatekeeper healthcheck cache listing_formats bulk tempurl s3api tempauth copy symlink slo dlo "
    "versioned_writes proxy-logging proxy-server"
)
ACCESS_KEY, SECRET_KEY = "test:tester", "testing"


@contextmanager
def swift(folder: Path) -> Iterator[S3Server]:
    """Up in about 5 s. Its S3 door signs for `us-east-1`."""
    if not (_BIN / "swift-proxy-server").exists():
        message = f"{_BIN} has no Swift: run scripts/ensure-servers.sh"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    ports = {name: free_port() for name in ("account", "container", "object", "memcached", "proxy")}
    _write_settings(folder, ports)
    with ExitStack() as stack:

        def start(name: str, *command: str) -> Child:
            child = Child(command, folder / f"{name}.log", cwd=folder)
            stack.callback(child.stop, grace_s=0)
            child.wait_listening(ports[name])
            return child

        start("memcached", require("memcached"), "-l", "127.0.0.1", "-p", str(ports["memcached"]), "-u", getpass.getuser())
        for kind in ("account", "container", "object"):
            start(kind, str(_BIN / f"swift-{kind}-server"), str(folder / f"{kind}.conf"), "-v")
        proxy = start("proxy", str(_BIN / "swift-proxy-server"), str(folder / "proxy.conf"), "-v")
        endpoint = f"http://127.0.0.1:{ports['proxy']}"
        wait_until(lambda: _is_healthy(endpoint), "Swift's proxy answers")
        yield S3Server(endpoint, proxy, ACCESS_KEY, SECRET_KEY)


def _is_healthy(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/healthcheck", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _write_settings(folder: Path, ports: dict[str, int]) -> None:
    (folder / "srv/d1").mkdir(parents=True)
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n")
    common = f"bind_ip = 127.0.0.1\nswift_dir = {folder}\nworkers = 0\nuser = {getpass.getuser()}\nmount_check = false\n"
    for kind in ("account", "container", "object"):
        (folder / f"{kind}.conf").write_text(
            f"[DEFAULT]\n{common}devices = {folder}/srv\nbind_port = {ports[kind]}\n"
            f"[pipeline:main]\npipeline = {kind}-server\n[app:{kind}-server]\nuse = egg:swift#{kind}\n"
        )
        for step in (("create", "4", "1", "0"), ("add", f"r1z1-127.0.0.1:{ports[kind]}/d1", "1"), ("rebalance",)):
            ring = [str(_BIN / "swift-ring-builder"), f"{kind}.builder", *step]
            subprocess.run(ring, cwd=folder, check=True, capture_output=True, timeout=30)
    filters = {
        "catch_errors": "",
        "gatekeeper": "",
        "healthcheck": "",
        "cache": f"memcache_servers = 127.0.0.1:{ports['memcached']}",
        "listing_formats": "",
        "bulk": "",
        "tempurl": "",
        "s3api": "auth_pipeline_check = false\ns3_acl = false\nlocation = us-east-1",
        "tempauth": f"user_test_tester = {SECRET_KEY} .admin",
        "copy": "",
        "symlink": "",
        "slo": "",
        "dlo": "",
        "versioned_writes": "allow_object_versioning = true",
        "proxy-logging": "",
    }
    eggs = {"cache": "memcache", "proxy-logging": "proxy_logging"}
    sections = "".join(f"[filter:{name}]\nuse = egg:swift#{eggs.get(name, name)}\n{more}\n" for name, more in filters.items())
    (folder / "proxy.conf").write_text(
        f"[DEFAULT]\n{common}bind_port = {ports['proxy']}\n[pipeline:main]\npipeline = {_PIPELINE}\n"
        f"[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n{sections}"
    )
