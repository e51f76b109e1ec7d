"""The part of the admin API's client that is about syncs."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from urllib.parse import quote

import msgspec

from headrace.console import messages
from headrace.console.client import AdminClient
from headrace.console.wire import error_of
from headrace.control.sync.steps import Planned
from headrace.ledger.records import JobRecord
from headrace.ledger.sync_records import SyncRecord, SyncSpec
from headrace.model.errors import Unavailable


class SyncClient:
    """Calls of `admin`'s server. Raises what the server raised."""

    def __init__(self, admin: AdminClient) -> None:
        self._wire = admin.wire

    def all(self) -> tuple[SyncRecord, ...]:
        """By name."""
        return self._wire.call("GET", "/syncs", tuple[SyncRecord, ...])

    def get(self, name: str) -> SyncRecord:
        return self._wire.call("GET", _at(name), SyncRecord)

    def add(self, spec: SyncSpec) -> SyncRecord:
        return self._wire.call("POST", "/syncs", SyncRecord, spec)

    def remove(self, name: str) -> None:
        self._wire.call("DELETE", _at(name), messages.Done, messages.Done())

    def run(self, name: str, *, force: bool) -> JobRecord:
        return self._wire.call("POST", f"{_at(name)}/run", JobRecord, messages.RunSync(force))

    def set_paused(self, name: str, paused: bool) -> SyncRecord:
        return self._wire.call("POST", f"{_at(name)}/{'pause' if paused else 'resume'}", SyncRecord, messages.Done())

    def plan(self, spec: SyncSpec) -> Iterator[Planned]:
        """The plan as it is made, a part at a time."""
        connection, response = self._wire.open("POST", "/plan", spec)
        try:
            while (said := self._next(response)) is not None:
                if said.error is not None:
                    raise error_of(said.error)
                if said.planned is not None:
                    yield said.planned
        finally:
            connection.close()

    def _next(self, response: http.client.HTTPResponse) -> messages.PlanLine | None:
        try:
            line = response.readline()
            return msgspec.json.decode(line, type=messages.PlanLine) if line else None
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise Unavailable(f"{self._wire.url} broke off while it told the plan ({error}): try again") from error


def _at(name: str) -> str:
    return f"/syncs/{quote(name, safe='')}"
