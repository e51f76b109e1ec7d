"""What an operation works with: the request, who asks, for what, and the rooms below."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.gateways.http.messages import Request, Response
from headrace.gateways.s3.auth import Identity
from headrace.gateways.s3.errors import S3Error
from headrace.gateways.s3.routes import Route
from headrace.gateways.s3.target import Target
from headrace.namespace.namespace import Namespace
from headrace.policy.rules import Action, Policy


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated and allowed request."""

    request: Request
    identity: Identity
    target: Target
    route: Route
    namespace: Namespace
    policy: Policy
    region: str
    now_s: float

    @property
    def path(self) -> str:
        return self.target.path

    def may(self, action: Action, path: str) -> bool:
        """Whether the policy lets this caller do `action` at `path`."""
        mount = self.namespace.mount_of(path)
        anonymous = mount is not None and mount.spec.anonymous
        return self.policy.decide(self.identity.caller, action, path, anonymous_mount=anonymous).allowed

    def check_version_id(self) -> str:
        """The version asked for; empty for the current one, which is all that unversioned callers see as `null`."""
        wanted = self.target.get("versionId")
        if self.target.has("versionId") and not wanted:
            raise S3Error("InvalidArgument", "Version id cannot be the empty string")
        return "" if wanted == "null" else wanted


def xml_response(text: str) -> Response:
    """An XML answer."""
    return Response(200, b"content-type: application/xml\r\n", text.encode("utf-8", "replace"))
