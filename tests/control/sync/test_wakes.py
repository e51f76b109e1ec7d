"""Which live syncs a change concerns."""

from __future__ import annotations

import pytest

from headrace.control.notifications import ChangedObject, Changes
from headrace.control.sync.wakes import Gathered, Place, concerns, places_of
from headrace.model.mounts import MountSpec

MOUNTS = (
    MountSpec("/sales", "s3://corp/2026"),
    MountSpec("/sales/deep", "s3://other"),
    MountSpec("/all", "s3://"),
    MountSpec("/disk", "file:///disk"),
    MountSpec("/both", union=(MountSpec("/both", "s3://one/x"), MountSpec("/both", "file:///y"), MountSpec("/both", "s3://two"))),
)


@pytest.mark.parametrize(
    ("side", "places"),
    [
        ("/sales", {("corp", "2026/"), ("other", "")}),
        ("/sales/in", {("corp", "2026/in/")}),
        ("/sales/deep/er", {("other", "er/")}),
        ("/all", {("", "")}),
        ("/all/bucket/a/b", {("bucket", "a/b/")}),
        ("/disk", set()),
        ("/both/z", {("one", "x/z/"), ("two", "z/")}),
        ("/nowhere", set()),
    ],
)
def test_a_side_lies_where_its_mounts_do(side: str, places: set[tuple[str, str]]) -> None:
    assert set(places_of(side, MOUNTS)) == {Place(*place) for place in places}


@pytest.mark.parametrize(
    ("changes", "concerned"),
    [
        (Changes(), False),
        (Changes(objects=(ChangedObject("corp", "2026/in/k"),)), True),
        (Changes(objects=(ChangedObject("corp", "2026/inner/k"), ChangedObject("corp", "in/k"))), False),
        (Changes(objects=(ChangedObject("other", "k"),)), False),
        (Changes(paths=("/sales/in/k",)), True),
        (Changes(paths=("/sales",)), True),
        (Changes(paths=("/",)), True),
        (Changes(paths=("/sales/inner/k", "/all")), False),
        (Changes(paths=("/disk/k",)), True),
        (Changes(are_all=True), True),
    ],
)
def test_what_lies_on_either_side_concerns_a_sync(changes: Changes, concerned: bool) -> None:
    assert concerns(changes, ("/sales/in", "/disk"), MOUNTS) is concerned


def test_a_gap_in_what_stores_say_concerns_sides_in_such_stores_alone() -> None:
    assert not concerns(Changes(are_all=True), ("/disk/a", "/disk/b"), MOUNTS)


def test_changes_are_taken_once_and_each_once() -> None:
    gathered = Gathered()
    assert not gathered.some.is_set()
    for _ in range(3):
        gathered.add(Changes((ChangedObject("b", "k"),), ("/p",)))
    assert gathered.some.is_set()
    assert gathered.take() == Changes((ChangedObject("b", "k"),), ("/p",))
    assert (gathered.take(), gathered.some.is_set()) == (Changes(), False)


def test_objects_by_which_stores_are_tried_are_no_changes() -> None:
    gathered = Gathered()
    gathered.add(Changes((ChangedObject("b", "in/.headrace-proof-0123456789abcdef"),)))
    assert not gathered.some.is_set()


def test_of_too_many_changes_only_that_there_were_some_is_kept() -> None:
    gathered = Gathered()
    for number in range(20_001):
        gathered.add(Changes((ChangedObject("b", str(number)),)))
    taken = gathered.take()
    assert taken.are_all and "/" in taken.paths
    assert len(taken.objects) < 20_001
    assert concerns(taken, ("/disk/a", "/disk/b"), MOUNTS)
