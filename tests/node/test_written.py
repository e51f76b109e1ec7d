"""What callers wrote is told soon, each path once, and never more than so much at a time."""

from __future__ import annotations

import asyncio

import pytest

from headrace.model.events import WriteServed
from headrace.node import written as module
from headrace.node.messages import Event, Wrote
from headrace.node.written import MAX_PATHS, Written


def write(path: str, operation: str = "PutObject", status: int = 200) -> WriteServed:
    return WriteServed("/m", path, 1, 0.1, operation, status)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.01)


async def told_of(*events: WriteServed) -> list[Event]:
    """All that is told by the time that a write which comes last is."""
    told: list[Event] = []
    over = asyncio.Event()

    def tell(event: Event) -> None:
        told.append(event)
        over.set()

    written = Written(tell)
    for event in events:
        written.note(event)
    if told_any := any(event.status < 400 for event in events):
        async with asyncio.timeout(10):
            await over.wait()
    assert told_any == bool(told)
    return told


async def test_writes_of_a_moment_are_told_together_and_each_path_once() -> None:
    assert await told_of(write("/m/b"), write("/m/a"), write("/m/b")) == [Wrote(("/m/a", "/m/b"))]


async def test_what_changed_no_object_is_not_told() -> None:
    told = await told_of(write("/m/refused", status=412), write("/m/part", "UploadPart"), write("/m/k", "DeleteObject", 204))
    assert told == [Wrote(("/m/k",))]
    assert await told_of(write("/m/refused", status=500)) == []


async def test_of_too_many_paths_the_mount_is_told() -> None:
    [told] = await told_of(*(write(f"/m/{number:05d}") for number in range(3 * MAX_PATHS)))
    assert isinstance(told, Wrote)
    assert len(told.paths) == MAX_PATHS + 1
    assert told.paths[0] == "/m"
