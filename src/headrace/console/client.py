"""The admin API's client: standard library only, so that commands start fast."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from headrace.console import messages
from headrace.control.node_view import Found, NodeStats, StagedConflict, StagedWrites
from headrace.ledger.records import JobRecord
from headrace.model.errors import AccessDenied, HeadraceError, SettingsError, Unavailable, error_named
from headrace.model.mounts import MountSpec
from headrace.node.home import read_addresses

_T = TypeVar("_T")

TIMEOUT_S = 60.0
"""A new mount is tried before the answer comes; that takes as long as its store takes."""
_PROBE_S = 2.0
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_MAX_LINE_BYTES = 1024 * 1024


class AdminClient:
    """Each call is one request on a connection of its own. Raises the error that the server raised."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
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
        body = msgspec.json.encode(messages.SurveyRequest(path))
        with self._asked("POST", "/api/v1/survey", body, TIMEOUT_S) as response:
            if response.status >= 400:
                self._decode(response.status, response.read(_MAX_ANSWER_BYTES), messages.Done)
            while line := response.readline(_MAX_LINE_BYTES):
                told = self._decode(response.status, line, messages.SurveyLine)
                if told.error is not None:
                    raise _error_of(told.error)
                if told.over:
                    return told.found
                progress(told.found)
        raise Unavailable(f"{self.url} ended before it had looked through {path}: repeat it")

    def pins(self) -> tuple[str, ...]:
        return self._call("GET", "/pins", messages.Pins).paths

    def pin(self, path: str, on: bool) -> bool:
        """Whether anything changed."""
        return self._call("POST", "/pin", messages.Done, messages.PinRequest(path, on)).changed

    def _call(self, method: str, path: str, answer: type[_T], body: object = None) -> _T:
        status, data = self._ask(method, f"/api/v1{path}", None if body is None else msgspec.json.encode(body), TIMEOUT_S)
        return self._decode(status, data, answer)

    def _decode(self, status: int, data: bytes, answer: type[_T]) -> _T:
        try:
            if status < 400:
                return msgspec.json.decode(data, type=answer)
            refused = msgspec.json.decode(data, type=messages.ErrorBody)
        except msgspec.DecodeError as error:
            raise Unavailable(f"{self.url} answered {status} in words of another release: run the same ({error})") from error
        if status == 401:
            raise AccessDenied(f"{self.url} does not know this token: is another node running there, with another home?")
        raise _error_of(refused)

    def _ask(self, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
        with self._asked(method, path, body, timeout_s) as response:
            return response.status, response.read(_MAX_ANSWER_BYTES)

    @contextmanager
    def _asked(self, method: str, path: str, body: bytes | None, timeout_s: float) -> Iterator[http.client.HTTPResponse]:
        headers = {"authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["content-type"] = "application/json"
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            connection.request(method, path, body=body, headers=headers)
            yield connection.getresponse()
        except HeadraceError:
            raise  # some of them are OSErrors, too
        except (OSError, http.client.HTTPException) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
            raise Unavailable(f"{self.url} does not answer ({reason}): try `headrace doctor`") from error
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether a node serves there."""
        try:
            return self._ask("GET", "/healthz", None, _PROBE_S)[0] == 200
        except Unavailable:
            return False


def _error_of(body: messages.ErrorBody) -> HeadraceError:
    return (error_named(body.kind) or HeadraceError)(body.message, path=body.path)


def find_server(home: Path, control_listen: str) -> AdminClient | None:
    """The node that runs on `home`, if one does. Raises `SettingsError` when its token cannot be read."""
    try:
        token = (home / "run" / "admin.token").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}; run this as the user that runs `headrace up`") from error
    addresses = read_addresses(home)
    url = addresses.control if addresses is not None else f"http://{_reachable(control_listen)}"
    client = AdminClient(url, token)
    return client if client.answers() else None


def need_server(home: Path, control_listen: str) -> AdminClient:
    """As `find_server`. Raises `Unavailable` when no node runs."""
    client = find_server(home, control_listen)
    if client is None:
        raise Unavailable(f"no server runs on {home}: start one with `headrace up`")
    return client


def _reachable(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    everywhere = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - read, never bound
    return f"{everywhere.get(host, host)}:{port}"
