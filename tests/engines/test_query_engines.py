"""DuckDB, Polars and PyArrow write Parquet through a node and read it at the store, and the other way round."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pytest
from duckdb_extensions import import_extension

from support.lakes import REGION, Passage, Side

pytestmark = pytest.mark.servers

ROWS = 50_000


def table() -> pa.Table:
    day = datetime.date(2026, 11, 1)
    return pa.table(
        {
            "id": pa.array(range(ROWS)),
            "region": pa.array([f"r {number % 4}" for number in range(ROWS)]),
            "day": pa.array([day + datetime.timedelta(days=number % 7) for number in range(ROWS)]),
            "text": pa.array([f"{number * 7919 % 104729:x}" * 9 for number in range(ROWS)]),
        }
    )


@contextmanager
def duck(side: Side, folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"extension_directory": str(folder)}) as db:
        import_extension("httpfs", con=db)
        db.execute("LOAD httpfs; SET enable_progress_bar=false; SET s3_uploader_max_filesize='50GB'; SET threads=4")
        db.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{side.key_id}', SECRET '{side.secret}', REGION '{REGION}', "
            f"ENDPOINT '{side.endpoint.partition('://')[2]}', USE_SSL false, URL_STYLE 'path')"
        )
        yield db


def polars_options(side: Side) -> dict[str, str]:
    return {
        "aws_access_key_id": side.key_id, "aws_secret_access_key": side.secret, "aws_region": REGION,
        "aws_endpoint_url": side.endpoint, "aws_allow_http": "true", "aws_virtual_hosted_style_request": "false",
    }  # fmt: skip


def arrow_fs(side: Side) -> pa.fs.S3FileSystem:
    return pa.fs.S3FileSystem(
        access_key=side.key_id, secret_key=side.secret, endpoint_override=side.endpoint, region=REGION,
        force_virtual_addressing=False,
    )  # fmt: skip


def test_duckdb_copies_partitions_out(passage: Passage, prefix: str, tmp_path: Path) -> None:
    rows, place = table(), f"s3://{passage.bucket}/{prefix}"
    with duck(passage.writer, tmp_path) as db:
        db.register("rows", rows)
        db.execute(f"COPY rows TO '{place}/whole.parquet' (FORMAT parquet, ROW_GROUP_SIZE 5000)")
        for _ in range(2):
            db.execute(f"COPY rows TO '{place}/parts' (FORMAT parquet, PARTITION_BY (region, day), OVERWRITE_OR_IGNORE)")
        db.execute(f"COPY rows TO '{place}/rows.csv' (HEADER)")
    found = passage.found(prefix)
    assert len([name for name in found if name.startswith("parts/region=r%200/day=")]) >= 7, sorted(found)
    with duck(passage.reader, tmp_path) as db:
        for source in (
            f"read_parquet('{place}/whole.parquet')",
            f"read_parquet('{place}/parts/**/*.parquet')",
            f"'{place}/rows.csv'",
        ):
            assert db.sql(f"SELECT count(*), sum(id), count(DISTINCT text) FROM {source}").fetchone() == (
                ROWS, ROWS * (ROWS - 1) // 2, len(set(rows["text"].to_pylist())),
            )  # fmt: skip


def test_polars_writes_parquet(passage: Passage, prefix: str) -> None:
    frame, place = polars.from_arrow(table()), f"s3://{passage.bucket}/{prefix}"
    assert isinstance(frame, polars.DataFrame)
    to, from_ = polars_options(passage.writer), polars_options(passage.reader)
    frame.write_parquet(f"{place}/whole.parquet", storage_options=to, row_group_size=5000)
    frame.lazy().sink_parquet(f"{place}/sunk.parquet", storage_options=to)
    frame.write_csv(f"{place}/rows.csv", storage_options=to)
    passage.lake.settle()
    for name in ("whole", "sunk"):
        assert polars.read_parquet(f"{place}/{name}.parquet", storage_options=from_).equals(frame)
        found = polars.scan_parquet(f"{place}/{name}.parquet", storage_options=from_).filter(polars.col("id") == 777).collect()
        assert found.rows() == frame.filter(polars.col("id") == 777).rows()
    assert polars.read_csv(f"{place}/rows.csv", storage_options=from_, try_parse_dates=True).equals(frame)


def test_pyarrow_writes_datasets(passage: Passage, prefix: str) -> None:
    rows, root = table(), f"{passage.bucket}/{prefix}"
    writer, reader = arrow_fs(passage.writer), arrow_fs(passage.reader)
    options: dict[str, Any] = {"format": "parquet", "partitioning": ["region"], "existing_data_behavior": "delete_matching"}
    for _ in range(2):
        pa.dataset.write_dataset(rows, f"{root}/set", filesystem=writer, **options)
    pa.parquet.write_table(rows, f"{root}/whole.parquet", filesystem=writer, row_group_size=5000)
    with writer.open_output_stream(f"{root}/stream") as out:
        for number in range(12):
            out.write(bytes([number]) * (1 << 20))
    writer.copy_file(f"{root}/whole.parquet", f"{root}/copied.parquet")
    writer.move(f"{root}/stream", f"{root}/moved")
    writer.delete_file(f"{root}/copied.parquet")
    found = passage.found(prefix)
    assert found["moved"] == b"".join(bytes([number]) * (1 << 20) for number in range(12))
    assert not {"stream", "copied.parquet"} & set(found)
    read = pa.dataset.dataset(f"{root}/set", filesystem=reader, format="parquet", partitioning=["region"]).to_table()
    assert read.select(rows.column_names).sort_by("id").equals(rows)
    assert pa.parquet.read_table(f"{root}/whole.parquet", filesystem=reader).equals(rows)
    names = {info.base_name for info in reader.get_file_info(pa.fs.FileSelector(root))}
    assert names == {"set", "whole.parquet", "moved"}
    writer.delete_dir(f"{root}/set")
    assert set(passage.found(prefix)) == {"whole.parquet", "moved"}
