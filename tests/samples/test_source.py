"""Samples of a real node: in order, whole, ahead within bounds, handed over as open files when warm, current when changed."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.client import Client
from headrace.model.errors import NotFound
from headrace.model.reading import FileSlice
from headrace.samples import Ahead, Order, Sample, Samples
from support.node import RunningNode, running_node

pytestmark = pytest.mark.servers

COUNT = 150
SIZES = (0, 1, 100_000, 65_536, 200_001)


def body(number: int) -> bytes:
    return bytes([number % 251]) * SIZES[number % len(SIZES)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    (root / "set" / "deep").mkdir(parents=True)
    for number in range(COUNT):
        folder = root / "set" / ("deep" if number % 2 else "")
        (folder / f"{number:04d}.bin").write_bytes(body(number))
    (root / "set" / "labels.csv").write_text("a,b\n")
    return root


@pytest.fixture(scope="module")
def node(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    mounts = "".join(
        f'[[mount]]\npath = "/{name}"\nstore = "file://{store}"\n{extra}\n'
        for name, extra in (
            ("d", 'freshness = "1h"'),
            ("m", 'residency = "memory"\nfreshness = "1h"'),
            ("v", 'freshness = "verify"'),
        )
    )
    with running_node(tmp_path_factory.mktemp("home"), f'[cache]\nmemory = "64MiB"\n\n{mounts}', processes=2) as running:
        yield running


@pytest.fixture(params=["remote", "embedded"])
def client(node: RunningNode, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("HEADRACE_HOME", str(node.home))
    with Client.connect(str(node.config), mode=request.param) as opened:
        yield opened


@pytest.fixture
def remote(node: RunningNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("HEADRACE_HOME", str(node.home))
    with Client.connect(str(node.config), mode="remote") as opened:
        yield opened


def expected(samples: Samples, number: int) -> bytes:
    return body(int(Path(samples.path(number)).stem))


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def by_files(sample: Sample) -> bool:
    return bool(sample._pieces) and all(isinstance(piece, FileSlice) for piece in sample._pieces)


def test_samples_are_all_objects_below_a_prefix_by_key(client: Client) -> None:
    samples = Samples(client, "/d/set", suffix=".bin")
    assert len(samples) == COUNT
    paths = [samples.path(number) for number in range(COUNT)]
    assert paths == sorted(paths)
    assert len(Samples(client, "/d/set")) == COUNT + 1
    with pytest.raises(NotFound, match=r"no objects that end with \.jpg lie below /d/set"):
        Samples(client, "/d/set", suffix=".jpg")


@pytest.mark.parametrize("ahead", [Ahead(), Ahead(samples=1), Ahead(samples=7, bytes=300_000), Ahead(bytes=1)])
def test_a_stream_is_in_order_and_whole_however_far_it_reads_ahead(client: Client, ahead: Ahead) -> None:
    samples = Samples(client, "/d/set", suffix=".bin")
    order = Order(COUNT, seed=3).epoch(1)
    for _ in range(2):
        seen = []
        for sample in samples.stream(order, ahead=ahead):
            assert sample.path == samples.path(sample.number)
            assert sample.read() == expected(samples, sample.number)
            into = bytearray(sample.size)
            sample.read_into(into)
            assert into == expected(samples, sample.number)
            seen.append(sample.number)
        assert seen == list(order)


def test_warm_samples_come_as_open_files(remote: Client) -> None:
    samples = Samples(remote, "/d/set", suffix=".bin")
    filled = [number for number in range(COUNT) if expected(samples, number)]
    total = sum(len(expected(samples, number)) for number in filled)
    assert samples.warm(filled) == total
    # Each of the two serving processes learns an object's version when it is first asked for it.
    for _ in range(20):
        handed = sum(by_files(sample) for sample in samples.read(filled))
        if handed == len(filled):
            break
    assert handed == len(filled)


def test_samples_of_a_mount_that_stays_in_memory_come_as_bytes(remote: Client) -> None:
    samples = Samples(remote, "/m/set", suffix=".bin")
    samples.warm(range(COUNT))
    for sample in samples.stream(range(COUNT)):
        assert not by_files(sample)
        assert sample.read() == expected(samples, sample.number)


def test_a_changed_object_is_read_as_it_is_now(client: Client, store: Path) -> None:
    samples = Samples(client, "/v/set", suffix=".bin")
    number = next(number for number in range(COUNT) if expected(samples, number))
    file = store / samples.path(number).removeprefix("/v/")
    was = file.read_bytes()
    assert samples.read([number])[0].read() == was
    try:
        file.write_bytes(b"changed")
        assert samples.read([number])[0].read() == b"changed"
    finally:
        file.write_bytes(was)


def test_a_sample_that_waits_too_long_is_asked_for_again(remote: Client) -> None:
    samples = Samples(remote, "/d/set", suffix=".bin")
    number = max(number for number in range(COUNT) if expected(samples, number))
    for _ in range(20):
        (sample,) = samples.read([number])
        if by_files(sample):
            break
    assert by_files(sample)
    for piece in sample._pieces:
        piece.until = 0.0  # type: ignore[union-attr]
    assert sample.read() == expected(samples, number)


def test_an_object_that_is_gone_is_said_to_be(client: Client, store: Path) -> None:
    extra = store / "set" / "zz-gone.bin"
    extra.write_bytes(b"x")
    samples = Samples(client, "/v/set", suffix=".bin")
    extra.unlink()
    with pytest.raises(NotFound, match=r"zz-gone\.bin"):
        list(samples.stream(range(len(samples))))


def test_a_stream_that_is_left_early_leaves_no_descriptors(remote: Client) -> None:
    samples = Samples(remote, "/d/set", suffix=".bin")
    list(samples.stream(range(COUNT)))
    before = open_files()
    for _ in range(5):
        stream = samples.stream(range(COUNT))
        assert next(stream).number == 0
        stream.close()
    samples.read([0])
    assert open_files() <= before + 2


def test_samples_can_be_pickled(client: Client) -> None:
    samples = Samples(client, "/d/set", suffix=".bin")
    again = pickle.loads(pickle.dumps(samples))
    assert len(again) == len(samples)
    assert [sample.read() for sample in again.read([5, 3])] == [expected(samples, 5), expected(samples, 3)]
    again.client.close()


def test_a_buffer_of_another_length_is_refused(client: Client) -> None:
    (sample,) = Samples(client, "/d/set", suffix=".csv").read([0])
    with pytest.raises(ValueError, match="has 4 bytes, the buffer for it 3"):
        sample.read_into(bytearray(3))


def test_bounds_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        Ahead(samples=0)
