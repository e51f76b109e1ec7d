"""Prints a wrk script that sends signed GETs of one or more objects, each request signed beforehand.

    python wrk_script.py http://127.0.0.1:9400 KEY_ID SECRET /bucket/key [--range bytes=0-4095] [--ranges SIZE COUNT LENGTH]

The signatures hold for 15 minutes. With `--ranges`, COUNT different aligned ranges of LENGTH bytes
of an object of SIZE bytes are asked for in a fixed pseudo-random order.
"""

from __future__ import annotations

import argparse
import random
import time
from urllib.parse import urlsplit

from headrace.model.sigv4 import SigningIdentity, UnsignedRequest, quote_path, sign_headers


def signed_headers(endpoint: str, path: str, identity: SigningIdentity, byte_range: str) -> dict[str, str]:
    """All headers of one GET of `path` (not encoded)."""
    host = urlsplit(endpoint).netloc
    headers = [(b"host", host.encode())]
    if byte_range:
        headers.append((b"range", byte_range.encode()))
    request = UnsignedRequest(method=b"GET", path=quote_path(path.encode()), query=(), headers=tuple(headers))
    signed = dict(sign_headers(request, identity, time.time()))
    return {"Host": host, **({"Range": byte_range} if byte_range else {}), **signed}


def script(endpoint: str, paths: list[str], identity: SigningIdentity, ranges: list[str]) -> str:
    """The Lua text. Each thread walks through all requests, from a place of its own."""
    lines = ["local requests = {}", "local at = 0"]
    for path in paths:
        for byte_range in ranges or [""]:
            headers = signed_headers(endpoint, path, identity, byte_range)
            table = ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items())
            target = quote_path(path.encode()).decode()
            lines.append(f'requests[#requests + 1] = {{path = "{target}", headers = {{{table}}}}}')
    lines += [
        "local texts = {}",
        "function init(args)",
        '  for i, r in ipairs(requests) do texts[i] = wrk.format("GET", r.path, r.headers) end',
        "  math.randomseed(os.time())",
        "  at = math.random(#texts)",
        "end",
        "function request()",
        "  at = at % #texts + 1",
        "  return texts[at]",
        "end",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("endpoint")
    parser.add_argument("key_id")
    parser.add_argument("secret")
    parser.add_argument("path", nargs="+")
    parser.add_argument("--range", default="", dest="byte_range")
    parser.add_argument("--ranges", nargs=3, type=int, metavar=("SIZE", "COUNT", "LENGTH"))
    parser.add_argument("--region", default="us-east-1")
    options = parser.parse_args()
    identity = SigningIdentity(key_id=options.key_id, secret=options.secret, region=options.region)
    ranges = [options.byte_range] if options.byte_range else []
    if options.ranges:
        size, count, length = options.ranges
        order = random.Random(7)
        starts = [order.randrange(max(size // length, 1)) * length for _ in range(count)]
        ranges = [f"bytes={start}-{start + length - 1}" for start in starts]
    print(script(options.endpoint, options.path, identity, ranges), end="")


if __name__ == "__main__":
    main()
