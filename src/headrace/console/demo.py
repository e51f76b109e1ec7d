"""`headrace demo`: a slow, remote store, queried direct, cold and warm."""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import unquote

import click

from headrace.console.client import AdminClient
from headrace.console.cmd_up import Ready
from headrace.console.demo_data import FLIGHTS, TPCH, ensure_data
from headrace.console.demo_queries import QUERIES, Access, Query, Rows, same_rows
from headrace.console.demo_report import HEAD, Measured, Run, draw_chart, figures, table_rows
from headrace.console.demo_servers import (
    RATE,
    RTT,
    STORE_KEY,
    STORE_SECRET,
    Process,
    SlowLink,
    port_or_free,
    start_headrace,
    start_link,
    start_store,
)
from headrace.console.options import Invocation, config_option, json_option, pass_invocation
from headrace.console.printer import print_json, print_table, say, warn
from headrace.model.errors import CorruptData, SettingsError, Unavailable
from headrace.session import read_credentials

Tell = Callable[[str], None]
"""Where progress is told: standard output holds nothing but the JSON where that was asked for."""

_LINK = f"{RTT.removesuffix('ms')} ms and {RATE.removesuffix('mbit')} Mbit/s"


@click.command()
@click.option("--once", is_flag=True, help="End after the table instead of serving on.")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Work folder; data in it is used again.")
@click.option("--scale", type=click.FloatRange(0.001, 100), default=1.0, show_default=True, help="Scale factor of TPC-H.")
@config_option
@json_option
@pass_invocation
def demo(invocation: Invocation, once: bool, folder: Path | None, scale: float) -> None:
    """Show Headrace on real data behind a slow link."""
    folder = (folder or invocation.settings().home / "demo").absolute()
    tell = warn if invocation.as_json else say
    with ExitStack() as stack, _ctrl_c_ends(tell):
        _claim(folder, stack)
        tell(f"The demo works in {folder}. Ctrl-C ends it.")
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        store, link = _start_site(folder, logs, scale, tell, stack)
        tell("4. Starting Headrace with both mounted")
        node, ready = start_headrace(_write_settings(folder, link.endpoint, tell), logs)
        stack.callback(node.stop)
        caches = _access(ready)
        tell(f"5. Asking {len(QUERIES)} questions three ways: direct, cold and warm")
        measured = [_measure(query, folder, link, caches, _freer(ready), tell) for query in QUERIES]
        chart = folder / "demo.png"
        draw_chart(measured, chart, link=_LINK)
        _show(invocation, measured, chart)
        if not once:
            _show_next_steps(ready, caches, tell)
            _serve((store, link.process, node))


def _claim(folder: Path, stack: ExitStack) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lock = stack.enter_context((folder / "demo.lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SettingsError(f"another demo works in {folder}: end it, or choose another --dir", path=str(folder)) from error


def _start_site(folder: Path, logs: Path, scale: float, tell: Tell, stack: ExitStack) -> tuple[Process, SlowLink]:
    tell("1. Starting the store: SeaweedFS, a real S3 server")
    store, direct_port = start_store(folder / "store", logs)
    stack.callback(store.stop)
    tell(f"2. Making TPC-H (scale {scale:g}) and the New York flights, and putting them there")
    if not ensure_data(direct_port, folder, scale):
        tell("   they are there from an earlier run")
    tell(f"3. Putting a link of {_LINK} in front of it")
    link = start_link(direct_port, logs)
    stack.callback(link.process.stop)
    return store, link


def _show(invocation: Invocation, measured: list[Measured], chart: Path) -> None:
    if invocation.as_json:
        print_json({"link": _LINK, "queries": figures(measured), "chart": str(chart)})
        return
    say("")
    print_table(HEAD, table_rows(measured), right=frozenset(range(1, len(HEAD))))
    say("")
    say(f"The same as a chart: {chart}")


def _write_settings(folder: Path, endpoint: str, tell: Tell) -> Path:
    data, control = port_or_free(9400), port_or_free(9401)
    for usual, port in ((9400, data), (9401, control)):
        if usual != port:
            tell(f"   port {usual} is taken, so {port} is used")
    mounts = "\n".join(
        f'[[mount]]\npath = "/{bucket}"\nstore = "s3://{bucket}"\nendpoint = "{endpoint}"\n'
        'credentials = "env:DEMO"\nfreshness = "10m"\n'
        for bucket in (TPCH, FLIGHTS)
    )
    config = folder / "headrace.toml"
    config.write_text(
        f'[server]\ndata_listen = "127.0.0.1:{data}"\ncontrol_listen = "127.0.0.1:{control}"\n'
        f'home = {json.dumps(str(folder / "home"))}\ndrain = "3s"\n\n'
        f'[cache]\nmemory = "256MiB"\ndisk = [{{ path = "pages", capacity = "8GiB" }}]\n\n{mounts}',
        encoding="utf-8",
    )
    return config


def _access(ready: Ready) -> Access:
    key = read_credentials(Path(ready.credentials))
    if key is None:
        raise CorruptData(f"{ready.credentials} is gone: run the demo again")
    return Access(ready.data_url, key.key_id, key.secret)


def _freer(ready: Ready) -> Callable[[], None]:
    token = unquote(ready.login_link.rpartition("=")[2])
    server = AdminClient(ready.control_url, token)

    def free_all() -> None:
        for bucket in (TPCH, FLIGHTS):
            server.free(f"/{bucket}", prefix=True)

    return free_all


def _measure(query: Query, folder: Path, link: SlowLink, caches: Access, free_all: Callable[[], None], tell: Tell) -> Measured:
    direct, expected = _ask(query, folder, link, Access(link.endpoint, STORE_KEY, STORE_SECRET))
    free_all()
    cold, first = _ask(query, folder, link, caches)
    warm, second = _ask(query, folder, link, caches)
    for way, rows in (("cold", first), ("warm", second)):
        if not same_rows(expected, rows):
            raise CorruptData(f"{query.name}: the answer {way} through Headrace differs from the direct one")
    tell(f"   {query.name}: {direct.seconds:.2f} s direct, {cold.seconds:.2f} s cold, {warm.seconds:.2f} s warm; equal answers")
    return Measured(query.name, direct, cold, warm)


def _ask(query: Query, folder: Path, link: SlowLink, access: Access) -> tuple[Run, Rows]:
    before = link.bytes_down()
    started = time.perf_counter()
    rows = query.ask(access, folder)
    return Run(time.perf_counter() - started, link.bytes_down() - before), rows


def _show_next_steps(ready: Ready, access: Access, tell: Tell) -> None:
    config = Path(ready.credentials).parent.parent / "headrace.toml"
    tell("")
    tell("Headrace serves on. Try, in another terminal:")
    tell(f"  export AWS_ACCESS_KEY_ID={access.key_id} AWS_SECRET_ACCESS_KEY={access.secret} AWS_REGION=us-east-1")
    tell(f"  export HEADRACE_CONFIG={config}")
    tell(f"  aws --endpoint-url {ready.data_url} s3 ls s3://{TPCH}/")
    tell(f"  headrace ls /{FLIGHTS}        headrace top")
    tell(f"  python -c \"import pandas; print(pandas.read_csv('headrace://{FLIGHTS}/airlines.csv'))\"")
    place = ready.data_url.removeprefix("http://")
    tell("  duckdb:  INSTALL httpfs; LOAD httpfs;")
    tell(f"           CREATE SECRET (TYPE s3, PROVIDER credential_chain, ENDPOINT '{place}', URL_STYLE 'path', USE_SSL false);")
    tell(f"           FROM 's3://{TPCH}/lineitem.parquet' LIMIT 5;")
    tell(f"The status page: {ready.login_link}")
    tell("Ctrl-C ends everything; the data stays for the next run.")


def _serve(processes: tuple[Process, ...]) -> None:
    while True:
        time.sleep(0.5)
        for process in processes:
            if process.ended:
                raise Unavailable(f"{process.name} ended by itself: see {process.log}")


@contextlib.contextmanager
def _ctrl_c_ends(tell: Tell) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the demo without a traceback; what it started is stopped on the way out."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    # both, for a shell starts background programs with SIGINT ignored
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        tell("Stopping")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
