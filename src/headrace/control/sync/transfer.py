"""Carrying out the steps of a plan in a serving process. What was changed since the plan saw it is left alone, and told."""

from __future__ import annotations

from headrace.control.sync.copier import Copier, mark_of
from headrace.control.sync.sides import described, path_of
from headrace.control.sync.steps import Outcome, Result, Seen, Side, Step, StepBatch, Verb, conflict_key
from headrace.ledger.sync_records import SyncPair
from headrace.model.errors import ConditionFailed, Conflict, HeadraceError, NotFound, Unavailable, VersionChanged
from headrace.model.objects import ObjectInfo


class Carrier:
    """Does what the steps of one batch say."""

    def __init__(self, copier: Copier, batch: StepBatch) -> None:
        self._copier = copier
        self._paths = {Side.A: batch.a, Side.B: batch.b}

    async def carry_out(self, step: Step) -> Outcome:
        """Never raises for what a store says."""
        try:
            return await self._do(step)
        except (NotFound, VersionChanged, ConditionFailed, Conflict) as error:
            return Outcome(Result.CHANGED, error=str(error))
        except Unavailable as error:
            return Outcome(Result.AWAY, error=str(error))
        except (HeadraceError, OSError) as error:
            return Outcome(Result.FAILED, error=str(error))

    async def _do(self, step: Step) -> Outcome:
        match step.verb:
            case Verb.COPY:
                return await self._copy(step)
            case Verb.DELETE:
                await self._copier.delete(path_of(self._paths[step.towards], step.key), _there(step, step.towards))
                return Outcome(Result.DONE)
            case Verb.COMPARE:
                a, b = (described(self._paths[side], _there(step, side)) for side in (Side.A, Side.B))
                is_same = a.size == b.size and await self._copier.digest(a) == await self._copier.digest(b)
                return Outcome(Result.SAME if is_same else Result.DIFFERENT)
            case Verb.KEEP_BOTH:
                return await self._keep_both(step)

    async def _copy(self, step: Step) -> Outcome:
        source, path = step.source, path_of(self._paths[step.towards], step.key)
        info = described(self._paths[step.towards.other], source)
        made, is_verified = await self._copier.copy(info, path, step.seen(step.towards))
        return Outcome(Result.DONE, (_pair(step.key, step.towards, mark_of(made), source.mark),), source.size, is_verified)

    async def _keep_both(self, step: Step) -> Outcome:
        loser, side = _there(step, step.towards), step.towards
        saved = conflict_key(step.key, loser)
        kept = await self._save(side, loser, side, saved)
        theirs = await self._save(side, loser, side.other, saved)
        pair = _pair(saved, side.other, mark_of(theirs), mark_of(kept))
        done = await self._copy(step)
        return Outcome(Result.DONE, (pair, *done.pairs), done.bytes + loser.size, done.verified)

    async def _save(self, origin: Side, source: Seen, towards: Side, key: str) -> ObjectInfo:
        path = path_of(self._paths[towards], key)
        try:
            return (await self._copier.copy(described(self._paths[origin], source), path, None))[0]
        except (ConditionFailed, Conflict):
            # Its name tells its version: it was saved before.
            there = await self._copier.namespace.info(path)
            if there.size != source.size:
                raise
            return there


def _there(step: Step, side: Side) -> Seen:
    seen = step.seen(side)
    if seen is None:
        raise ValueError(f"{step.verb} of {step.key!r}: there is nothing on side {side}")
    return seen


def _pair(key: str, towards: Side, made: str, mark: str) -> SyncPair:
    return SyncPair(key, mark, made) if towards is Side.B else SyncPair(key, made, mark)
