"""TPC-H with DuckDB: direct over the shaped link, warm through Headrace, and the same files from nginx on loopback."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import duckdb

import peers
from load import ROUNDS
from peers import BIN, Peer
from report import Row, emit
from shaped import shaped_link

SCALE = os.environ.get("HEADRACE_BENCH_TPCH_SCALE", "1")
TABLES = ("lineitem", "orders", "customer", "part", "partsupp", "supplier", "nation", "region")
QUERIES = {
    "q1": """SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice * (1 - l_discount)), avg(l_discount), count(*)
             FROM lineitem WHERE l_shipdate <= DATE '1998-09-02' GROUP BY ALL ORDER BY ALL""",
    "q3": """SELECT l_orderkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, o_orderdate FROM customer, orders, lineitem
             WHERE c_mktsegment = 'BUILDING' AND c_custkey = o_custkey AND l_orderkey = o_orderkey AND o_orderdate < DATE '1995-03-15'
             AND l_shipdate > DATE '1995-03-15' GROUP BY ALL ORDER BY revenue DESC, o_orderdate LIMIT 10""",
    "q6": """SELECT sum(l_extendedprice * l_discount) FROM lineitem WHERE l_shipdate >= DATE '1994-01-01' AND
             l_shipdate < DATE '1995-01-01' AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24""",
    "q14": """SELECT 100 * sum(CASE WHEN p_type LIKE 'PROMO%' THEN l_extendedprice * (1 - l_discount) ELSE 0 END) /
              sum(l_extendedprice * (1 - l_discount)) FROM lineitem, part WHERE l_partkey = p_partkey
              AND l_shipdate >= DATE '1995-09-01' AND l_shipdate < DATE '1995-10-01'""",
}


def connect(peer: Peer) -> duckdb.DuckDBPyConnection:
    """A connection whose views read from `peer`; DuckDB keeps no remote file itself."""
    con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    con.load_extension("httpfs")
    con.sql("SET enable_external_file_cache = false")
    con.sql("SET http_keep_alive = true")
    if peer.signed:
        host = peer.url.removeprefix("http://")
        con.sql(
            f"CREATE SECRET (TYPE s3, ENDPOINT '{host}', USE_SSL false, URL_STYLE 'path', REGION 'us-east-1', KEY_ID '{peer.key}', SECRET '{peer.secret}')"
        )
    root = "s3://tpch" if peer.signed else f"{peer.url}/tpch"
    for table in TABLES:
        con.sql(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{root}/{table}.parquet')")
    return con


def run_all(peer: Peer) -> tuple[float, list[list[tuple[object, ...]]]]:
    """Seconds for all queries on a fresh connection, and their answers."""
    con = connect(peer)
    began = time.monotonic()
    answers = [con.sql(query).fetchall() for query in QUERIES.values()]
    seconds = time.monotonic() - began
    con.close()
    return seconds, answers


def main() -> None:
    from duckdb_extensions import import_extension

    import_extension("httpfs")
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        data = work / "www" / "tpch"
        data.mkdir(parents=True)
        subprocess.run(
            [str(BIN / "tpchgen-cli"), "parquet", "-s", SCALE, f"--output-dir={data}", "--quiet", "--no-progress"], check=True
        )
        origin = stack.enter_context(peers.seaweed(work))
        peers.upload(origin, "tpch", data)
        link = stack.enter_context(shaped_link(origin.url, rtt="40ms", rate="200mbit"))
        mount = f'[[mount]]\npath = "/tpch"\nstore = "s3://tpch"\nendpoint = "{link.url}"\ncredentials = "env:ORIGIN"\nfreshness = "1h"\n'
        node = stack.enter_context(peers.headrace(work, mount, processes=2))
        nginx = stack.enter_context(peers.nginx(work, work / "www"))
        direct = Peer("direct", link.url, (), signed=True)
        expected = run_all(nginx)[1]
        cold, answers = run_all(node)
        run_all(node)
        found: dict[str, list[float]] = {"direct": [], "warm": [], "nginx": []}
        for _ in range(ROUNDS):
            for name, peer in (("warm", node), ("nginx", nginx), ("direct", direct)):
                seconds, got = run_all(peer)
                found[name].append(seconds)
                if got != expected or answers != expected:
                    raise RuntimeError(f"{name}: other answers")
        emit(
            "tpch",
            f"TPC-H scale {SCALE}, DuckDB, four queries",
            [
                Row(
                    "direct ÷ warm through Headrace",
                    _median_ratio(found["direct"], found["warm"]),
                    10,
                    "at least",
                    found["direct"],
                    found["warm"],
                ),
                Row(
                    "warm through Headrace ÷ nginx on loopback",
                    _median_ratio(found["warm"], found["nginx"]),
                    1.2,
                    "at most",
                    found["warm"],
                    found["nginx"],
                ),
                Row(
                    "cold through Headrace ÷ direct",
                    cold / statistics.median(found["direct"]),
                    None,
                    "at most",
                    [cold],
                    found["direct"],
                ),
            ],
        )


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


if __name__ == "__main__":
    main()
