"""What a serving process does for syncs: listing a side, and carrying out steps, past the cache."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from pathlib import Path

from headrace.control.plane import is_below
from headrace.control.sync.copier import HEAVY_AT_ONCE, Copier
from headrace.control.sync.notes import Notes
from headrace.control.sync.pace import Pacer
from headrace.control.sync.schedule import parse_bandwidth
from headrace.control.sync.sides import side_page
from headrace.control.sync.steps import Outcome, SidePage, StepBatch
from headrace.control.sync.transfer import Carrier
from headrace.model.errors import Unavailable
from headrace.model.objects import ObjectInfo, with_key
from headrace.model.writing import Condition
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.node.messages import CarriedOut, CarryOut, ListSide, Sided
from headrace.stores.store import Store
from headrace.wiring import JointPlaces, LiveMounts, Parts, joint_places, joint_store, past_cache, void

_MAX_PACERS = 100
_MAX_JOINTS = 16


class SyncDesk:
    """One for a process. `home` is the node's: uploads under way are written down there."""

    def __init__(self, mounts: LiveMounts, parts: Parts, home: Path) -> None:
        self._mounts = mounts
        self._parts = parts
        self._notes = Notes(home / "syncs")
        self._heavy = asyncio.Semaphore(HEAVY_AT_ONCE)
        self._pacers: OrderedDict[str, Pacer] = OrderedDict()
        self._joints: dict[str, Store] = {}
        self._table: MountTable | None = None
        self._past = Namespace()

    async def answer(self, request: ListSide | CarryOut) -> Sided | CarriedOut:
        """What the channel asks."""
        if isinstance(request, ListSide):
            return Sided(await self.page(request.path, after=request.after, limit=request.limit))
        return CarriedOut(await self.carry_out(request.batch))

    async def page(self, path: str, *, after: str, limit: int) -> SidePage:
        """One page of a side. Raises `Unavailable` while a mount that belongs to it could not be built."""
        self._check_whole(path)
        return await side_page(self._namespace(), path, after=after, limit=limit)

    async def carry_out(self, batch: StepBatch) -> tuple[Outcome, ...]:
        """All steps at once; what became of each, in their order."""
        pacer = self._pacer(batch.name)
        pacer.set(parse_bandwidth(batch.bandwidth), batch.sharers)
        copier = Copier(self._namespace(), pacer, self._own_copy, self._heavy, self._notes)
        carrier = Carrier(copier, batch)
        return tuple(await asyncio.gather(*[carrier.carry_out(step) for step in batch.steps]))

    async def close(self) -> None:
        await asyncio.gather(*[store.close() for store in self._joints.values()], return_exceptions=True)

    def _namespace(self) -> Namespace:
        """The mounts in force, past the cache."""
        table = self._mounts.namespace.table
        if self._table is not table:
            self._past = Namespace(MountTable([Mount(m.path, m.spec, past_cache(m.store)) for m in table.mounts]))
            self._table = table
        return self._past

    def _check_whole(self, path: str) -> None:
        for failed, error in self._mounts.failed.items():
            if is_below(failed, path) or is_below(path, failed):
                raise Unavailable(f"{failed} is not served, so what is at {path} is not known: {error}", path=path)

    def _pacer(self, name: str) -> Pacer:
        pacer = self._pacers.setdefault(name, Pacer(self._parts.clock))
        self._pacers.move_to_end(name)
        if len(self._pacers) > _MAX_PACERS:
            self._pacers.popitem(last=False)
        return pacer

    async def _own_copy(self, source: ObjectInfo, path: str, condition: Condition) -> ObjectInfo | None:
        namespace = self._namespace()
        origin, target = namespace.resolve(source.key), namespace.writable(path)
        if origin.mount is target.mount:
            return await namespace.copy(source, path, condition=condition)
        places = joint_places(origin.mount, target.mount)
        store = None if places is None else self._joint(places)
        if places is None or store is None:
            return None
        inner = with_key(source, places.origin + origin.key)
        try:
            made = await store.copy(inner, places.target + target.key, condition=condition)
        finally:
            void(target.mount.store, target.key)
        return with_key(made, path)

    def _joint(self, places: JointPlaces) -> Store | None:
        found = self._joints.get(places.identity)
        if found is None and len(self._joints) < _MAX_JOINTS:
            found = self._joints[places.identity] = joint_store(places, self._parts)
        return found
