"""Iceberg and Delta tables are made and changed through a node and read at the store, and the other way round."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import StaticTable

from support.lakes import REGION, Lake, Passage, Side

pytestmark = pytest.mark.servers


def rows(first: int, count: int = 1000) -> pa.Table:
    ids = range(first, first + count)
    return pa.table({"id": pa.array(ids), "text": pa.array([f"text {number}" for number in ids])})


def iceberg_options(side: Side) -> dict[str, str]:
    return {
        "s3.endpoint": side.endpoint, "s3.access-key-id": side.key_id, "s3.secret-access-key": side.secret, "s3.region": REGION,
        "s3.force-virtual-addressing": "false", "py-io-impl": f"{PyArrowFileIO.__module__}.{PyArrowFileIO.__name__}",
    }  # fmt: skip


def delta_options(side: Side) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": side.key_id, "AWS_SECRET_ACCESS_KEY": side.secret, "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": side.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        "aws_conditional_put": "etag",
    }  # fmt: skip


def ids(table: Any) -> list[int]:
    return sorted(table["id"].to_pylist())


def test_iceberg(passage: Passage, prefix: str, tmp_path: Path) -> None:
    place = f"s3://{passage.bucket}/{prefix}"
    catalog = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=place, **iceberg_options(passage.writer))
    try:
        catalog.create_namespace("sales")
        table = catalog.create_table("sales.rows", schema=rows(0).schema)
        table.append(rows(0))
        table.append(rows(1000))
        table.delete("id < 500")
        table.overwrite(rows(5000, 10), overwrite_filter="id >= 1500")
        expected = [*range(500, 1500), *range(5000, 5010)]
        passage.lake.settle()
        for side in (passage.writer, passage.reader):
            there = StaticTable.from_metadata(table.metadata_location, properties=iceberg_options(side))
            assert ids(there.scan().to_arrow()) == expected
            assert len(there.history()) == len(table.history())
        table.append(rows(9000, 1))
        there = StaticTable.from_metadata(table.metadata_location, properties=iceberg_options(passage.reader))
        passage.lake.settle()
        assert ids(there.scan(row_filter="id > 6000").to_arrow()) == [9000]
        catalog.drop_table("sales.rows")
    finally:
        catalog.engine.dispose()


def test_delta(passage: Passage, prefix: str) -> None:
    place = f"s3://{passage.bucket}/{prefix}"
    to, from_ = delta_options(passage.writer), delta_options(passage.reader)
    write_deltalake(place, rows(0), storage_options=to)
    write_deltalake(place, rows(1000), mode="append", storage_options=to)
    DeltaTable(place, storage_options=to).delete("id < 500")
    passage.lake.settle()
    assert ids(pa.table(DeltaTable(place, storage_options=from_).to_pyarrow_table())) == [*range(500, 2000)]
    write_deltalake(place, rows(7, 3), mode="overwrite", storage_options=to)
    table = DeltaTable(place, storage_options=to)
    table.create_checkpoint()
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    passage.lake.settle()
    there = DeltaTable(place, storage_options=from_)
    assert there.version() == table.version()
    assert ids(there.to_pyarrow_table()) == [7, 8, 9]


def test_delta_writers_on_both_sides_lose_nothing(lake: Lake, prefix: str) -> None:
    """Every commit is a conditional put of the next log entry: who comes second tries the one behind it."""
    place, sides = f"s3://{lake.bucket}/{prefix}", (lake.gate, lake.store, lake.gate)
    write_deltalake(place, rows(0, 1), storage_options=delta_options(lake.store))

    def append(writer: int) -> None:
        for number in range(4):
            first = (1 + 4 * writer + number) * 100
            write_deltalake(place, rows(first, 10), mode="append", storage_options=delta_options(sides[writer]))

    with ThreadPoolExecutor(len(sides)) as pool:
        list(pool.map(append, range(len(sides))))
    lake.settle()
    expected = [0, *(number * 100 + offset for number in range(1, 13) for offset in range(10))]
    for side in (lake.gate, lake.store):
        table = DeltaTable(place, storage_options=delta_options(side))
        assert table.version() == 12
        assert ids(table.to_pyarrow_table()) == expected
