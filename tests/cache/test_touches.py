import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cache.touches import SOCKET_NAME, Batch, Created, Group, Touches, TouchesListener

SALES = Group(b"sale", quota_bytes=10_000, ttl_s=60.0)
LOGS = Group(b"logs")


@pytest.fixture
def touches(tmp_path: Path) -> Iterator[Touches]:
    sender = Touches(tmp_path)
    yield sender
    sender.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[TouchesListener]:
    receiver = TouchesListener(tmp_path)
    yield receiver
    receiver.close()


def drain(listener: TouchesListener) -> list[Batch]:
    batches = []
    while (batch := listener.receive()) is not None:
        batches.append(batch)
    return batches


def test_what_was_touched_and_created_arrives_with_its_group(touches: Touches, listener: TouchesListener) -> None:
    touches.flush()
    touches.touched("a.w", SALES)
    touches.touched("b.p1", LOGS)
    touches.created("c.c0", 4096, SALES)
    touches.removed("d.w", LOGS)
    touches.flush()
    batches = drain(listener)
    assert {batch.group for batch in batches} == {SALES, LOGS}
    assert {name for batch in batches for name in batch.touched} == {"a.w", "b.p1"}
    assert [segment for batch in batches for segment in batch.created] == [Created("c.c0", 4096)]
    assert [name for batch in batches for name in batch.removed] == ["d.w"]


def test_a_name_touched_many_times_travels_once_a_batch(touches: Touches, listener: TouchesListener) -> None:
    touches.flush()
    for _ in range(50):
        touches.touched("a.w", SALES)
    touches.flush()
    assert [name for batch in drain(listener) for name in batch.touched] == ["a.w"]


def test_a_full_batch_leaves_without_a_flush(touches: Touches, listener: TouchesListener) -> None:
    touches.flush()
    for index in range(64):
        touches.touched(f"a.p{index:x}", SALES)
    assert sum(len(batch.touched) for batch in drain(listener)) == 64


def test_nobody_listening_loses_the_batch_and_raises_nothing(touches: Touches) -> None:
    touches.touched("a.w", SALES)
    touches.flush()
    assert (touches.sent, touches.lost) == (0, 1)


def test_a_listener_that_does_not_read_never_blocks_a_sender(touches: Touches, listener: TouchesListener) -> None:
    began = time.monotonic()
    for index in range(64 * 2000):
        touches.touched(f"{index:032x}.p0", SALES)
    assert touches.lost > 0
    assert time.monotonic() - began < 5
    assert drain(listener)


def test_a_sender_finds_the_next_listener_by_name(touches: Touches, tmp_path: Path) -> None:
    TouchesListener(tmp_path).close()
    second = TouchesListener(tmp_path)
    try:
        touches.touched("a.w", SALES)
        touches.flush()
        assert len(drain(second)) == 1
    finally:
        second.close()
    assert not (tmp_path / SOCKET_NAME).exists()


def test_a_socket_left_by_a_killed_listener_is_taken_over(tmp_path: Path, touches: Touches) -> None:
    first = TouchesListener(tmp_path)
    second = TouchesListener(tmp_path)
    try:
        touches.touched("a.w", SALES)
        touches.flush()
        assert first.receive() is None
        assert second.receive() is not None
    finally:
        os.close(first.fileno())
        first._socket.detach()
        second.close()


def test_garbage_is_counted_and_passed_over(touches: Touches, listener: TouchesListener) -> None:
    touches._socket.sendto(b"\xc1nonsense", touches._address)
    touches.touched("a.w", SALES)
    touches.flush()
    assert len(drain(listener)) == 1
    assert listener.malformed == 1


def test_the_listener_can_be_waited_for(touches: Touches, listener: TouchesListener) -> None:
    assert select.select([listener], [], [], 0)[0] == []
    touches.touched("a.w", SALES)
    touches.flush()
    assert select.select([listener], [], [], 5)[0] == [listener]


def test_a_page_directory_with_a_long_path_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    listener, touches = TouchesListener(deep), Touches(deep)
    try:
        touches.touched("a.w", SALES)
        touches.close()
        assert listener.receive() is not None
    finally:
        listener.close()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    touches = Touches(tmp_path)
    touches.close()
    touches.close()
    touches.touched("a.w", SALES)
    assert list(tmp_path.iterdir()) == []
