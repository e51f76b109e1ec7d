from __future__ import annotations

import msgspec
import pytest

from headrace.control.operations import Operations
from headrace.control.plane import ControlPlane
from headrace.model.errors import AccessDenied, NotFound, SettingsError, Unavailable
from headrace.model.mounts import MountSpec
from support.fake_node import FakeNode

SPEC = MountSpec("/sales", "s3://sales")


async def test_a_mount_is_tried_written_and_pushed(plane: ControlPlane) -> None:
    node = FakeNode()
    await Operations(plane, node).add_mount(SPEC, actor="test")
    assert node.tried == [SPEC]
    assert SPEC in node.pushed[-1].mounts
    assert node.pushed[-1].epoch == plane.state().epoch


async def test_a_mount_that_does_not_work_is_not_written(plane: ControlPlane) -> None:
    node = FakeNode()
    node.try_failure = AccessDenied("the store refused this key")
    with pytest.raises(AccessDenied, match="refused this key"):
        await Operations(plane, node).add_mount(SPEC, actor="test")
    assert plane.ledger.state.mounts() == ()
    assert node.pushed == []


async def test_a_wrong_mount_is_not_even_tried(plane: ControlPlane) -> None:
    node = FakeNode()
    with pytest.raises(SettingsError):
        await Operations(plane, node).add_mount(MountSpec("no-slash", "s3://x"), actor="test")
    assert node.tried == []


async def test_a_change_that_not_every_worker_has_is_said_to_be_written(plane: ControlPlane) -> None:
    node = FakeNode()
    node.push_failure = Unavailable("worker 1 does not answer")
    with pytest.raises(Unavailable, match=r"is written down.*worker 1"):
        await Operations(plane, node).add_mount(SPEC, actor="test")
    assert plane.ledger.state.mounts() == (SPEC,)


async def test_set_and_remove_reach_the_workers(plane: ControlPlane) -> None:
    node = FakeNode()
    operations = Operations(plane, node)
    await operations.add_mount(SPEC, actor="test")
    changed = msgspec.structs.replace(SPEC, freshness="verify")
    await operations.replace_mount(changed, expected=SPEC, actor="test")
    assert changed in node.pushed[-1].mounts
    await operations.remove_mount("/sales", actor="test")
    assert [mount.path for mount in node.pushed[-1].mounts] == ["/fixed"]


async def test_pins_and_frees_reach_the_node(plane: ControlPlane) -> None:
    node = FakeNode()
    operations = Operations(plane, node)
    assert await operations.pin("/sales/hot", True, actor="test")
    assert not await operations.pin("/sales/hot", True, actor="test")
    assert node.pinned == [("/sales/hot", True)] * 2
    assert plane.ledger.state.pins() == ("/sales/hot",)
    assert await operations.free("/sales", prefix=True, actor="test") == 12345
    assert node.freed == [("/sales", True)]


async def test_a_pin_that_the_node_refuses_is_not_written_and_one_without_a_mount_can_be_taken_away(plane: ControlPlane) -> None:
    node = FakeNode()
    operations = Operations(plane, node)
    node.pin_failure = NotFound("nothing is mounted at /sales")
    with pytest.raises(NotFound, match="nothing is mounted"):
        await operations.pin("/sales", True, actor="test")
    assert plane.ledger.state.pins() == ()
    plane.set_pin("/sales", True, actor="test")
    assert await operations.pin("/sales", False, actor="test")
    assert plane.ledger.state.pins() == ()
    with pytest.raises(NotFound, match="nothing is mounted"):
        await operations.pin("/sales", False, actor="test")
    with pytest.raises(SettingsError, match="begin with a slash"):
        await operations.pin("sales", True, actor="test")


async def test_all_pins_are_held_at_the_start_and_one_that_cannot_be_is_told(
    plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    node = FakeNode()
    for path in ("/sales/hot", "/other"):
        plane.set_pin(path, True, actor="test")
    await Operations(plane, node).hold_pins()
    assert node.held == ["/other", "/sales/hot"]
    node.pin_failure = NotFound("nothing is mounted at /other")
    await Operations(plane, node).hold_pins()
    assert "/other" in caplog.text
    assert "/sales/hot" in caplog.text


async def test_pins_hold_for_a_mount_whose_store_was_changed(plane: ControlPlane) -> None:
    node = FakeNode()
    operations = Operations(plane, node)
    for path in ("/sales/hot", "/salesmen", "/sale", "/"):
        plane.set_pin(path, True, actor="test")
    await operations.add_mount(SPEC, actor="test")
    assert node.pinned == [("/", True), ("/sales/hot", True)]
    fresher = msgspec.structs.replace(SPEC, freshness="verify")
    await operations.replace_mount(fresher, expected=SPEC, actor="test")
    assert len(node.pinned) == 2
    moved = msgspec.structs.replace(fresher, store="s3://elsewhere")
    await operations.replace_mount(moved, expected=fresher, actor="test")
    assert node.pinned[2:] == node.pinned[:2]
    node.pin_failure = Unavailable("no serving process is running")
    with pytest.raises(Unavailable, match=r"/sales is mounted, but the pin of / does not hold yet.*no serving process"):
        await operations.replace_mount(fresher, expected=moved, actor="test")
    assert plane.mount("/sales").spec == fresher
