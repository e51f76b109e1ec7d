"""Requests to the JSON API of Google Cloud Storage, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from headrace.model.clock import Clock
from headrace.model.errors import (
    AccessDenied,
    ConditionFailed,
    Conflict,
    CorruptData,
    HeadraceError,
    NotFound,
    Throttled,
    Unavailable,
)
from headrace.model.writing import Condition
from headrace.stores.gs_auth import GoogleTokens
from headrace.stores.gs_objects import Item, decoded, is_generation, item_info
from headrace.stores.http import Http, HttpResponse, retry_after_s, status_error
from headrace.stores.sending import Sending
from headrace.stores.writes import check_condition, settled_refusal

Query = Mapping[str, str]

_READS = frozenset({"GET", "HEAD"})
_JSON = ("content-type", "application/json; charset=UTF-8")
_MAX_ANSWER_BYTES = 1 << 20
_RATE_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})


class _Reason(msgspec.Struct):
    reason: str = ""


class _Problem(msgspec.Struct):
    message: str = ""
    errors: list[_Reason] = []


class _Refusal(msgspec.Struct):
    error: _Problem


class GsRequests:
    """Requests about one bucket (or, without one, about a project) that raise what they were refused for."""

    def __init__(self, bucket: str, *, endpoint: str, tokens: GoogleTokens, http: Http, clock: Clock, project: str = "") -> None:
        self.bucket = bucket
        self.clock = clock
        self.project = project
        self._endpoint = endpoint.rstrip("/")
        self._tokens = tokens
        self._http = http

    def for_bucket(self, bucket: str) -> GsRequests:
        """The same project, connections and credentials for requests about `bucket`."""
        return GsRequests(
            bucket, endpoint=self._endpoint, tokens=self._tokens, http=self._http, clock=self.clock, project=self.project
        )

    def object_path(self, key: str) -> str:
        """Where the object is in the API. Empty: all of the bucket's objects."""
        return f"/storage/v1/b/{quote(self.bucket, safe='')}/o" + (f"/{quote(key, safe='')}" if key else "")

    def xml_path(self, key: str) -> str:
        """Where the object is in the XML API."""
        return f"/{quote(self.bucket, safe='')}/{quote(key, safe='')}"

    def upload_path(self) -> str:
        """Where new objects are sent to."""
        return f"/upload/storage/v1/b/{quote(self.bucket, safe='')}/o"

    async def send(
        self,
        method: str,
        target: str,
        *,
        path: str,
        query: Query | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Sending = b"",
    ) -> HttpResponse:
        """The answer to a request, whose status is 200 to 299. `target` is a path, percent-encoded; `path` is for messages."""
        asked = urlencode({name: value for name, value in (query or {}).items() if value}, quote_via=quote, safe="")
        url = self._endpoint + target + (f"?{asked}" if asked else "")
        sent = [*headers, *await self._tokens.headers()]
        response = await self._http.request(method, url, headers=sent, body=body, path=path)
        if 200 <= response.status < 300:
            return response
        raise await self._refused(method, response, path)

    async def item(self, key: str, query: Query | None = None) -> Item:
        """The resource of an object. Raises `NotFound`."""
        response = await self.send("GET", self.object_path(key), path=key, query=query)
        return self.described(await response.read(_MAX_ANSWER_BYTES), key)

    async def change(self, method: str, target: str, document: object, *, path: str, query: Query | None = None) -> bytes:
        """Send a JSON document; what was answered."""
        body = msgspec.json.encode(document) if document is not None else b""
        headers = [_JSON] if document is not None else []
        response = await self.send(method, target, path=path, query=query, headers=headers, body=body)
        return await response.read(_MAX_ANSWER_BYTES)

    def described(self, answer: bytes, key: str) -> Item:
        """The resource of `key` in an answer. Raises `CorruptData`."""
        item = decoded(answer, Item, self.bucket)
        if item.name != key or not is_generation(item.generation):
            raise CorruptData(f"bucket {self.bucket!r} answered for {item.name!r} instead of {key!r}", path=key)
        return item

    async def look(self, key: str) -> Item | None:
        """The object as it is now, or None."""
        try:
            return await self.item(key)
        except NotFound:
            return None

    async def precondition(self, condition: Condition, key: str) -> dict[str, str]:
        """The query that makes a change of `key` conditional: on the one generation with which `condition` holds.

        Raises `ConditionFailed` or `NotFound` when it holds with none.
        """
        if not condition:
            return {}
        wanted, unwanted = condition.if_match, condition.if_none_match
        if unwanted == "*" and not wanted:
            return {"ifGenerationMatch": "0"}
        if is_generation(wanted) and unwanted not in ("*", wanted):
            return {"ifGenerationMatch": wanted}
        found = await self.look(key)
        check_condition(condition, None if found is None else item_info(found), key)
        return {"ifGenerationMatch": "0" if found is None else found.generation}

    async def settle_refusal(self, error: HeadraceError, condition: Condition, key: str) -> HeadraceError:
        """What to raise for a refused precondition: the service does not tell what is there instead."""
        found = await self.look(key)
        info = None if found is None else item_info(found)
        return settled_refusal(error, condition, info, key, f"gs {self.bucket}/{key}")

    async def check_bucket(self) -> None:
        """Raises `NotFound` when the bucket itself is not there."""
        query = {"maxResults": "1", "fields": "nextPageToken"}
        (await self.send("GET", self.object_path(""), path=self.bucket, query=query)).close()

    def same_origin(self, location: str) -> str:
        """The path and query of an address that the service named, to be asked for at the endpoint itself."""
        parts = urlsplit(location)
        return parts.path + (f"?{parts.query}" if parts.query else "")

    async def close(self) -> None:
        await self._http.close()
        await self._tokens.close()

    async def _refused(self, method: str, response: HttpResponse, path: str) -> HeadraceError:
        try:
            found = msgspec.json.decode(await response.read(256 * 1024), type=_Refusal).error
        except (HeadraceError, msgspec.DecodeError):
            found = _Problem()  # an explanation that cannot be read explains nothing: the status stands
        response.close()
        status, reason = response.status, f": {found.message[:300]}" if found.message else ""
        message = f"gs bucket {self.bucket!r} answered {status} for {path!r}{reason}"
        if method not in _READS and status == 412:
            return ConditionFailed(message, path=path)
        if status == 409:
            return Conflict(message, path=path)
        if status == 403 and any(one.reason in _RATE_REASONS for one in found.errors):
            return Throttled(message, path=path, retry_after_s=retry_after_s(response.headers, self.clock.time()))
        if status in (401, 403):
            return AccessDenied(f"{message}; check the mount's credentials and their rights", path=path)
        if status == 400 and any(name in found.message.lower() for name in ("crc32c", "md5")):
            return Unavailable(f"{message}; the bytes were changed on their way, write them again", path=path)
        return status_error(status, message, path=path, headers=response.headers, now_s=self.clock.time())
