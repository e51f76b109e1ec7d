"""Surveys of one process: the stores that a path covers, looked through one after the other for whoever goes on asking."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.cache.store import CachedStore
from headrace.cache.survey import Differences, Survey, spans_of, survey_of
from headrace.control.node_view import Found
from headrace.model.errors import HeadraceError, NotFound, Unavailable
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount
from headrace.node import messages
from headrace.node.messages import Done, EndSurvey, Surveyed
from headrace.wiring import caches_of

_ANSWER_S = 0.5
_PATIENCE_S = 10.0
"""A survey that nobody has asked about for as long is ended."""
_MAX_SURVEYS = 8
_MAX_TOLD = 3


@dataclass(frozen=True)
class _Part:
    """One store of one mount, and what to list of it: all at or below `key`, less what lies below `hidden`."""

    mount: Mount
    cached: CachedStore
    key: str
    hidden: tuple[str, ...]


class _Run:
    """Parts looked through in turn. One that cannot be listed does not keep the others waiting."""

    def __init__(self, parts: list[_Part], folder: Path | None) -> None:
        self.parts = parts
        self._folder = folder
        self._done = Differences()
        self._now: Survey | None = None
        self.task = asyncio.ensure_future(self._run())
        # Its error is told to whoever asks, if anybody does.
        self.task.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        self._end = self._later()

    async def answer(self) -> bool:
        """Wait a moment for its end; whether it has come. Raises what ended it."""
        self._end.cancel()
        self._end = self._later()
        await asyncio.wait((self.task,), timeout=_ANSWER_S)
        if self.task.done():
            self._end.cancel()
            if self.task.cancelled():
                raise Unavailable("mounts were changed while they were looked through: begin again")
            self.task.result()
        return self.task.done()

    async def end(self) -> None:
        self._end.cancel()
        self.task.cancel()
        await asyncio.wait((self.task,))

    def found(self) -> Found:
        """So far."""
        found = self._done if self._now is None else self._done.plus(self._now.found)
        return Found(**msgspec.structs.asdict(found))

    def _later(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(_PATIENCE_S, self.task.cancel)

    async def _run(self) -> None:
        failed: list[str] = []
        for part in self.parts:
            survey = self._now = survey_of(part.cached, spans_of(part.key), hidden=part.hidden, folder=self._folder)
            try:
                await survey.run()
            except HeadraceError as error:
                failed.append(f"{part.mount.path}: {error}")
                last = error
            self._done, self._now = self._done.plus(survey.found), None
        if failed:
            rest = f" and {len(failed) - _MAX_TOLD} more" if len(failed) > _MAX_TOLD else ""
            looked = "" if len(self.parts) == len(failed) else "; the others were looked through"
            raise type(last)("; ".join(failed[:_MAX_TOLD]) + rest + looked, path=last.path)


class Surveys:
    """At most a few at once. `folder` is where they keep what they have listed; None: nowhere."""

    def __init__(self, namespace: Namespace, folder: Path | None) -> None:
        self._namespace = namespace
        self._folder = folder
        self._running: dict[str, _Run] = {}

    async def answer(self, request: messages.Survey | EndSurvey) -> Surveyed | Done:
        """What the channel asks."""
        if isinstance(request, messages.Survey):
            return await self.ask(request)
        await self.end(request.id)
        return Done()

    async def ask(self, request: messages.Survey) -> Surveyed:
        """Begin a survey, or go on waiting for it. Raises as `NodeView.survey`."""
        run = self._running.get(request.id)
        if run is None:
            if len(self._running) >= _MAX_SURVEYS:
                raise Unavailable(f"{len(self._running)} surveys run already: try again when one is over", path=request.path)
            run = self._running[request.id] = _Run(_parts_below(self._namespace, request.path), self._folder)
        over = True
        try:
            over = await run.answer()
        finally:
            if over:
                self._running.pop(request.id, None)
        return Surveyed(run.found(), over)

    async def end(self, number: str) -> None:
        """Stop it, if it still runs."""
        run = self._running.pop(number, None)
        if run is not None:
            await run.end()

    async def mounts_changed(self) -> None:
        """End those that look through what is no longer in force; who asked is told so."""
        in_force = {id(mount) for mount in self._namespace.table.mounts}
        for run in tuple(self._running.values()):
            if any(id(part.mount) not in in_force for part in run.parts):
                await run.end()

    async def close(self) -> None:
        for number in tuple(self._running):
            await self.end(number)


def _parts_below(namespace: Namespace, path: str) -> list[_Part]:
    """What the path covers. Raises `NotFound` where nothing is mounted."""
    table = namespace.table
    plain = path.rstrip("/") or "/"
    mount = table.find(plain)
    deeper = table.below(plain)
    if mount is None and not deeper:
        raise NotFound(f"nothing is mounted at {path}: see `headrace mount ls`", path=path)
    found: list[tuple[Mount, str]] = [(below, "") for below in deeper]
    if mount is not None:
        found.insert(0, (mount, "" if mount.path == plain else table.resolve(path).key))
    return [
        _Part(one, cached, key, tuple(_relative(one, below) + "/" for below in table.below(one.path)))
        for one, key in found
        for cached in caches_of(one.store)
    ]


def _relative(mount: Mount, below: Mount) -> str:
    return below.path[len(mount.path.rstrip("/")) + 1 :]
