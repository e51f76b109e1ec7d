"""The demo's questions, asked by DuckDB and Polars of an S3 endpoint, whichever it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headrace.console.demo_data import FLIGHTS, TPCH
from headrace.console.demo_servers import REGION

Rows = list[tuple[Any, ...]]

_TPCH_TABLES = ("customer", "lineitem", "nation", "orders", "part", "supplier")
_FLIGHT_TABLES = ("airlines", "flights", "planes", "weather")


@dataclass(frozen=True, slots=True)
class Access:
    """An S3 endpoint and a key for it."""

    endpoint: str
    key_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `ask` opens everything anew, so that no engine remembers an earlier answer."""

    name: str
    ask: Callable[[Access, Path], Rows]


def same_rows(one: Sequence[tuple[Any, ...]], other: Sequence[tuple[Any, ...]]) -> bool:
    """Equal answers; floating-point sums may differ in their last digits, as threads add in any order."""
    return len(one) == len(other) and all(
        len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True)) for a, b in zip(one, other, strict=True)
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def _duckdb(sql: str) -> Callable[[Access, Path], Rows]:
    def ask(access: Access, folder: Path) -> Rows:
        import duckdb  # noqa: PLC0415 (optional package)
        from duckdb_extensions import import_extension  # type: ignore[import-untyped]  # noqa: PLC0415 (optional; no types)

        place = urlsplit(access.endpoint)
        with duckdb.connect(config={"extension_directory": str(folder / "duckdb")}) as db:
            import_extension("httpfs", con=db)
            db.execute("LOAD httpfs; SET enable_external_file_cache=false; SET enable_progress_bar=false")
            db.execute(
                f"CREATE SECRET (TYPE s3, KEY_ID '{access.key_id}', SECRET '{access.secret}', REGION '{REGION}', "
                f"ENDPOINT '{place.netloc}', URL_STYLE 'path', USE_SSL false)"
            )
            for table in _TPCH_TABLES:
                if table in sql:
                    db.read_parquet(f"s3://{TPCH}/{table}.parquet").create_view(table)
            for table in _FLIGHT_TABLES:
                if table in sql:
                    db.read_csv(f"s3://{FLIGHTS}/{table}.csv").create_view(table)
            return db.execute(sql).fetchall()

    return ask


def _polars(build: Callable[[Any, Callable[[str], Any]], Any]) -> Callable[[Access, Path], Rows]:
    def ask(access: Access, _folder: Path) -> Rows:
        import polars  # noqa: PLC0415 (optional package)

        options = {
            "aws_endpoint_url": access.endpoint,
            "aws_access_key_id": access.key_id,
            "aws_secret_access_key": access.secret,
            "aws_region": REGION,
            "aws_allow_http": "true",
            "aws_virtual_hosted_style_request": "false",
        }

        def scan(path: str) -> Any:
            if path.endswith(".parquet"):
                return polars.scan_parquet(f"s3://{path}", storage_options=options)
            return polars.scan_csv(f"s3://{path}", storage_options=options, null_values=["NA"], infer_schema_length=None)

        return [tuple(row) for row in build(polars, scan).collect().rows()]

    return ask


def _parts_and_modes(pl: Any, scan: Callable[[str], Any]) -> Any:
    lines = scan(f"{TPCH}/lineitem.parquet")
    return (
        lines.filter(pl.col("l_quantity") >= 45)
        .group_by("l_shipmode")
        .agg(pl.len().alias("lines"), pl.col("l_extendedprice").sum().alias("worth"))
        .sort("l_shipmode")
    )


def _busiest_days(pl: Any, scan: Callable[[str], Any]) -> Any:
    flights = scan(f"{FLIGHTS}/flights.csv")
    return (
        flights.group_by("month", "day")
        .agg(pl.len().alias("flights"), pl.col("arr_delay").mean().alias("late"))
        .sort("flights", "month", "day", descending=[True, False, False])
        .head(10)
    )


_PRICING = """
SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice), sum(l_extendedprice * (1 - l_discount)),
       sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)), avg(l_quantity), avg(l_discount), count(*)
FROM lineitem WHERE l_shipdate <= DATE '1998-09-02' GROUP BY 1, 2 ORDER BY 1, 2"""

_PRIORITY = """
SELECT l_orderkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, o_orderdate, o_shippriority
FROM customer JOIN orders ON c_custkey = o_custkey JOIN lineitem ON l_orderkey = o_orderkey
WHERE c_mktsegment = 'BUILDING' AND o_orderdate < DATE '1995-03-15' AND l_shipdate > DATE '1995-03-15'
GROUP BY l_orderkey, o_orderdate, o_shippriority ORDER BY revenue DESC, o_orderdate, l_orderkey LIMIT 10"""

_FORECAST = """
SELECT sum(l_extendedprice * l_discount) FROM lineitem
WHERE l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1995-01-01'
  AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24"""

_RETURNED = """
SELECT c_custkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, n_name
FROM customer JOIN orders ON c_custkey = o_custkey JOIN lineitem ON l_orderkey = o_orderkey
     JOIN nation ON c_nationkey = n_nationkey
WHERE o_orderdate >= DATE '1993-10-01' AND o_orderdate < DATE '1994-01-01' AND l_returnflag = 'R'
GROUP BY c_custkey, n_name ORDER BY revenue DESC, c_custkey LIMIT 20"""

_PROMOTION = """
SELECT 100.0 * sum(CASE WHEN p_type LIKE 'PROMO%' THEN l_extendedprice * (1 - l_discount) ELSE 0 END)
       / sum(l_extendedprice * (1 - l_discount))
FROM lineitem JOIN part ON l_partkey = p_partkey WHERE l_shipdate >= DATE '1995-09-01' AND l_shipdate < DATE '1995-10-01'"""

_LATE_CARRIERS = """
SELECT name, count(*) AS n, round(avg(TRY_CAST(arr_delay AS DOUBLE)), 6) AS late
FROM flights JOIN airlines USING (carrier) GROUP BY name ORDER BY late DESC"""

QUERIES = (
    Query("DuckDB: TPC-H Q1 pricing summary", _duckdb(_PRICING)),
    Query("DuckDB: TPC-H Q3 shipping priority", _duckdb(_PRIORITY)),
    Query("DuckDB: TPC-H Q6 revenue forecast", _duckdb(_FORECAST)),
    Query("DuckDB: TPC-H Q10 returned items", _duckdb(_RETURNED)),
    Query("DuckDB: TPC-H Q14 promotion effect", _duckdb(_PROMOTION)),
    Query("DuckDB: late carriers (CSV)", _duckdb(_LATE_CARRIERS)),
    Query("Polars: large lines by ship mode", _polars(_parts_and_modes)),
    Query("Polars: busiest days (CSV)", _polars(_busiest_days)),
)
