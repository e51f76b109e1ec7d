"""What an operation works with: the request, who asks, for what, and the rooms below."""

from __future__ import annotations

import msgspec

from headrace.gateways.http.messages import Request, Response
from headrace.gateways.s3.auth import Authenticator, Identity
from headrace.gateways.s3.errors import S3Error, refused
from headrace.gateways.s3.routes import Route
from headrace.gateways.s3.target import Target
from headrace.model.errors import HeadraceError
from headrace.model.events import AccessRefused
from headrace.model.objects import Emit
from headrace.namespace.buckets import NamespaceBuckets
from headrace.namespace.namespace import Namespace
from headrace.namespace.uploads import NamespaceUploads
from headrace.policy.acls import Acl
from headrace.policy.rules import Action, Caller, Policy

OWNER_ID = "headrace"
"""Whom buckets and objects belong to, as S3 callers see it, where no owners are kept: there are callers and rules then."""


class Noted:
    """What the gateway remembers of a request until its answer has left."""

    __slots__ = ("admitted", "caller", "operation", "path", "writes")

    def __init__(self) -> None:
        self.operation = "Unknown"
        self.path = ""
        self.caller = ""
        self.admitted = False
        self.writes = False
        """Whether it was admitted, and is there to change something."""


class Call(msgspec.Struct, frozen=True):
    """One authenticated and allowed request. `emit` takes events, `noted` what is found out late."""

    request: Request
    identity: Identity
    target: Target
    route: Route
    namespace: Namespace
    policy: Policy
    region: str
    now_s: float
    authenticator: Authenticator
    noted: Noted
    emit: Emit
    bucket_acl: Acl | None = None
    """The list of the bucket that the path is in, where its mount keeps lists and one was asked for."""

    @property
    def path(self) -> str:
        return self.target.path

    @property
    def public(self) -> bool:
        """Whether everybody may read what is here, by the mount's word."""
        mount = self.namespace.mount_of(self.path)
        return mount is not None and mount.spec.anonymous

    def keeps_acls(self, path: str) -> bool:
        """Whether access control lists decide at `path`, too."""
        mount = self.namespace.mount_of(path)
        return mount is not None and mount.spec.acls

    @property
    def owner_id(self) -> str:
        """Whom the bucket belongs to, as callers see it."""
        return self.bucket_acl.owner or OWNER_ID if self.bucket_acl is not None else OWNER_ID

    def may(self, action: Action, path: str) -> bool:
        """Whether the policy lets this caller do `action` at `path`."""
        return decide(self.policy, self.namespace, self.identity.caller, action, path)

    def require(self, action: Action, path: str) -> None:
        """Raises the audited `S3Error` when the policy does not let this caller do `action` at `path`."""
        if not self.may(action, path):
            raise refused("AccessDenied", "Access Denied", caller=self.identity.caller.key_id)

    def audit(self, error: S3Error, path: str) -> None:
        """Leave a line in the audit log when the error says no to the caller."""
        if error.audited:
            caller = error.caller or self.identity.caller.key_id
            method = self.request.method.decode("latin-1")
            self.emit(AccessRefused(reason=error.code, caller=caller, method=method, path=path, peer=self.request.peer))

    @property
    def uploads(self) -> NamespaceUploads:
        """The multipart uploads of the namespace."""
        return NamespaceUploads(self.namespace)

    @property
    def buckets(self) -> NamespaceBuckets:
        """The buckets of the namespace."""
        return NamespaceBuckets(self.namespace)

    async def check_current_version(self) -> None:
        """Raises `S3Error` when another version is asked for than the one at hand."""
        wanted = self.check_version_id()
        if wanted and wanted != (await self.namespace.info(self.path)).version_id:
            raise S3Error("NoSuchVersion", "The specified version does not exist.")

    def check_version_id(self) -> str:
        """The version asked for; empty for the current one, which is all that unversioned callers see as `null`."""
        wanted = self.target.get("versionId")
        if self.target.has("versionId") and not wanted:
            raise S3Error("InvalidArgument", "Version id cannot be the empty string")
        return "" if wanted == "null" else wanted


def decide(policy: Policy, namespace: Namespace, caller: Caller, action: Action, path: str) -> bool:
    """Whether the policy lets the caller do `action` at `path`, by what is mounted there."""
    mount = namespace.mount_of(path)
    if mount is None:
        return policy.decide(caller, action, path).allowed
    return policy.decide(caller, action, path, anonymous_mount=mount.spec.anonymous, acls=mount.spec.acls).allowed


def xml_response(text: str) -> Response:
    """An XML answer."""
    return Response(200, b"content-type: application/xml\r\n", text.encode("utf-8", "replace"))


async def missing_code(namespace: Namespace, path: str) -> str:
    """S3's code for an object or bucket that is not there."""
    bucket, _, key = path[1:].partition("/")
    try:
        there = await NamespaceBuckets(namespace).has(bucket)
    except HeadraceError:
        return "NoSuchKey"
    return "NoSuchKey" if there and key else "NoSuchBucket"
