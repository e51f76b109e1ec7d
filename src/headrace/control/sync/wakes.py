"""Which live syncs a change concerns, by paths and buckets; and changes gathered, each once, until somebody looks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from headrace.control.notifications import ChangedObject, Changes
from headrace.control.plane import is_below
from headrace.model.mounts import MountSpec
from headrace.stores.keys import PROOF_NAME

_MAX_GATHERED = 10_000
_S3 = "s3://"


class Place(msgspec.Struct, frozen=True):
    """A part of an S3 bucket; of all buckets, where `bucket` is empty."""

    bucket: str
    prefix: str

    def holds(self, changed: ChangedObject) -> bool:
        return self.bucket in ("", changed.bucket) and changed.key.startswith(self.prefix)


def places_of(side: str, mounts: Iterable[MountSpec]) -> tuple[Place, ...]:
    """Where in S3 the objects at and below a path of the namespace lie."""
    covering = max((spec for spec in mounts if is_below(side, spec.path)), key=lambda spec: len(spec.path), default=None)
    found = [(spec, "") for spec in mounts if is_below(spec.path, side) and spec is not covering]
    if covering is not None:
        found.append((covering, side[len(covering.path.rstrip("/")) :].strip("/")))
    places = []
    for spec, inner in found:
        for store in [member.store for member in spec.union or (spec,)]:
            if store.startswith(_S3):
                whole = "/".join(filter(None, (store.removeprefix(_S3).strip("/"), inner)))
                bucket, _, prefix = whole.partition("/")
                places.append(Place(bucket, f"{prefix}/" if prefix else ""))
    return tuple(places)


def concerns(changes: Changes, sides: tuple[str, str], mounts: tuple[MountSpec, ...]) -> bool:
    """Whether some of it may have changed an object of a side."""
    if any(is_below(path, side) or is_below(side, path) for path in changes.paths for side in sides):
        return True
    if not (changes.objects or changes.are_all):
        return False
    places = [place for side in sides for place in places_of(side, mounts)]
    return bool(places) if changes.are_all else any(place.holds(changed) for changed in changes.objects for place in places)


class Gathered:
    """What was said to have changed since somebody took it. Bounded: of too much only that there was something is kept."""

    def __init__(self) -> None:
        self.some = asyncio.Event()
        """Whether there is anything to take."""
        self._objects: set[ChangedObject] = set()
        self._paths: set[str] = set()
        self._are_all = False

    def add(self, changes: Changes) -> None:
        self._objects.update(changed for changed in changes.objects if PROOF_NAME not in changed.key)
        self._paths.update(changes.paths)
        if len(self._objects) > _MAX_GATHERED or len(self._paths) > _MAX_GATHERED:
            self._objects, self._paths, self._are_all = set(), {"/"}, True
        self._are_all = self._are_all or changes.are_all
        if self._objects or self._paths or self._are_all:
            self.some.set()

    def take(self) -> Changes:
        """Once."""
        taken = Changes(tuple(self._objects), tuple(self._paths), self._are_all)
        self._objects, self._paths, self._are_all = set(), set(), False
        self.some.clear()
        return taken
