"""One request at a time to the control port: standard library only, so that commands start fast."""

from __future__ import annotations

import http.client
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from headrace.console import messages
from headrace.model.errors import AccessDenied, HeadraceError, Unavailable, error_named

_T = TypeVar("_T")

TIMEOUT_S = 60.0
"""A new mount is tried before the answer comes; that takes as long as its store takes."""
_PROBE_S = 2.0
_MAX_ANSWER_BYTES = 64 * 1024 * 1024


class Wire:
    """Each call is one request on a connection of its own. Raises the error that the server raised."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._token = token

    def call(self, method: str, path: str, answer: type[_T], body: object = None) -> _T:
        """One request of `/api/v1`, and its answer as `answer`."""
        status, data = self._ask(method, f"/api/v1{path}", None if body is None else msgspec.json.encode(body), TIMEOUT_S)
        if status >= 400:
            raise self._refused(status, data)
        try:
            return msgspec.json.decode(data, type=answer)
        except msgspec.DecodeError as error:
            raise self._other_words(status, error) from error

    def open(self, method: str, path: str, body: object) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """A request of `/api/v1` whose answer is read as it comes; whoever asks closes the connection."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            response = self._send(connection, method, f"/api/v1{path}", msgspec.json.encode(body))
            if response.status >= 400:
                raise self._refused(response.status, response.read(_MAX_ANSWER_BYTES))
        except (OSError, http.client.HTTPException, HeadraceError) as error:
            connection.close()
            if isinstance(error, HeadraceError):
                raise
            raise self._silent(error) from error
        return connection, response

    def _refused(self, status: int, data: bytes) -> HeadraceError:
        try:
            refused = msgspec.json.decode(data, type=messages.ErrorBody)
        except msgspec.DecodeError as error:
            return self._other_words(status, error)
        if status == 401:
            return AccessDenied(f"{self.url} does not know this token: is another node running there, with another home?")
        return error_of(refused)

    def _other_words(self, status: int, error: msgspec.DecodeError) -> Unavailable:
        return Unavailable(f"{self.url} answered {status} in words of another release: run the same ({error})")

    def _ask(self, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            response = self._send(connection, method, path, body)
            return response.status, response.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        finally:
            connection.close()

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {"authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["content-type"] = "application/json"
        connection.request(method, path, body=body, headers=headers)
        return connection.getresponse()

    def _silent(self, error: OSError | http.client.HTTPException) -> Unavailable:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        return Unavailable(f"{self.url} does not answer ({reason}): try `headrace doctor`")

    def answers(self) -> bool:
        """Whether a node serves there."""
        try:
            return self._ask("GET", "/healthz", None, _PROBE_S)[0] == 200
        except Unavailable:
            return False


def error_of(body: messages.ErrorBody) -> HeadraceError:
    """The error that the server told."""
    return (error_named(body.kind) or HeadraceError)(body.message, path=body.path)
