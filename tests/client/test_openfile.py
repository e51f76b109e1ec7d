from __future__ import annotations

import io
import os
import pickle
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import bridge
from headrace.model.errors import VersionChanged
from headrace.model.objects import ObjectInfo
from headrace.namespace.namespace import Namespace
from headrace.openfile import HeadraceFile, ObjectReader
from headrace.session import Session, SessionOptions
from support.sliced import PAGE_BYTES, SlicedStore, namespace_of

BODY = random.Random(1).randbytes(5 * 1024 * 1024 + 12345)


@pytest.fixture
def store(tmp_path: Path) -> SlicedStore:
    store = SlicedStore(tmp_path)
    store.put("k", BODY)
    return store


def _session(store: SlicedStore) -> Session:
    async def opener(_: SessionOptions) -> Namespace:
        return namespace_of(b=store)

    return Session(SessionOptions(), opener)


def _info(session: Session) -> ObjectInfo:
    return session.run(lambda namespace: namespace.info("/b/k"))


def _open(store: SlicedStore) -> HeadraceFile:
    session = _session(store)
    return HeadraceFile(ObjectReader(session, "b/k", _info(session)))


def test_warm_reads_come_from_the_files_and_not_through_the_loop(store: SlicedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.warm("k")
    opened = _open(store)
    opened.read(1)
    opened.seek(0)

    def nobody(*_: object) -> None:
        raise AssertionError("a warm read went through the loop")

    monkeypatch.setattr(bridge, "run", nobody)
    opened.seek(3 * PAGE_BYTES + 5)
    assert opened.read(2 * PAGE_BYTES) == BODY[3 * PAGE_BYTES + 5 :][: 2 * PAGE_BYTES]


def test_cold_reads_forward_are_read_ahead_for(store: SlicedStore) -> None:
    opened = _open(store)
    parts = []
    while part := opened.read(50_000):
        parts.append(part)
    assert b"".join(parts) == BODY
    assert store.calls["read"] < 12
    assert store.bytes_read <= len(BODY)


def test_cold_random_reads_fetch_little_more_than_they_ask_for(store: SlicedStore) -> None:
    opened = _open(store)
    for at in (3_000_000, 100_000, 4_000_000, 700_000):
        opened.seek(at)
        assert opened.read(1000) == BODY[at : at + 1000]
    assert store.bytes_read <= 4 * PAGE_BYTES


@pytest.mark.parametrize("warm", [True, False])
def test_reads_the_whole_object_and_its_end(store: SlicedStore, warm: bool) -> None:
    if warm:
        store.warm("k")
    opened = _open(store)
    assert opened.read() == BODY
    assert opened.read(10) == b""
    opened.seek(-7, os.SEEK_END)
    assert opened.read() == BODY[-7:]
    opened.seek(len(BODY) + 5)
    assert opened.read(1) == b""


def test_an_empty_object_reads_as_empty(tmp_path: Path) -> None:
    store = SlicedStore(tmp_path)
    store.put("k", b"")
    assert _open(store).read() == b""


def test_an_object_replaced_while_open_is_an_error_and_never_a_blend(store: SlicedStore) -> None:
    opened = _open(store)
    first = opened.read(PAGE_BYTES)
    store.put("k", bytes(len(BODY)))
    assert first == BODY[:PAGE_BYTES]
    opened.seek(2_000_000)
    with pytest.raises(VersionChanged):
        opened.read(10)


def test_slices_at_hand_serve_the_opened_version_after_a_replacement(store: SlicedStore) -> None:
    store.warm("k")
    opened = _open(store)
    opened.read(1)
    store.put("k", bytes(len(BODY)))
    opened.seek(1_000_000)
    assert opened.read(100) == BODY[1_000_000:1_000_100]


def test_a_page_file_cut_short_is_noticed_before_its_bytes_are_given_out(store: SlicedStore) -> None:
    store.warm("k")
    opened = _open(store)
    opened.read(1)
    for path in store.files:
        os.truncate(path, 10)
    store.pages.clear()
    opened.seek(PAGE_BYTES + 100)
    assert opened.read(1000) == BODY[PAGE_BYTES + 100 :][:1000]


@pytest.mark.parametrize("other_bytes", [1024, 16 * PAGE_BYTES])
def test_pages_laid_out_anew_while_the_file_is_open_are_found_again(store: SlicedStore, other_bytes: int) -> None:
    store.warm("k")
    opened = _open(store)
    places = random.Random(3).sample(range(0, len(BODY) - 1000, 1000), 60)
    for round_ in range(3):
        for place in places:
            opened.seek(place)
            assert opened.read(900) == BODY[place : place + 900]
        for path in store.files[1::2]:
            path.unlink(missing_ok=True)
        store.page_bytes = other_bytes if round_ == 0 else PAGE_BYTES
        store.warm("k")


def test_a_lease_that_ended_is_asked_for_again(store: SlicedStore) -> None:
    store.warm("k")
    session = _session(store)
    now = [0.0]
    reader = ObjectReader(session, "b/k", _info(session), monotonic=lambda: now[0])
    buffer = bytearray(10)
    original = store._sliced

    def leased(*args: object) -> object:
        reading = original(*args)  # type: ignore[arg-type]
        for piece in reading.ready if reading else ():
            piece.until = now[0] + 5
        return reading

    store._sliced = leased  # type: ignore[assignment,method-assign]
    assert reader.readinto(buffer) == 10
    asked = store.peeks
    reader.seek(100)
    reader.readinto(buffer)
    assert store.peeks == asked
    now[0] = 5.1
    reader.seek(200)
    reader.readinto(buffer)
    assert bytes(buffer) == BODY[200:210]
    assert store.peeks > asked


def test_threads_share_one_open_file(store: SlicedStore) -> None:
    opened = _open(store)
    total: list[int] = []

    def consume() -> None:
        while part := opened.read(10_000):
            total.append(len(part))

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(total) == len(BODY)


async def _fixed_opener(_: SessionOptions) -> Namespace:
    store = SlicedStore(Path("/nonexistent"))
    store.put("k", BODY)
    return namespace_of(b=store)


def test_an_open_file_is_pickled_with_its_place_and_version() -> None:
    session = Session(SessionOptions(), _fixed_opener)
    opened = HeadraceFile(ObjectReader(session, "b/k", _info(session)))
    opened.seek(1234)
    again = pickle.loads(pickle.dumps(opened))
    assert again.read(10) == BODY[1234:1244]
    assert again.version == opened.version


def test_text_and_lines_work_through_the_standard_wrappers(tmp_path: Path) -> None:
    store = SlicedStore(tmp_path)
    store.put("k", "".join(f"line {n} ä\n" for n in range(20_000)).encode())
    lines = io.TextIOWrapper(_open(store), encoding="utf-8").readlines()
    assert len(lines) == 20_000
    assert lines[-1] == "line 19999 ä\n"


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, len(BODY) + 10), st.integers(0, 300_000)), max_size=8), warm=st.booleans())
def test_any_sequence_of_reads_equals_slicing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]], warm: bool
) -> None:
    store = SlicedStore(tmp_path_factory.mktemp("pages"))
    store.put("k", BODY)
    if warm:
        store.warm("k")
    with _open(store) as opened:
        for at, length in steps:
            opened.seek(at)
            assert opened.read(length) == BODY[at : at + length]
