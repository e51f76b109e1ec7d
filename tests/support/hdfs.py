"""A real HDFS: one NameNode and one DataNode of Hadoop 2.7.3, each on ports that the kernel chose."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.processes import ROOT, Child, free_port, require, wait_until

_JARS = ROOT / ".servers/hadoop-2.7.3"
_DEBIAN = [
    Path("/usr/share/java") / f"{name}.jar" for name in ("jersey1-core", "jersey1-server", "jersey1-servlet", "jsr311-api")
]
_SERVER = "org.apache.hadoop.hdfs.server"
_OPENED = ("--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.nio=ALL-UNNAMED")
_EXPORTED = ("--add-exports=java.base/sun.nio.ch=ALL-UNNAMED", "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED")
_LOGGING = (
    "log4j.rootLogger=WARN,c\nlog4j.appender.c=org.apache.log4j.ConsoleAppender\n"
    "log4j.appender.c.target=System.err\nlog4j.appender.c.layout=org.apache.log4j.SimpleLayout\n"
)
USER = "root"
LIGHT = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""A program that is up soon."""
FULL_SPEED = ("-Xmx1g", "-XX:+UseSerialGC")
"""One that is measured."""
_PLAIN = re.compile(r"[A-Za-z0-9./_-]{1,200}")


@dataclass(frozen=True)
class HdfsServer:
    """Where the NameNode speaks WebHDFS (`web`) and RPC (`rpc`), both `host:port`; helpers act behind Headrace's back."""

    web: str
    rpc: str
    namenode: Child
    datanode: Child
    java: tuple[str, ...]

    def touch(self, paths: Sequence[str]) -> None:
        """Make many empty files, by Hadoop's own client: its protocol needs a tenth of the time."""
        command = [*self.java, "org.apache.hadoop.fs.FsShell", "-touchz", *paths]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    def request(self, method: str, path: str, data: bytes | None = None, **query: str) -> bytes:
        """One operation, redirects followed. Raises `urllib.error.HTTPError`."""
        asked = urllib.parse.urlencode({"user.name": USER, **query})
        url = f"http://{self.web}/webhdfs/v1{urllib.parse.quote(path)}?{asked}"
        if data is not None:
            url = self._redirect(method, url)
        headers = {"content-type": "application/octet-stream"}
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30) as answer:
            return bytes(answer.read())

    def put(self, path: str, data: bytes) -> None:
        if _PLAIN.fullmatch(path):
            self.request("PUT", path, data, op="CREATE", overwrite="true")
            return
        # Not at its own path: this release's DataNode decodes paths twice, and takes no long ones.
        aside = f"/behind/{uuid.uuid4().hex}"
        self.request("PUT", aside, data, op="CREATE")
        self.request("PUT", path.rpartition("/")[0] or "/", op="MKDIRS")
        self.request("PUT", aside, op="RENAME", destination=path, renameoptions="OVERWRITE")

    def delete(self, path: str) -> None:
        self.request("DELETE", path, op="DELETE", recursive="true")

    @staticmethod
    def _redirect(method: str, url: str) -> str:
        class Stop(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: object) -> None:
                return None

        try:
            urllib.request.build_opener(Stop).open(urllib.request.Request(url, method=method), timeout=30)
        except urllib.error.HTTPError as answer:
            with answer:
                if answer.code == 307:
                    return str(answer.headers["location"])
                raise
        raise AssertionError("the NameNode named no DataNode")


@dataclass(frozen=True)
class Security:
    """How a cluster knows who asks: settings of Hadoop, and options of Java."""

    settings: Mapping[str, str]
    options: tuple[str, ...]


@contextmanager
def hdfs(folder: Path, limits: tuple[str, ...] = LIGHT, *, security: Security | None = None) -> Iterator[HdfsServer]:
    """Up in about 8 s. With `security` it is on its way only: whoever asks needs keys to learn more."""
    java = require("java")
    if not _JARS.is_dir() or not all(jar.exists() for jar in _DEBIAN):
        message = f"{_JARS} or Debian's jersey1 jars are not there: run scripts/ensure-servers.sh"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    ports = {name: free_port() for name in ("rpc", "web", "data", "data_web", "data_ipc")}
    _write_settings(folder, ports, security.settings if security is not None else {})
    command = java_command(java, folder, (*limits, *(security.options if security is not None else ())))
    with ExitStack() as stack:

        def start(name: str, *arguments: str) -> Child:
            child = Child([*command, f"{_SERVER}.{name}", *arguments], folder / f"{name}.log", cwd=folder)
            stack.callback(child.stop, grace_s=0)
            return child

        formatting = start("namenode.NameNode", "-format", "-nonInteractive")
        assert formatting.process.wait(60) == 0, formatting.tail()
        namenode = start("namenode.NameNode")
        namenode.wait_listening(ports["web"])
        datanode = start("datanode.DataNode")
        server = HdfsServer(f"127.0.0.1:{ports['web']}", f"127.0.0.1:{ports['rpc']}", namenode, datanode, command)
        if security is None:
            wait_until(lambda: _accepts_writes(server), f"HDFS accepts writes; see {namenode.log} and {datanode.log}")
        yield server


def java_command(java: str, folder: Path, limits: tuple[str, ...] = LIGHT) -> tuple[str, ...]:
    """How a program of Hadoop is begun with the settings in `folder`."""
    jars = [str(jar) for jar in (*sorted(_JARS.glob("*.jar")), *_DEBIAN)]
    return (
        java,
        *limits,
        "-Djava.net.preferIPv4Stack=true",
        *_OPENED,
        *_EXPORTED,
        "-cp",
        ":".join([f"{folder}/conf", f"{folder}/www", *jars]),
    )


def write_client_settings(folder: Path, values: Mapping[str, str]) -> None:
    """What `java_command` needs for a program that speaks to a cluster which is there already."""
    (folder / "conf").mkdir(parents=True)
    _write_xml(folder / "conf/core-site.xml", values)
    (folder / "conf/log4j.properties").write_text(_LOGGING)


def _write_settings(folder: Path, ports: Mapping[str, int], more: Mapping[str, str]) -> None:
    at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    (folder / "conf").mkdir()
    for name in ("hdfs", "datanode", "secondary"):
        place = folder / "www/webapps" / name / "WEB-INF"
        place.mkdir(parents=True)
        (place / "web.xml").write_text('<web-app version="2.5" xmlns="http://java.sun.com/xml/ns/javaee"/>')
    (folder / "www/webapps/static").mkdir()
    core = {"fs.defaultFS": f"hdfs://{at['rpc']}", "hadoop.tmp.dir": f"{folder}/data"}
    own = {
        "dfs.replication": "1",
        "dfs.namenode.rpc-address": at["rpc"],
        "dfs.namenode.http-address": at["web"],
        "dfs.datanode.address": at["data"],
        "dfs.datanode.http.address": at["data_web"],
        "dfs.datanode.ipc.address": at["data_ipc"],
        "dfs.datanode.hostname": "127.0.0.1",
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        "dfs.namenode.safemode.extension": "0",
        "dfs.namenode.fs-limits.min-block-size": "1048576",
        "dfs.blocksize": "4194304",
    }
    _write_xml(folder / "conf/core-site.xml", core)
    _write_xml(folder / "conf/hdfs-site.xml", {**own, **more})
    (folder / "conf/log4j.properties").write_text(_LOGGING)


def _write_xml(path: Path, values: Mapping[str, str]) -> None:
    properties = [f"<property><name>{name}</name><value>{value}</value></property>" for name, value in values.items()]
    path.write_text(f"<configuration>{''.join(properties)}</configuration>")


def _accepts_writes(server: HdfsServer) -> bool:
    try:
        server.put("/ready", b"x")
        server.delete("/ready")
    except (OSError, urllib.error.URLError):
        return False
    return True
