"""Makes page segments in a page directory's own format, quickly: whole objects of one small page, with their checksums."""

from __future__ import annotations

import os
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from headrace.cache.layout import Geometry, Kind, SegmentName, checksum, encode_footer, object_id

_LENGTH = 100
_SHARE = 50_000


def make_pages(root: Path, geometry: Geometry, identity: str, count: int) -> None:
    """`count` segments of as many objects that no store has, of mount `identity`; each takes a block of disk."""
    for number in range(4096):
        (root / f"{number:03x}").mkdir(exist_ok=True)
    shares = [range(start, min(start + _SHARE, count)) for start in range(0, count, _SHARE)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as processes:
        list(processes.map(partial(_make, str(root), geometry, identity), shares))


def make_neighbours(root: Path, geometry: Geometry, identity: str, count: int) -> list[SegmentName]:
    """Both pages of `count` objects of two pages, which the keeper can merge; the names that it gives them then."""
    data = random.Random(7).randbytes(geometry.page)
    wholes = []
    for number in range(count):
        name = object_id(identity, f"neighbours/{number}", "v")
        for index, page in enumerate((data, data[:_LENGTH])):
            _write(f"{root}/{SegmentName(name, Kind.PAGE, index).path}", geometry, name, index, page, last=index == 1)
        wholes.append(SegmentName(name, Kind.WHOLE))
    return wholes


def _make(root: str, geometry: Geometry, identity: str, numbers: range) -> None:
    for number in numbers:
        name = object_id(identity, f"made/{number}", "v")
        data = number.to_bytes(8, "big") * (_LENGTH // 8)
        _write(f"{root}/{SegmentName(name, Kind.WHOLE).path}", geometry, name, 0, data, last=True)


def _write(path: str, geometry: Geometry, name: bytes, index: int, data: bytes, *, last: bool) -> None:
    footer = encode_footer(checksum(data, name, index), len(data), geometry.page, last=last)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, data + footer)
    os.close(fd)
