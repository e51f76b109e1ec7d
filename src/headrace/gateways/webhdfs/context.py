"""What an operation works with: the request, who asks, for what, and the rooms below."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from headrace.gateways.http.messages import Request, Response, render_fields
from headrace.gateways.webhdfs.asked import PREFIX, Asked, quoted
from headrace.gateways.webhdfs.errors import Fields, HdfsError
from headrace.gateways.webhdfs.grants import PARAMETER, Grants
from headrace.gateways.webhdfs.identity import Who, unnamed
from headrace.gateways.webhdfs.settings import WebHdfsSettings
from headrace.gateways.webhdfs.tokenbook import TokenBook
from headrace.namespace.namespace import Namespace
from headrace.policy.rules import Action, Policy

_PARTS_IN_MEMORY = 8
_SUMS_AT_ONCE = 2
_T = TypeVar("_T")
DATA = "data"
"""The parameter that tells the second step from the first."""


class Desk:
    """What all requests of one gateway share: tokens, bounds on memory, and work that outlives its client."""

    def __init__(self, settings: WebHdfsSettings, tokens: TokenBook, grants: Grants) -> None:
        self.settings = settings
        self.tokens = tokens
        self.grants = grants
        self.parts = asyncio.Semaphore(_PARTS_IN_MEMORY)
        """Parts of what is appended, over all requests."""
        self.sums = asyncio.Semaphore(_SUMS_AT_ONCE)
        """Checksums that are being computed."""
        self._running: set[asyncio.Future[Any]] = set()

    async def to_the_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What `work` comes to. It goes on when the client leaves, so that nothing is left half done."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody does once the client has left


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was admitted."""

    request: Request
    asked: Asked
    who: Who
    namespace: Namespace
    policy: Policy
    desk: Desk
    now_s: float

    @property
    def path(self) -> str:
        return self.asked.path

    @property
    def key_path(self) -> str:
        """The path as `gateways/fsspec.py` and its neighbours write it."""
        return self.asked.path[1:]

    def may(self, action: Action, path: str) -> bool:
        """Whether the policy lets this caller do `action` at `path`."""
        mount = self.namespace.mount_of(path)
        if mount is not None and mount.spec.acls:
            return False  # its lists speak of S3's operations, and are asked by its gateway alone
        anonymous = mount is not None and mount.spec.anonymous
        return self.policy.decide(self.who.caller, action, path, anonymous_mount=anonymous).allowed

    def require(self, action: Action, path: str) -> None:
        """Raises the audited `HdfsError` when the policy does not let this caller do `action` at `path`."""
        if not self.may(action, path):
            raise self.refusal(action, path)

    def refusal(self, action: Action, path: str) -> HdfsError:
        """That this caller may not."""
        mount = self.namespace.mount_of(path)
        if mount is not None and mount.spec.acls:
            message = f"Permission denied: {path!a} is on a mount with acls = true, which is read and written through S3 alone"
            return HdfsError("AccessControlException", message, audited=True, caller=self.who.caller.key_id)
        if self.who.caller.anonymous:
            return unnamed(self.who, self.request)
        name = self.who.caller.key_id
        message = f"Permission denied: user={name}, access={action.value.upper()}, inode={path!a}"
        return HdfsError("AccessControlException", message, audited=True, caller=name)

    @property
    def is_data_step(self) -> bool:
        return self.asked.flag(DATA)

    @property
    def origin(self) -> str:
        """Where this node is for the client, scheme and all. Never what the client's own `Host` says."""
        place = self.desk.settings.advertise or self.request.local
        return place if "://" in place else f"http://{place}"

    def redirect(self) -> Response:
        """To the second step, here. As JSON where the client wishes to go there by itself."""
        kept = {
            name: value
            for name, value in self.asked.values.items()
            if name not in ("noredirect", "user.name", "delegation", PARAMETER) and not name.startswith("x-amz-")
        }
        values = {**kept, DATA: "true"}
        carried = self.who.carried
        if self.who.signed:
            carried = ((PARAMETER, self.desk.grants.issue(self.who.caller.key_id, self.path, values, self.now_s)),)
        location = f"{self.origin}{PREFIX.decode()}{quoted(self.path)}?{urlencode([*values.items(), *carried])}"
        if self.asked.flag("noredirect"):
            return json_response({"Location": location})
        return Response(307, render_fields((("location", location), ("content-type", "application/octet-stream"))))


def json_response(value: object) -> Response:
    """A JSON answer."""
    return Response(200, JSON_FIELDS, msgspec.json.encode(value))


def done(fields: Fields = (), status: int = 200) -> Response:
    """It is so, and there is nothing to tell."""
    return Response(status, render_fields((*fields, ("content-type", "application/octet-stream"))))


JSON_FIELDS = b"content-type: application/json\r\nx-content-type-options: nosniff\r\n"
