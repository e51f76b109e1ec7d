"""The bare sketch that the gateway is measured against: signatures checked, mapped files written, nothing else.

    python sketch_server.py DIRECTORY KEY_ID SECRET

Serves the files of a directory as `/<bucket>/<name>` on a free port, which it prints. No policy,
no namespace, no cache, no limits, no errors: what is left when everything that makes a gateway is
taken away. Its rate is the ceiling of one such Python process.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import mmap
import socket
from pathlib import Path

import httptools
import uvloop

ONE_WRITE_BYTES = 64 * 1024
PIECE_BYTES = 256 * 1024
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"


class Files:
    """Mapped files by name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._maps: dict[str, memoryview] = {}

    def get(self, name: str) -> memoryview:
        view = self._maps.get(name)
        if view is None:
            with (self._directory / name).open("rb") as file:
                view = self._maps[name] = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        return view


class Signer:
    """Recomputes header signatures of one key."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._day_keys: dict[tuple[bytes, bytes], bytes] = {}

    def day_key(self, date: bytes, region: bytes) -> bytes:
        key = self._day_keys.get((date, region))
        if key is None:
            key = b"AWS4" + self._secret
            for step in (date, region, b"s3", b"aws4_request"):
                key = hmac.digest(key, step, "sha256")
            self._day_keys[date, region] = key
        return key

    def right(self, method: bytes, target: bytes, headers: dict[bytes, bytes]) -> bool:
        credential, signed, claimed = [
            part.partition(b"=")[2] for part in headers[b"authorization"][len(b"AWS4-HMAC-SHA256 ") :].split(b",")
        ]
        _, date, region, _, _ = credential.split(b"/")
        path, _, query = target.partition(b"?")
        lines = b"".join([b"%s:%s\n" % (name, headers[name]) for name in signed.split(b";")])
        canonical = b"\n".join((method, path, query, lines, signed, headers[b"x-amz-content-sha256"]))
        digest = hashlib.sha256(canonical).hexdigest().encode()
        text = b"AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s" % (headers[b"x-amz-date"], date, region, digest)
        return hmac.compare_digest(hmac.digest(self.day_key(date, region), text, "sha256").hex().encode(), claimed)


class Sketch(asyncio.Protocol):
    """One connection."""

    def __init__(self, files: Files, signer: Signer) -> None:
        self._files = files
        self._signer = signer
        self._paused = False
        self._rest: memoryview | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        transport.set_write_buffer_limits(1 << 20)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}

    def on_url(self, target: bytes) -> None:
        self._target = target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_message_complete(self) -> None:
        headers = self._headers
        if not self._signer.right(self._parser.get_method(), self._target, headers):
            self._transport.write(FORBIDDEN)
            return
        view = self._files.get(self._target.decode().rpartition("/")[2])
        wish = headers.get(b"range")
        if wish:
            first, last = wish[6:].split(b"-")
            start, end = int(first), min(int(last) + 1, len(view))
            head = (
                b'HTTP/1.1 206 Partial Content\r\ncontent-type: application/octet-stream\r\netag: "sketch"\r\n'
                b"content-range: bytes %d-%d/%d\r\ncontent-length: %d\r\n\r\n" % (start, end - 1, len(view), end - start)
            )
        else:
            start, end = 0, len(view)
            head = (
                b'HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\netag: "sketch"\r\n'
                b"accept-ranges: bytes\r\ncontent-length: %d\r\n\r\n" % end
            )
        if end - start <= ONE_WRITE_BYTES:
            self._transport.write(head + view[start:end].tobytes())
            return
        self._transport.write(head)
        self._rest = view[start:end]
        self._pump()

    def _pump(self) -> None:
        rest = self._rest
        while rest and not self._paused:
            self._transport.write(rest[:PIECE_BYTES])
            rest = rest[PIECE_BYTES:]
        self._rest = rest or None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._rest:
            self._pump()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("key_id")
    parser.add_argument("secret")
    options = parser.parse_args()
    files, signer = Files(options.directory), Signer(options.secret.encode())
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await asyncio.get_running_loop().create_server(lambda: Sketch(files, signer), sock=sock)
    print(sock.getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
