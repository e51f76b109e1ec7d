"""A mounted file under random reads, writes, truncations, maps, renames and reopenings, beside the bytes it must have.

After Apple's and the Linux Test Project's `fsx`, which do this to one file of a file system.
"""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.fuse_mount import FuseMount, mounted, require_fuse

pytestmark = [pytest.mark.servers]

MOST_BYTES = 300_000
STEPS = int(os.environ.get("HEADRACE_FSX_STEPS", "700"))


@pytest.fixture(scope="module", params=["", '[fuse]\nstaged = "64MiB"\n'], ids=["unbounded", "bounded"])
def mount(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[tuple[FuseMount, Path]]:
    """Written files are the kernel's own, or, with a bound, each write passes through the mount."""
    require_fuse()
    store = tmp_path_factory.mktemp("store")
    config = f'{request.param}[[mount]]\npath = "/data"\nstore = "file://{store}"\nwrite = "through"\nfreshness = "verify"\n'
    with mounted(tmp_path_factory.mktemp("fuse"), config) as mount:
        yield mount, store


class Fsx:
    """One file, the bytes that it must have, and what may be done to it."""

    def __init__(self, directory: Path, store: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.path = directory / f"fsx-{seed}"
        self.store = store
        self.model = bytearray()
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self.reader = -1

    def step(self) -> None:
        acts: list[Callable[[], None]] = [
            self.write,
            self.write,
            self.read,
            self.read,
            self.truncate,
            self.map_read,
            self.map_write,
        ]
        acts += [self.sync, self.reopen, self.rename, self.append, self.other_reader]
        act = self.random.choice(acts)
        act()

    def span(self, most: int) -> tuple[int, int]:
        start = self.random.randrange(most + 1)
        return start, self.random.randrange(1, 70_000)

    def write(self) -> None:
        start, length = self.span(MOST_BYTES)
        data = self.random.randbytes(length)
        assert os.pwrite(self.fd, data, start) == length
        if start > len(self.model):
            self.model.extend(bytes(start - len(self.model)))
        self.model[start : start + length] = data

    def append(self) -> None:
        data = self.random.randbytes(self.random.randrange(1, 5000))
        with open(self.path, "ab") as file:
            file.write(data)
        self.model += data

    def read(self) -> None:
        start, length = self.span(len(self.model))
        assert os.pread(self.fd, length, start) == self.model[start : start + length]

    def truncate(self) -> None:
        size = self.random.randrange(MOST_BYTES)
        os.ftruncate(self.fd, size)
        self.model = self.model[:size] + bytes(max(0, size - len(self.model)))
        assert os.fstat(self.fd).st_size == size

    def map_read(self) -> None:
        if self.model:
            with mmap.mmap(self.fd, len(self.model), prot=mmap.PROT_READ) as view:
                start, length = self.span(len(self.model))
                assert view[start : start + length] == self.model[start : start + length]

    def map_write(self) -> None:
        if self.model:
            with mmap.mmap(self.fd, len(self.model)) as view:
                start = self.random.randrange(len(self.model))
                data = self.random.randbytes(self.random.randrange(1, 9000))[: len(self.model) - start]
                view[start : start + len(data)] = data
            self.model[start : start + len(data)] = data

    def sync(self) -> None:
        os.fsync(self.fd)
        self.check_stored()

    def other_reader(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
        self.reader = os.open(self.path, os.O_RDONLY)
        assert os.pread(self.reader, len(self.model) + 1, 0) == self.model

    def reopen(self) -> None:
        os.close(self.fd)
        self.check_stored()
        if self.random.random() < 0.5 and self.reader >= 0:
            os.close(self.reader)
            self.reader = -1
        self.fd = os.open(self.path, os.O_RDWR)
        assert os.fstat(self.fd).st_size == len(self.model)

    def rename(self) -> None:
        new = self.path.with_name(f"{self.path.name.split('.')[0]}.{self.random.randrange(10**6)}")
        os.rename(self.path, new)
        self.path = new

    def check_stored(self) -> None:
        assert (self.store / self.path.name).read_bytes() == self.model

    def close(self) -> None:
        os.close(self.fd)
        if self.reader >= 0:
            os.close(self.reader)


@pytest.mark.parametrize("seed", range(4))
def test_a_file_has_at_every_moment_the_bytes_that_were_put_there(mount: tuple[FuseMount, Path], seed: int) -> None:
    fuse, store = mount
    run = Fsx(fuse.data, store, seed)
    try:
        for step in range(STEPS):
            try:
                run.step()
            except (AssertionError, OSError) as error:
                error.add_note(f"seed {seed}, step {step}")
                raise
    finally:
        run.close()
    run.check_stored()
