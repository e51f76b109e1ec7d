"""All 22 questions of TPC-H, asked through a node over a real store: each engine answers as it does on local files."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from duckdb_extensions import import_extension

from support.engines import chosen, python_of, s3a_jars
from support.lakes import Lake
from support.processes import require

pytestmark = [pytest.mark.engines, pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]

SCALE = "0.02"
HOMES = {
    "duckdb": "", "polars": "", "datafusion": "frames", "daft": "frames", "chdb": "clickhouse", "spark": "spark", "sail": "sail",
}  # fmt: skip
"""Which group's environment an engine lives in; in none: in that of the tests."""
UNASKED = {"daft": {"1", "8", "9", "14", "21", "22"}}
"""Questions that an engine's SQL cannot ask, of local files either."""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, folder = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("tpch")
    command = [require("tpchgen-cli"), "parquet", "-s", SCALE, f"--output-dir={made}", "--quiet", "--no-progress"]
    subprocess.run(command, check=True)
    with duckdb.connect() as db:  # written anew: the types that the generator notes for Arrow are not known to all engines
        for file in made.iterdir():
            db.execute(f"COPY (FROM read_parquet('{file}')) TO '{folder / file.name}' (FORMAT parquet)")
    return folder


@pytest.fixture(scope="module")
def remote(all_lakes: dict[str, Lake], local: Path) -> Lake:
    lake = all_lakes["through"]
    client = lake.store.client()
    for file in sorted(local.iterdir()):
        client.upload_file(str(file), lake.bucket, f"tpch/{file.name}")
    client.close()
    return lake


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with duckdb.connect(config={"extension_directory": str(tmp_path_factory.mktemp("duckdb"))}) as db:
        import_extension("tpch", con=db)
        db.execute("LOAD tpch")
        return {str(number): query for number, query in db.execute("FROM tpch_queries()").fetchall()}


def answers(engine: str, root: str, access: dict[str, str] | None, queries: dict[str, str]) -> dict[str, Any]:
    python = python_of(HOMES[engine]) if HOMES[engine] else sys.executable
    script = str(Path(__file__).with_name("tpch_answers.py"))
    asked = json.dumps({"root": root, "access": access, "queries": queries})
    environ = os.environ | {"S3A_JARS": s3a_jars(), "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [python, script, engine], input=asked, env=environ, capture_output=True, text=True, timeout=140, check=False
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("answers: ")]
    assert found, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    answered: dict[str, Any] = json.loads(found[0].removeprefix("answers: "))
    return answered


def differs(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return not math.isclose(one, other, rel_tol=tolerance)
    return bool(one != other)


def alike(one: list[Any], other: list[Any], tolerance: float) -> bool:
    return len(one) == len(other) and not any(
        len(row) != len(its) or any(map(differs, row, its, [tolerance] * len(row))) for row, its in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("engine", [engine for engine, home in HOMES.items() if not home or home in chosen()])
def test_answers_equal_those_on_local_files(engine: str, local: Path, remote: Lake, queries: dict[str, str]) -> None:
    access = {"host": remote.gate.endpoint.partition("://")[2], "key": remote.gate.key_id, "secret": remote.gate.secret}
    expected = answers(engine, str(local), None, queries)
    found = answers(engine, f"s3://{remote.bucket}/tpch", access, queries)
    unasked = {number: said for number, said in expected.items() if isinstance(said, str)}
    assert set(unasked) == UNASKED.get(engine, set()), unasked
    assert {number for number, said in found.items() if isinstance(said, str)} == set(unasked), found
    other = {number for number in expected if number not in unasked and not alike(found[number], expected[number], 1e-9)}
    assert not other, {number: (found[number][:2], expected[number][:2]) for number in other}
