"""How old what readers see is, on every door, while a writer behind our back stamps objects 20 times a second."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import peers
from headrace.client import Client
from headrace.testing.staleness import measure
from peers import KEY, SECRET, Peer
from report import Row, emit

FRESHNESS_S = (1.0, 5.0)
SECONDS = float(os.environ.get("HEADRACE_BENCH_STALENESS_SECONDS", "30"))
PROCESSES = 2
KEYS = [f"stamped/{number}" for number in range(10)]


def reader(peer: Peer, bucket: str) -> Callable[[str], bytes]:
    """With a connection of its own: the kernel spreads them over the serving processes."""
    client = client_of(peer)
    return lambda key: client.get_object(Bucket=bucket, Key=key)["Body"].read()


def client_of(peer: Peer):
    import boto3
    from botocore.config import Config

    config = Config(
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    return boto3.session.Session().client(
        "s3", endpoint_url=peer.url, aws_access_key_id=peer.key, aws_secret_access_key=peer.secret,
        region_name="us-east-1", config=config,
    )  # fmt: skip


def rows(store: Peer, node: Peer, config: str, freshness_s: float) -> list[Row]:
    bucket = f"fresh{freshness_s:g}"
    writer = client_of(store)
    with (
        Client.connect(config, endpoint=node.url, key_id=KEY, secret=SECRET, mode="remote") as remote,
        Client.connect(config, mode="embedded") as embedded,
    ):
        ages = measure(
            lambda key, body: writer.put_object(Bucket=bucket, Key=key, Body=body),
            {
                f"S3, {PROCESSES} processes": [reader(node, bucket) for _ in range(4)],
                "Python, remote": [lambda key: remote.read(f"/{bucket}/{key}")] * 2,
                "Python, embedded": [lambda key: embedded.read(f"/{bucket}/{key}")] * 2,
            },
            keys=KEYS,
            seconds=SECONDS,
        )
    return [
        Row(
            f"freshness {freshness_s:g} s: {door}: oldest of {age.reads:,} reads, s (half are at most {age.median_s:.2f} s old)",
            age.most_s,
            freshness_s + 1.0,
            "at most",
            [age.most_s],
        )
        for door, age in ages.items()
    ]


def main() -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        store = stack.enter_context(peers.seaweed(work))
        environ = {"ORIGIN_ACCESS_KEY_ID": KEY, "ORIGIN_SECRET_ACCESS_KEY": SECRET, "BENCH_SECRET": SECRET}
        os.environ.update(environ)
        mounts = ""
        for freshness_s in FRESHNESS_S:
            bucket = f"fresh{freshness_s:g}"
            client_of(store).create_bucket(Bucket=bucket)
            mounts += f'[[mount]]\npath = "/{bucket}"\nstore = "s3://{bucket}"\nendpoint = "{store.url}"\n'
            mounts += f'credentials = "env:ORIGIN"\nfreshness = "{freshness_s:g}s"\n'
        node = stack.enter_context(peers.headrace(work, mounts, processes=PROCESSES, env=environ))
        config = str(work / "node" / "headrace.toml")
        found = [row for freshness_s in FRESHNESS_S for row in rows(store, node, config, freshness_s)]
        emit("staleness", "Staleness while objects change at the store 20 times a second", found, rounds=1)


if __name__ == "__main__":
    main()
