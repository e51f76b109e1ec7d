"""The link of `link.py` as a program.

    python -m headrace.testing.shaper --listen 127.0.0.1:0 --target 127.0.0.1:8333 --rtt 40ms --rate 200mbit

Prints one JSON line with the address it listens on, prints its counters on SIGUSR1, and obeys `--control` (see
`control_line`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import signal
import sys

import msgspec

from headrace.model.errors import SettingsError
from headrace.model.units import parse_duration
from headrace.testing.link import Address, Flapping, Link, LinkSettings, LinkState, parse_address

_RATE_UNITS = {"gbit": 10**9 / 8, "mbit": 10**6 / 8, "kbit": 10**3 / 8, "bit": 1 / 8}


def parse_rate(text: str) -> float:
    """Bytes per second in `200mbit`, `1gbit`; `0` is no bound. Raises `SettingsError`."""
    for unit, factor in _RATE_UNITS.items():
        if text.lower().endswith(unit):
            with contextlib.suppress(ValueError):
                return float(text[: -len(unit)]) * factor
            break
    if text == "0":
        return 0.0
    raise SettingsError(f"{text!r} is not a rate: write a number with kbit, mbit or gbit, such as 200mbit")


def parse_flapping(text: str) -> Flapping:
    """`UP/DOWN[/MODE]`, such as `30s/30s/refuse`. Raises `SettingsError`."""
    parts = text.split("/")
    if len(parts) not in (2, 3):
        raise SettingsError(f"{text!r} is not a schedule: write UP/DOWN or UP/DOWN/MODE, such as 30s/30s/refuse")
    mode = LinkState(parts[2]) if len(parts) == 3 else LinkState.BLACKHOLE
    return Flapping(parse_duration(parts[0]), parse_duration(parts[1]), mode)


def control_line(link: Link, line: str) -> bytes:
    """Obey `stats`, `up`, `refuse`, `reset` or `blackhole`; the answer is one JSON line."""
    word = line.strip()
    if word != "stats":
        try:
            link.set_state(LinkState(word))
        except ValueError:
            return msgspec.json.encode({"error": f"{word!r}: say stats, up, refuse, reset or blackhole"}) + b"\n"
    return msgspec.json.encode(link.stats()) + b"\n"


async def _serve_control(link: Link, address: Address) -> asyncio.Server:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(control_line(link, line.decode("utf-8", "replace")))
                await writer.drain()
        except (ConnectionError, ValueError):
            return
        finally:
            writer.close()

    return await asyncio.start_server(talk, *address, limit=1024)


async def _run(options: argparse.Namespace) -> None:
    settings = LinkSettings(
        rtt_s=parse_duration(options.rtt), rate=parse_rate(options.rate), loss=options.loss, seed=options.seed
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Link(parse_address(options.target), settings, listen=parse_address(options.listen)) as link:
        ready = {"listen": f"{link.address[0]}:{link.address[1]}"}
        control = await _serve_control(link, parse_address(options.control)) if options.control else None
        if control is not None:
            host, port = control.sockets[0].getsockname()[:2]
            ready["control"] = f"{host}:{port}"
        loop.add_signal_handler(signal.SIGUSR1, lambda: _say(msgspec.json.encode(link.stats())))
        flapping = asyncio.create_task(link.flap(parse_flapping(options.flap))) if options.flap else None
        _say(msgspec.json.encode(ready))
        await stop.wait()
        if flapping is not None:
            flapping.cancel()
        if control is not None:
            control.close()


def _say(line: bytes) -> None:
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m headrace.testing.shaper", description="A slow TCP link in user space.")
    add = parser.add_argument
    add("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="where clients connect; port 0: the kernel chooses")
    add("--target", required=True, metavar="HOST:PORT", help="the server at the far end")
    add("--rtt", default="0s", help="round-trip time, both ways together, such as 40ms")
    add("--rate", default="0", help="rate of each direction, shared by all connections, such as 200mbit")
    add("--loss", type=float, default=0.0, help="probability that a packet is lost")
    add("--seed", type=int, default=0, help="seed of the losses")
    add("--flap", default="", metavar="UP/DOWN[/MODE]", help="schedule of outages, such as 30s/30s/refuse")
    add("--control", default="", metavar="HOST:PORT", help="obey stats, up, refuse, reset and blackhole, one a line, here")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        runner = asyncio.run
        with contextlib.suppress(ImportError):
            import uvloop  # noqa: PLC0415 - optional speed

            runner = uvloop.run
        runner(_run(options))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"cannot listen on {options.listen}: {errno.errorcode.get(error.errno or 0, '')} {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
