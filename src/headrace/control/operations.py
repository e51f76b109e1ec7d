"""Changes on a node that runs: checked, tried, written down, then brought into force everywhere."""

from __future__ import annotations

import asyncio
import logging

from headrace.control.node_view import NodeView, StagedConflict
from headrace.control.plane import ControlPlane
from headrace.model.errors import HeadraceError, NotFound, SettingsError, Unavailable
from headrace.model.mounts import MountSpec

_log = logging.getLogger("headrace.control")


class Operations:
    """One change at a time, in the order in which they came."""

    def __init__(self, control: ControlPlane, node: NodeView) -> None:
        self._control = control
        self._node = node
        self._one_at_a_time = asyncio.Lock()

    async def add_mount(self, spec: MountSpec, *, actor: str) -> None:
        """Check, try (list and read), write, push. When it returns every worker serves the mount."""
        async with self._one_at_a_time:
            await asyncio.to_thread(self._control.check_new, spec)
            await self._node.try_mount(spec)
            await asyncio.to_thread(self._control.add_mount, spec, actor=actor)
            await self._push()
            await self._hold_pins(spec.path)

    async def replace_mount(self, spec: MountSpec, *, expected: MountSpec, actor: str) -> None:
        """As `add_mount`, for one that is there."""
        async with self._one_at_a_time:
            await asyncio.to_thread(self._control.check_replacement, spec)
            if (spec.store, spec.endpoint, spec.write) != (expected.store, expected.endpoint, expected.write):
                await self._check_settled(spec.path)
            await self._node.try_mount(spec)
            await asyncio.to_thread(self._control.replace_mount, spec, expected=expected, actor=actor)
            await self._push()
            if spec.identity() != expected.identity():
                await self._hold_pins(spec.path)

    async def remove_mount(self, path: str, *, actor: str) -> None:
        """Take a mount away. Reads that run go on to their end. Raises `SettingsError` while its store lacks writes."""
        async with self._one_at_a_time:
            await self._check_settled(path)
            await asyncio.to_thread(self._control.remove_mount, path, actor=actor)
            await self._push()

    async def pin(self, path: str, on: bool, *, actor: str) -> bool:
        """Keep pages, or let them go again; whether anything changed. A pin of what is mounted no more can be taken away."""
        self._control.check_pin(path)
        async with self._one_at_a_time:
            if on:
                await self._node.pin(path, on)
                return await asyncio.to_thread(self._control.set_pin, path, on, actor=actor)
            changed = await asyncio.to_thread(self._control.set_pin, path, on, actor=actor)
            try:
                await self._node.pin(path, on)
            except NotFound:
                if not changed:
                    raise
            return changed

    async def hold_pins(self) -> None:
        """Pins lie with the pages of a store, and settings may have put another store below one since the last start."""
        for pin in await asyncio.to_thread(self._control.ledger.state.pins):
            try:
                await self._node.hold_pin(pin)
            except HeadraceError as error:
                _log.warning("the pin of %s does not hold: pin it again when its store answers (%s)", pin, error)

    async def free(self, path: str, *, prefix: bool, actor: str) -> int:
        """Bytes freed."""
        freed = await self._node.free(path, prefix=prefix)
        await asyncio.to_thread(self._control.ledger.audit.add, "free", actor=actor, target=path)
        return freed

    async def settle(self, conflict: StagedConflict, *, ours: bool, actor: str) -> None:
        """End a conflict."""
        await self._node.settle(conflict, ours=ours)
        kept = "ours" if ours else "theirs"
        await asyncio.to_thread(self._control.ledger.audit.add, f"settle.{kept}", actor=actor, target=conflict.path)

    async def _check_settled(self, path: str) -> None:
        mounts = (await self._node.stats()).mounts
        staged = next((mount.staged for mount in mounts if mount.path == path), None)
        if staged is not None and staged.writes:
            raise SettingsError(
                f"{staged.writes} writes to {path} have not reached its store yet: `headrace sync --wait {path}` waits for them",
                path=path,
            )

    async def _hold_pins(self, path: str) -> None:
        """Pins lie with the pages of a store: another store below the same path must be told of them."""
        for pin in await asyncio.to_thread(self._control.pins_around, path):
            try:
                await self._node.pin(pin, True)
            except HeadraceError as error:
                raise type(error)(f"{path} is mounted, but the pin of {pin} does not hold yet: pin it again; {error}") from error

    async def _push(self) -> None:
        state = await asyncio.to_thread(self._control.state)
        try:
            await self._node.push_state(state)
        except Unavailable as error:
            raise Unavailable(f"the change is written down, but not every worker has it yet: {error}") from error
