"""Ask one engine the questions of TPC-H: `tpch_answers.py ENGINE`, run by that engine's own interpreter.

Reads {"root", "access", "queries"} as JSON; `access` is null where `root` is a local folder. Prints the rows of each
query as JSON, or what the engine says where it cannot ask that question.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")
Ask = Callable[[str], Iterable[Iterable[Any]]]


def duckdb(root: str, access: Any) -> Ask:
    import duckdb
    from duckdb_extensions import import_extension

    db = duckdb.connect(config={"extension_directory": tempfile.mkdtemp()})
    if access:
        import_extension("httpfs", con=db)
        db.execute(
            f"LOAD httpfs; CREATE SECRET (TYPE s3, KEY_ID '{access['key']}', SECRET '{access['secret']}', REGION 'us-east-1', "
            f"ENDPOINT '{access['host']}', USE_SSL false, URL_STYLE 'path')"
        )
    for table in TABLES:
        db.execute(f"CREATE VIEW {table} AS FROM read_parquet('{root}/{table}.parquet')")
    return lambda query: db.execute(query).fetchall()


def polars(root: str, access: Any) -> Ask:
    import polars

    options = access and {
        "aws_endpoint_url": f"http://{access['host']}", "aws_access_key_id": access["key"], "aws_region": "us-east-1",
        "aws_secret_access_key": access["secret"], "aws_allow_http": "true", "aws_virtual_hosted_style_request": "false",
    }  # fmt: skip
    frames = {table: polars.scan_parquet(f"{root}/{table}.parquet", storage_options=options) for table in TABLES}
    context = polars.SQLContext(frames)
    return lambda query: context.execute(query.rstrip(" ;\n")).collect().rows()


def datafusion(root: str, access: Any) -> Ask:
    from datafusion import SessionContext
    from datafusion.object_store import AmazonS3

    context = SessionContext()
    if access:
        bucket = root.split("/")[2]
        store = AmazonS3(
            bucket_name=bucket, endpoint=f"http://{access['host']}", access_key_id=access["key"], region="us-east-1",
            secret_access_key=access["secret"], allow_http=True,
        )  # fmt: skip
        context.register_object_store(f"s3://{bucket}/", store)
    for table in TABLES:
        context.register_parquet(table, f"{root}/{table}.parquet")
    return lambda query: (row.values() for batch in context.sql(query).collect() for row in batch.to_pylist())


def daft(root: str, access: Any) -> Ask:
    import daft
    from daft.io import IOConfig, S3Config

    s3 = access and S3Config(
        endpoint_url=f"http://{access['host']}", key_id=access["key"], access_key=access["secret"], region_name="us-east-1",
        use_ssl=False, force_virtual_addressing=False,
    )  # fmt: skip
    frames = {table: daft.read_parquet(f"{root}/{table}.parquet", io_config=s3 and IOConfig(s3=s3)) for table in TABLES}
    return lambda query: (row.values() for row in daft.sql(query.rstrip(" ;\n"), **frames).to_pylist())


def chdb(root: str, access: Any) -> Ask:
    from chdb import session

    db = session.Session(tempfile.mkdtemp())
    db.query("CREATE DATABASE tpch")
    for table in TABLES:
        place = f"{root}/{table}.parquet"
        source = f"file('{place}', 'Parquet')"
        if access:
            url = place.replace("s3://", f"http://{access['host']}/")
            source = f"s3('{url}', '{access['key']}', '{access['secret']}', 'Parquet')"
        db.query(f"CREATE VIEW tpch.{table} AS SELECT * FROM {source}")
    db.query("USE tpch")

    def ask(query: str) -> Iterable[Iterable[Any]]:
        answer = str(db.query(query.rstrip(" ;\n"), "JSONCompactEachRow"))
        return [json.loads(line) for line in answer.splitlines()]

    return ask


def _spark_asks(spark: Any, root: str) -> Ask:
    for table in TABLES:
        spark.read.parquet(f"{root}/{table}.parquet").createOrReplaceTempView(table)
    return lambda query: spark.sql(query.rstrip(" ;\n")).collect()


def spark(root: str, access: Any) -> Ask:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.driver.extraClassPath", os.environ["S3A_JARS"])
    settings = {
        "driver.host": "127.0.0.1",
        "driver.bindAddress": "127.0.0.1",
        "ui.enabled": "false",
        "sql.shuffle.partitions": "2",
    }
    if access:
        settings |= {
            "hadoop.fs.s3a.endpoint": f"http://{access['host']}", "hadoop.fs.s3a.path.style.access": "true",
            "hadoop.fs.s3a.access.key": access["key"], "hadoop.fs.s3a.secret.key": access["secret"],
        }  # fmt: skip
    for name, value in settings.items():
        builder = builder.config(f"spark.{name}", value)
    return _spark_asks(builder.getOrCreate(), root.replace("s3://", "s3a://"))


def sail(root: str, access: Any) -> Ask:
    if access:
        os.environ |= {
            "AWS_ENDPOINT": f"http://{access['host']}", "AWS_ACCESS_KEY_ID": access["key"], "AWS_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": access["secret"], "AWS_ALLOW_HTTP": "true", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }  # fmt: skip
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    host, port = server.listening_address
    session = SparkSession.builder.remote(f"sc://{host}:{port}").getOrCreate()
    session.server = server  # it must live as long
    return _spark_asks(session, root)


ENGINES: dict[str, Callable[[str, Any], Ask]] = {
    "duckdb": duckdb, "polars": polars, "datafusion": datafusion, "daft": daft, "chdb": chdb, "spark": spark, "sail": sail,
}  # fmt: skip


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers of all kinds alike, days as text."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()[:10]
    return value


def answer(ask: Ask, query: str) -> Any:
    try:
        return [[plain(value) for value in row] for row in ask(query)]
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]


def main() -> None:
    asked = json.load(sys.stdin)
    ask = ENGINES[sys.argv[1]](asked["root"], asked["access"])
    answers = {number: answer(ask, query) for number, query in asked["queries"].items()}
    print(f"answers: {json.dumps(answers)}", flush=True)
    os._exit(0)  # some of them crash or hang in their threads when the interpreter ends


if __name__ == "__main__":
    main()
