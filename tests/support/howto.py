"""The how-to pages: a node with the data that their lines speak of, and their lines run against it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from support.node import RunningNode, running_node
from support.processes import ROOT

PAGES = ROOT / "docs" / "how-to"


@contextmanager
def sales_node(folder: Path) -> Iterator[RunningNode]:
    """`/sales/2026/part-{0,1,2}.parquet`: one column `amount` with 0 to 2999. Writes go through."""
    store = folder / "corp-sales"
    (store / "2026").mkdir(parents=True)
    for part in range(3):
        amounts = range(part * 1000, part * 1000 + 1000)
        pq.write_table(pa.table({"amount": list(amounts)}), store / "2026" / f"part-{part}.parquet")
    config = '[gateway.webhdfs]\ntrust_user_name_from = ["127.0.0.1"]\n\n'
    config += f'[[mount]]\npath = "/sales"\nstore = "file://{store}"\nwrite = "through"\n'
    with running_node(folder / "home", config, processes=1) as node:
        yield node


def blocks_of(page: Path, language: str) -> list[str]:
    """The blocks of a page that are written in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def lines_of(page: Path, language: str) -> str:
    """All these blocks, one behind the other."""
    return "\n".join(blocks_of(page, language))


def environ_of(node: RunningNode) -> dict[str, str]:
    """What a page may take as given."""
    return os.environ | {
        "HEADRACE_HOME": str(node.home),
        "HEADRACE_CONFIG": str(node.config),
        "HEADRACE_DATA": node.data,
        "HEADRACE_ACCESS_KEY_ID": node.key_id,
        "HEADRACE_SECRET_ACCESS_KEY": node.secret,
    }


def run_lines(command: list[str], node: RunningNode, cwd: Path, *, timeout_s: float = 100, **environ: str) -> str:
    """Run a page's lines in an empty folder; what they printed. Fails with what they said unless they end well."""
    done = subprocess.run(
        command, env=environ_of(node) | environ, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout
