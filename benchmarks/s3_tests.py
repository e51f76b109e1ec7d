"""Runs a checkout of ceph/s3-tests against Headrace over a store, and against that store itself, and writes docs/CONFORMANCE.md.

    python benchmarks/s3_tests.py --suite CHECKOUT [--selection FILE]
                                  [--name NAME --store s3:// --endpoint URL --access-key ID --secret-key S]

The tests are those that `--selection` lists (one pytest id a line), else those that the page names. Without `--store`, Headrace
serves a directory of its own. Runs over other stores keep their columns of the page, and a reason that it gives for a failure
stays as long as the test fails over any store.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

PAGE = Path(__file__).parent.parent / "docs" / "CONFORMANCE.md"
TEST = re.compile(r"\| `(?P<test>[^`]+)` \|(?P<outcomes>.*)\|(?P<reason>[^|]*)\|")
RUN = re.compile(r"- Over (?P<name>[^:]+): .*")
THROUGH = "Headrace over "
UNEXPLAINED = "not explained yet"
ALIKE = "the store itself fails it as well"
KEYS = ("main", "alt", "tenant")
LIMIT_S = 1800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", type=Path, required=True)
    parser.add_argument("--selection", type=Path)
    parser.add_argument("--store", default="", help="an account: s3:// or file:///directory; empty: a directory of its own")
    parser.add_argument("--name", default="a directory", help="what the page calls the store")
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--access-key", default="")
    parser.add_argument("--secret-key", default="")
    parser.add_argument("--page", type=Path, default=PAGE)
    wanted = parser.parse_args()
    text = wanted.page.read_text() if wanted.page.exists() else ""
    page = read_page(text)
    tests = wanted.selection.read_text().split() if wanted.selection else list(page.reasons)
    if not tests:
        sys.exit("no tests: give --selection FILE, one pytest id a line")
    python = ensure_venv(wanted.suite)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        through = run_through_headrace(wanted, tests, python, root)
        direct: dict[str, str] = {}
        if wanted.endpoint:
            keys = dict.fromkeys(KEYS, (wanted.access_key, wanted.secret_key))
            direct = run_suite(wanted.suite, tests, python, wanted.endpoint, keys, root / "direct", owners=False)
    page.columns[THROUGH + wanted.name] = through
    page.columns[wanted.name] = direct
    day, commit = time.strftime("%Y-%m-%d", time.gmtime()), suite_commit(wanted.suite)
    page.runs[wanted.name] = f"{day}, suite at `{commit}`, {passed(through)} of {len(tests)} pass through Headrace" + (
        f"; against the store itself {passed(direct)}." if direct else "."
    )
    wanted.page.write_text(render(tests, page) + other_suites(text))
    print(f"{passed(through)} of {len(tests)} passed through Headrace: see {wanted.page}")


def ensure_venv(suite: Path) -> Path:
    """The suite's own packages, apart from ours."""
    home = Path(".run") / "s3-tests-venv"
    python = home.absolute() / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", suite / "requirements.txt"], check=True)
    return python


def suite_commit(suite: Path) -> str:
    done = subprocess.run(["git", "-C", suite, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def run_through_headrace(wanted: argparse.Namespace, tests: list[str], python: Path, root: Path) -> dict[str, str]:
    """Outcomes by test, of a node with the account mounted at `/`."""
    store = wanted.store
    if not store:
        (root / "account").mkdir()
        store = f"file://{root}/account"
    secrets = {name: f"{name}-secret-of-this-run-{os.urandom(8).hex()}" for name in KEYS}
    mount = ["[[mount]]", 'path = "/"', f'store = "{store}"', 'write = "through"', "create_buckets = true", 'freshness = "verify"',
             "anonymous = true" if wanted.store else "acls = true"]  # fmt: skip
    if wanted.endpoint:
        mount += [f'endpoint = "{wanted.endpoint}"', 'credentials = "env:S3_TESTS_STORE"']
    environ = {"S3_TESTS_STORE_ACCESS_KEY_ID": wanted.access_key, "S3_TESTS_STORE_SECRET_ACCESS_KEY": wanted.secret_key}
    with serving(root, secrets, mount, environ) as url:
        keys = {name: (name, secret) for name, secret in secrets.items()}
        return run_suite(wanted.suite, tests, python, url, keys, root / "through", owners=not wanted.store)


@contextmanager
def serving(root: Path, secrets: dict[str, str], mount: list[str], environ: dict[str, str]) -> Iterator[str]:
    """A node below `root` with these keys and this mount, until the end; its data port's URL."""
    lines = [
        "[server]",
        f'home = "{root}/state"',
        'data_listen = "127.0.0.1:0"',
        'control_listen = "127.0.0.1:0"',
        "processes = 1",
    ]
    for name in secrets:
        lines += ["[[key]]", f'id = "{name}"', f'secret = "env:S3_TESTS_{name.upper()}"']
    (root / "headrace.toml").write_text("\n".join([*lines, *mount]) + "\n")
    environ = environ | {f"S3_TESTS_{name.upper()}": secret for name, secret in secrets.items()}
    ours, theirs = os.pipe()
    node = subprocess.Popen(
        [sys.executable, "-m", "headrace", "--config", root / "headrace.toml", "up", "--once-ready-fd", str(theirs)],
        env=os.environ | environ, pass_fds=(theirs,),
    )  # fmt: skip
    os.close(theirs)
    try:
        with open(ours, "rb") as pipe:
            told = pipe.readline() if select.select([pipe], [], [], 60)[0] else b""
        if not told:
            sys.exit("the node did not start")
        yield str(json.loads(told)["data_url"])
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(60)


def run_suite(
    suite: Path, tests: list[str], python: Path, endpoint: str, keys: dict[str, tuple[str, str]], folder: Path, *, owners: bool
) -> dict[str, str]:
    """Outcomes by test of one run against one endpoint; `owners`: who has a bucket or an object is told by the key's id."""
    folder.mkdir()
    config, report = folder / "s3tests.conf", folder / "report.xml"
    config.write_text(suite_config(endpoint, keys, owners=owners))
    subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", f"--junitxml={report}", *tests],
        cwd=suite, env=os.environ | {"S3TEST_CONF": str(config)}, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    if not report.exists():
        sys.exit("the suite wrote no report")
    shutil.copy(report, Path(".run") / f"s3-tests-{folder.name}.xml")
    return read_report(report.read_text(), tests)


def suite_config(endpoint: str, keys: dict[str, tuple[str, str]], *, owners: bool) -> str:
    """What the suite wants to know. Sections for services that are not here must exist all the same."""
    place = urlsplit(endpoint)
    lines = ["[DEFAULT]", f"host = {place.hostname}", f"port = {place.port}", f"is_secure = {place.scheme == 'https'}",
             "ssl_verify = False", "[fixtures]", "bucket prefix = hr-{random}-", "iam name prefix = s3-tests-",
             "iam path prefix = /s3-tests/"]  # fmt: skip
    sections = {
        "s3 main": "main",
        "s3 alt": "alt",
        "s3 tenant": "tenant",
        "iam": "main",
        "iam root": "main",
        "iam alt root": "alt",
    }
    for section, name in sections.items():
        user = "headrace" if name == "main" and not owners else name
        key_id, secret = keys[name]
        lines += [f"[{section}]", f"access_key = {key_id}", f"secret_key = {secret}", f"user_id = {user}", f"display_name = {user}",
                  f"email = {section.replace(' ', '-')}@example.com", "api_name = us-east-1", "tenant = testx"]  # fmt: skip
    return "\n".join(lines) + "\n"


def read_report(text: str, tests: list[str]) -> dict[str, str]:
    """`passed`, `failed`, `error`, `skipped` or `not run` for each test."""
    found: dict[str, str] = {}
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}"
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[name] = {"failure": "failed"}.get(kinds[0], kinds[0]) if kinds else "passed"
    return {test: found.get(test, "not run") for test in tests}


@dataclass(frozen=True)
class Page:
    """What the page says."""

    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    """Outcomes by test, by what they are of."""
    reasons: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    """A line on the last run over each store."""


def read_page(text: str) -> Page:
    """The page as `render` writes it."""
    page = Page()
    for line in text.splitlines():
        if line.startswith("| Test |"):
            page.columns.update({name.strip(): {} for name in line.split("|")[2:-2]})
        elif found := RUN.fullmatch(line):
            page.runs[found["name"]] = line.partition(": ")[2]
        elif found := TEST.fullmatch(line):
            page.reasons[found["test"]] = found["reason"].strip()
            for outcomes, cell in zip(page.columns.values(), found["outcomes"].split("|"), strict=True):
                outcomes[found["test"]] = cell.strip()
    return page


def other_suites(text: str) -> str:
    """What the page says of other suites, below headings of their own: it stays."""
    _, heading, rest = text.partition("\n## ")
    return heading + rest


def passed(outcomes: dict[str, str]) -> int:
    return sum(outcome == "passed" for outcome in outcomes.values())


def render(tests: list[str], page: Page) -> str:
    """The page, with the tests that fail first."""
    columns = {name: outcomes for name, outcomes in page.columns.items() if any(outcomes.values())}
    lines = [
        "# Conformance", "",
        "What a selection of the public suite [ceph/s3-tests](https://github.com/ceph/s3-tests) says of Headrace. `make s3-tests SUITE=<checkout>`"
        " runs it again and writes this page; the suite itself is no part of the project. The store is an account mount at `/` with"
        ' `create_buckets = true`, `write = "through"`, `freshness = "verify"` and, over a directory, `acls = true`, else'
        " `anonymous = true`. Against a store itself, the suite has one user's keys for all of its users. Where the suite wants"
        " another answer than Amazon S3 documents, S3's is given, and the test fails.", "",
        *[f"- Over {name}: {line}" for name, line in page.runs.items()], "",
        f"| Test | {' | '.join(columns)} | Reason |", "|---" * (len(columns) + 2) + "|",
    ]  # fmt: skip
    rows = [(test, reason_of(test, columns, page.reasons.get(test, ""))) for test in tests]
    for test, reason in sorted(rows, key=lambda row: not row[1]):
        cells = " | ".join([outcomes.get(test, "") for outcomes in columns.values()])
        lines.append(f"| `{test}` | {cells} | {reason} |")
    return "\n".join(lines) + "\n"


def reason_of(test: str, columns: dict[str, dict[str, str]], kept: str) -> str:
    """Why it does not pass through Headrace; empty where it does, over every store."""
    failing = [
        name.removeprefix(THROUGH)
        for name, outcomes in columns.items()
        if name.startswith(THROUGH) and outcomes.get(test, "") not in ("passed", "")
    ]
    if not failing:
        return ""
    alike = all(columns.get(name, {}).get(test, "passed") != "passed" for name in failing)
    return kept or (ALIKE if alike else UNEXPLAINED)


if __name__ == "__main__":
    main()
