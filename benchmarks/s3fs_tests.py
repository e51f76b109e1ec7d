"""Runs the test suite of s3fs, from a checkout, against Headrace over a directory, or against any S3 server.

    python benchmarks/s3fs_tests.py --suite CHECKOUT [--endpoint URL --access-key ID --secret-key S] [--report FILE]

The suite makes itself a server in memory. Here its place is taken by the one under test: its buckets are emptied before each test,
and what its set-up asks for and a server refuses by name (versioning, policies) is left out, so that only the tests of that fail.
Prints each test that did not pass with the last line of what it said, and the counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from s3_tests import serving

LIMIT_S = 900
_MOTO = """
__version__ = "5.0.0"
"""
_SERVER = """
class ThreadedMotoServer:
    def __init__(self, **_options): pass
    def start(self): pass
    def stop(self): pass
"""
_PLUGIN = """
import os, boto3, pytest
from botocore.exceptions import ClientError

ENDPOINT = os.environ["UNDER_TEST"]

def make_client():
    client = boto3.client("s3", endpoint_url=ENDPOINT, region_name="us-east-1")
    for name in ("put_bucket_versioning", "put_bucket_policy"):
        setattr(client, name, _tolerant(getattr(client, name)))
    create = client.create_bucket
    client.create_bucket = lambda **wish: create(**{k: v for k, v in wish.items() if k != "ACL" or KEEPS})
    return client

KEEPS = os.environ["KEEPS_ACLS"] == "yes"

def _tolerant(call):
    def ask(**wish):
        try:
            return call(**wish)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("NotImplemented", "MethodNotAllowed"):
                raise
    return ask

def empty():
    client = boto3.client("s3", endpoint_url=ENDPOINT, region_name="us-east-1")
    for bucket in client.list_buckets()["Buckets"]:
        name = bucket["Name"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
            if keys:
                client.delete_objects(Bucket=name, Delete={"Objects": keys})
        for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", []):
            client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
        client.delete_bucket(Bucket=name)
    client.close()

def pytest_collection_modifyitems(items):
    for module in {item.module for item in items}:
        if hasattr(module, "endpoint_uri"):
            module.endpoint_uri = ENDPOINT
            module.get_boto3_client = make_client

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    empty()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", type=Path, required=True)
    parser.add_argument("--endpoint", default="", help="empty: Headrace over a directory of its own")
    parser.add_argument("--access-key", default="")
    parser.add_argument("--secret-key", default="")
    parser.add_argument("--report", type=Path, help="where pytest's XML report goes")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, under_test(wanted, Path(scratch)) as (endpoint, key_id, secret):
        report = wanted.report or Path(scratch) / "report.xml"
        run(wanted.suite, Path(scratch), endpoint, (key_id, secret), report.absolute(), keeps_acls=not wanted.endpoint)
        tell(report)


@contextmanager
def under_test(wanted: argparse.Namespace, root: Path) -> Iterator[tuple[str, str, str]]:
    """Where the server answers, and a key for it."""
    if wanted.endpoint:
        yield wanted.endpoint, wanted.access_key, wanted.secret_key
        return
    (root / "account").mkdir()
    secret = f"secret-of-this-run-{os.urandom(8).hex()}"
    mount = ["[[mount]]", 'path = "/"', f'store = "file://{root}/account"', 'write = "through"', "create_buckets = true",
             'freshness = "verify"', "acls = true"]  # fmt: skip
    with serving(root, {"main": secret}, mount, {}) as url:
        yield url, "main", secret


def run(suite: Path, root: Path, endpoint: str, key: tuple[str, str], report: Path, *, keeps_acls: bool) -> None:
    """The suite, with the server under test in the place of its own."""
    stand_in = root / "stand-in"
    (stand_in / "moto" / "moto_server").mkdir(parents=True)
    (stand_in / "moto" / "__init__.py").write_text(_MOTO)
    (stand_in / "moto" / "moto_server" / "__init__.py").write_text("")
    (stand_in / "moto" / "moto_server" / "threaded_moto_server.py").write_text(_SERVER)
    (stand_in / "against_server.py").write_text(_PLUGIN)
    environ = os.environ | {
        "UNDER_TEST": endpoint, "AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1], "AWS_DEFAULT_REGION": "us-east-1",
        "KEEPS_ACLS": "yes" if keeps_acls else "no",
        "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": f"{stand_in}:{suite.absolute()}",
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "against_server", "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=line",
         f"--junitxml={report}", "--timeout=60", suite.absolute() / "s3fs" / "tests" / "test_s3fs.py"],
        cwd=suite, env=environ, timeout=LIMIT_S, check=False,
    )  # fmt: skip


def tell(report: Path) -> None:
    """The tests that did not pass, why, and the counts."""
    counts: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = [child for child in case if child.tag in ("failure", "error", "skipped")]
        counts[kinds[0].tag if kinds else "passed"] += 1
        if kinds and kinds[0].tag != "skipped":
            print(f"{case.attrib['name']}: {kinds[0].attrib.get('message', '').splitlines()[0][:200]}")
    print(dict(counts))


if __name__ == "__main__":
    main()
