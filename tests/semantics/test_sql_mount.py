"""A database behind a node: an unmodified engine reads its tables and sees changes within the mount's freshness."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from support.node import running_node
from support.node_client import client_of, closed_clients

pytestmark = pytest.mark.servers
__all__ = ["closed_clients"]


@pytest.mark.parametrize("residency", ["disk", "memory", "none"])
def test_tables_are_read_over_s3_and_changes_are_seen(tmp_path: Path, residency: str) -> None:
    database = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    database.execute("CREATE TABLE sales (amount INTEGER)")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50000)"
    database.execute(f"INSERT INTO sales {numbers} SELECT i FROM n")
    config = (
        f'[[mount]]\npath = "/shop"\nstore = "sql://{tmp_path}/shop.db"\nfreshness = "verify"\nresidency = "{residency}"\n'
        'write = "through"\n'
    )
    with running_node(tmp_path / "node", config, processes=2) as node:
        client = client_of(node)
        assert [entry["Key"] for entry in client.list_objects_v2(Bucket="shop")["Contents"]] == ["tables/sales.parquet"]
        for extra in range(1, 6):
            found = pq.read_table(io.BytesIO(client.get_object(Bucket="shop", Key="tables/sales.parquet")["Body"].read()))
            assert found.num_rows == 49_999 + extra
            database.execute("INSERT INTO sales VALUES (1)")
    database.close()
