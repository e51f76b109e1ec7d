"""Jobs and how far they are, so that a killed process goes on where it was."""

from __future__ import annotations

import secrets

from sqlalchemy import delete, insert, select, update

from headrace.ledger import schema
from headrace.ledger.database import Database
from headrace.ledger.records import JobProgress, JobRecord, JobState
from headrace.model.clock import Clock

KEPT_JOBS = 1000
"""Jobs that are over are forgotten beyond this many, the oldest first."""


class JobTable:
    """One row a job."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, kind: str, target: str) -> JobRecord:
        now = self._clock.time()
        record = JobRecord(secrets.token_hex(4), kind, target, JobState.QUEUED, JobProgress(), "", now, now)
        with self._database.write() as connection:
            connection.execute(
                insert(schema.jobs).values(
                    id=record.id,
                    kind=kind,
                    target=target,
                    state=record.state,
                    progress=record.progress,
                    error="",
                    created_s=now,
                    updated_s=now,
                )
            )
            over = [state for state in JobState if state.over]
            old = (
                select(schema.jobs.c.id)
                .where(schema.jobs.c.state.in_(over))
                .order_by(schema.jobs.c.created_s.desc())
                .offset(KEPT_JOBS)
                .limit(KEPT_JOBS)
            )
            doomed = connection.execute(old).scalars().all()
            if doomed:
                connection.execute(delete(schema.jobs).where(schema.jobs.c.id.in_(doomed)))
        return record

    def update(self, job_id: str, state: JobState, progress: JobProgress, error: str = "") -> None:
        """Write how far the job is."""
        with self._database.write() as connection:
            connection.execute(
                update(schema.jobs)
                .where(schema.jobs.c.id == job_id)
                .values(state=state, progress=progress, error=error, updated_s=self._clock.time())
            )

    def again(self, job_id: str) -> JobRecord | None:
        """Put a job that is over back to its beginning; None when there is none by that id any more."""
        with self._database.write() as connection:
            changed = connection.execute(
                update(schema.jobs)
                .where(schema.jobs.c.id == job_id)
                .values(
                    state=JobState.QUEUED,
                    progress=JobProgress(),
                    error="",
                    created_s=self._clock.time(),
                    updated_s=self._clock.time(),
                )
            ).rowcount
        return self.get(job_id) if changed else None

    def get(self, job_id: str) -> JobRecord | None:
        with self._database.read() as connection:
            row = connection.execute(select(schema.jobs).where(schema.jobs.c.id == job_id)).first()
        return None if row is None else JobRecord(*row)

    def recent(self, limit: int = 100) -> tuple[JobRecord, ...]:
        """The newest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.jobs).order_by(schema.jobs.c.created_s.desc()).limit(limit)).all()
        return tuple(JobRecord(*row) for row in rows)

    def unfinished(self) -> tuple[JobRecord, ...]:
        """Jobs to go on with, the oldest first."""
        states = [state for state in JobState if not state.over]
        query = select(schema.jobs).where(schema.jobs.c.state.in_(states)).order_by(schema.jobs.c.created_s)
        with self._database.read() as connection:
            return tuple(JobRecord(*row) for row in connection.execute(query).all())
