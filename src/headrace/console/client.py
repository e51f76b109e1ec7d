"""The admin API's client: what a running node is asked to do."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from headrace.console import messages
from headrace.console.wire import Wire, error_of
from headrace.control.node_view import Found, NodeStats, StagedConflict, StagedWrites
from headrace.ledger.records import JobRecord
from headrace.model.errors import HeadraceError, SettingsError, Unavailable
from headrace.model.mounts import MountSpec
from headrace.node.home import reachable, read_addresses

_T = TypeVar("_T")

_MAX_LINE_BYTES = 1024 * 1024


class AdminClient:
    """Each call is one request on a connection of its own. Raises the error that the server raised."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.wire = Wire(url, token)
        self._token = token

    @property
    def login_link(self) -> str:
        """The status page, logged in. Anybody who has it is an administrator."""
        return f"{self.url}/?token={quote(self._token)}"

    def mounts(self) -> tuple[messages.MountView, ...]:
        return self._call("GET", "/mounts", tuple[messages.MountView, ...])

    def add_mount(self, spec: MountSpec) -> bool:
        """Whether nothing is there yet."""
        return self._call("POST", "/mounts", messages.Mounted, spec).is_empty

    def replace_mount(self, spec: MountSpec, *, expected: MountSpec) -> None:
        self._call("PUT", "/mounts", messages.Done, messages.ReplaceMount(spec, expected))

    def remove_mount(self, path: str) -> None:
        self._call("DELETE", "/mounts", messages.Done, messages.RemoveMount(path))

    def stats(self) -> NodeStats:
        return self._call("GET", "/stats", NodeStats)

    def jobs(self) -> tuple[JobRecord, ...]:
        """The newest first."""
        return self._call("GET", "/jobs", tuple[JobRecord, ...])

    def job(self, job_id: str) -> JobRecord:
        return self._call("GET", f"/jobs/{quote(job_id, safe='')}", JobRecord)

    def cancel_job(self, job_id: str) -> JobRecord:
        return self._call("POST", f"/jobs/{quote(job_id, safe='')}/cancel", JobRecord, messages.Done())

    def resume_job(self, job_id: str) -> JobRecord:
        return self._call("POST", f"/jobs/{quote(job_id, safe='')}/resume", JobRecord, messages.Done())

    def load(self, path: str) -> JobRecord:
        return self._call("POST", "/load", JobRecord, messages.LoadRequest(path))

    def free(self, path: str, *, prefix: bool) -> int:
        """Bytes freed."""
        return self._call("POST", "/free", messages.Freed, messages.FreeRequest(path, prefix)).bytes

    def staged(self, path: str) -> StagedWrites:
        return self._call("GET", f"/staged?path={quote(path, safe='')}", StagedWrites)

    def settle(self, conflict: StagedConflict, *, ours: bool) -> None:
        self._call("POST", "/settle", messages.Done, messages.SettleRequest(conflict, ours))

    def survey(self, path: str, progress: Callable[[Found], None]) -> Found:
        """Have the stores at or below `path` looked through. What was found so far is told to `progress` now and then.

        It ends when the connection does. Raises also what ends it later.
        """
        connection, response = self.wire.open("POST", "/survey", messages.SurveyRequest(path))
        try:
            while line := response.readline(_MAX_LINE_BYTES):
                told = msgspec.json.decode(line, type=messages.SurveyLine)
                if told.error is not None:
                    raise error_of(told.error)
                if told.over:
                    return told.found
                progress(told.found)
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            if isinstance(error, HeadraceError):
                raise  # some of them are OSErrors, too
            raise Unavailable(f"{self.url} ended in the middle ({error}) of looking through {path}: repeat it") from error
        finally:
            connection.close()
        raise Unavailable(f"{self.url} ended before it had looked through {path}: repeat it")

    def pins(self) -> tuple[str, ...]:
        return self._call("GET", "/pins", messages.Pins).paths

    def pin(self, path: str, on: bool) -> bool:
        """Whether anything changed."""
        return self._call("POST", "/pin", messages.Done, messages.PinRequest(path, on)).changed

    def _call(self, method: str, path: str, answer: type[_T], body: object = None) -> _T:
        return self.wire.call(method, path, answer, body)

    def answers(self) -> bool:
        """Whether a node serves there."""
        return self.wire.answers()


def find_server(home: Path, control_listen: str) -> AdminClient | None:
    """The node that runs on `home`, if one does. Raises `SettingsError` when its token cannot be read."""
    try:
        token = (home / "run" / "admin.token").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}; run this as the user that runs `headrace up`") from error
    addresses = read_addresses(home)
    url = addresses.control if addresses is not None else reachable(control_listen)
    client = AdminClient(url, token)
    return client if client.answers() else None


def need_server(home: Path, control_listen: str) -> AdminClient:
    """As `find_server`. Raises `Unavailable` when no node runs."""
    client = find_server(home, control_listen)
    if client is None:
        raise Unavailable(f"no server runs on {home}: start one with `headrace up`")
    return client
