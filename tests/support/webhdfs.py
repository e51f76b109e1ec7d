"""Ways to talk WebHDFS to a gateway: single requests, and Hadoop's own client."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from headrace.gateways.settings import GatewaySettings
from headrace.gateways.webhdfs.settings import WebHdfsSettings
from headrace.gateways.webhdfs.tokens import read_token, write_vlong
from headrace.policy.rules import Policy
from headrace.stores.store import Store
from support.gateway import RunningGateway, gateway
from support.hdfs import java_command, write_client_settings
from support.processes import require

USER = "etl"
TRUSTING = WebHdfsSettings(trust_user_name_from=("127.0.0.0/8",))


@dataclass
class Told:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def exception(self) -> str:
        return str(self.json["RemoteException"]["exception"])

    @property
    def message(self) -> str:
        return str(self.json["RemoteException"]["message"])


class Client:
    """Asks one gateway as `user`."""

    def __init__(self, host: str, port: int, user: str = USER) -> None:
        self.host = host
        self.port = port
        self.user = user

    def ask(self, method: str, path: str, op: str, **values: str) -> Told:
        """One request, without following anything. Dots in names of parameters are written as two underscores."""
        named = {name.replace("__", "."): value for name, value in values.items()}
        asked = {"op": op, **({"user.name": self.user} if self.user else {}), **named}
        return self.raw(method, f"/webhdfs/v1{quote(path)}?{urlencode(asked)}")

    def raw(self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Told:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(method, target, body, dict(headers or {}))
            answer = connection.getresponse()
            return Told(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def follow(self, told: Told, method: str, body: bytes | None = None) -> Told:
        """The second step of what was redirected."""
        assert told.status == 307, told
        place = urlsplit(told.headers["location"])
        assert (place.scheme, place.netloc) == ("http", f"{self.host}:{self.port}")
        return self.raw(method, f"{place.path}?{place.query}", body)

    def read(self, path: str, **values: str) -> Told:
        told = self.ask("GET", path, "OPEN", **values)
        return self.follow(told, "GET") if told.status == 307 else told

    def create(self, path: str, data: bytes, **values: str) -> Told:
        told = self.ask("PUT", path, "CREATE", **values)
        return self.follow(told, "PUT", data) if told.status == 307 else told

    def append(self, path: str, data: bytes) -> Told:
        told = self.ask("POST", path, "APPEND")
        return self.follow(told, "POST", data) if told.status == 307 else told

    def names(self, path: str) -> list[str]:
        return [one["pathSuffix"] for one in self.ask("GET", path, "LISTSTATUS").json["FileStatuses"]["FileStatus"]]


@contextmanager
def webhdfs(
    stores: dict[str, Store], *, settings: WebHdfsSettings = TRUSTING, anonymous: tuple[str, ...] = (),
    policy: Policy | None = None, writable: bool = True,
) -> Iterator[tuple[RunningGateway, Client]]:  # fmt: skip
    """A gateway over `stores`, and a client whose name it believes."""
    whole = GatewaySettings(sweep_s=0.05, webhdfs=settings)
    with gateway(stores, settings=whole, anonymous=anonymous, policy=policy, writable=writable) as running:
        yield running, Client(running.host, running.port)


class FsShell:
    """Hadoop's own client, with a gateway as its file system."""

    def __init__(self, folder: Path, place: str, *, user: str = USER, token: str = "") -> None:
        settings = {"fs.defaultFS": f"webhdfs://{place}"}
        self._environ = os.environ | {"HADOOP_USER_NAME": user}
        java, *rest = java_command(require("java"), folder)
        if token:
            # A client sends tokens only where security is on; what a realm and a KDC are called is never looked at then.
            settings["hadoop.security.authentication"] = "kerberos"
            rest = ["-Djava.security.krb5.realm=X", "-Djava.security.krb5.kdc=127.0.0.1:1", *rest]
            self._environ["HADOOP_TOKEN_FILE_LOCATION"] = str(folder / "credentials")
        write_client_settings(folder, settings)
        if token:
            (folder / "credentials").write_bytes(credentials_with(token, place))
        self._command = [java, *rest, "org.apache.hadoop.fs.FsShell"]
        self._folder = folder

    def run(self, *arguments: str, ok: bool = True, data: bytes | None = None) -> str:
        """What it prints; with `ok=False` what it complains of."""
        done = subprocess.run(
            [*self._command, *arguments], env=self._environ, input=data, cwd=self._folder, capture_output=True, timeout=100
        )
        told = done.stdout.decode() if ok else done.stderr.decode()
        assert (done.returncode == 0) == ok, f"{arguments}: {done.returncode}\n{done.stdout!r}\n{done.stderr.decode()[-3000:]}"
        return told


def credentials_with(token: str, place: str) -> bytes:
    """Hadoop's file of credentials with one token, for the file system at `place`."""
    known = read_token(token)

    def counted(data: bytes) -> bytes:
        return write_vlong(len(data)) + data

    service = counted(place.encode())
    packed = counted(known.identifier) + counted(known.password) + counted(known.kind.encode()) + service
    return b"HDTS\0" + write_vlong(1) + service + packed + write_vlong(0)
