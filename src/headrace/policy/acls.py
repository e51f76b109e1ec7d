"""Access control lists as S3 has them: who owns a bucket or an object, and what its owner has granted to whom. Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from headrace.policy.rules import Caller


class Permission(StrEnum):
    """What a grant lets its grantee do; how S3 reads each of them depends on whether it stands at a bucket or an object."""

    READ = "READ"
    WRITE = "WRITE"
    READ_ACP = "READ_ACP"
    WRITE_ACP = "WRITE_ACP"
    FULL_CONTROL = "FULL_CONTROL"


EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"
SIGNED = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
GROUPS = (EVERYBODY, SIGNED)


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """One permission for one grantee: a key id, or one of `GROUPS`."""

    grantee: str
    permission: Permission


class Acl(msgspec.Struct, frozen=True, array_like=True):
    """An owner, who may do everything, and what others may. `owner` is a key id; empty: nobody's, so that rules alone decide."""

    owner: str = ""
    grants: tuple[Grant, ...] = ()

    def owned_by(self, caller: Caller) -> bool:
        """Whether nothing is withheld from the caller: the owner, or anybody with a key where there is no owner."""
        return not caller.anonymous and self.owner in ("", caller.key_id)

    def allows(self, caller: Caller, permission: Permission) -> bool:
        """Whether the caller owns it, or a grant covers the caller and the permission."""
        if self.owned_by(caller):
            return True
        return any(
            grant.permission in (permission, Permission.FULL_CONTROL) and _covers(grant.grantee, caller) for grant in self.grants
        )

    def encoded(self) -> str:
        """The text that `decoded` reads."""
        return msgspec.json.encode(self).decode()


def decoded(text: str) -> Acl:
    """What `Acl.encoded` wrote; nothing was kept where the text is empty. Raises `ValueError` for anything else."""
    return msgspec.json.decode(text, type=Acl) if text else Acl()


_CANNED: dict[str, tuple[Grant, ...]] = {
    "private": (),
    "public-read": (Grant(EVERYBODY, Permission.READ),),
    "public-read-write": (Grant(EVERYBODY, Permission.READ), Grant(EVERYBODY, Permission.WRITE)),
    "authenticated-read": (Grant(SIGNED, Permission.READ),),
}
_FOR_BUCKET_OWNERS = {"bucket-owner-read": Permission.READ, "bucket-owner-full-control": Permission.FULL_CONTROL}


def canned(name: str, owner: str, bucket_owner: str) -> Acl | None:
    """The list that S3 has under that name; None for one that is not kept here."""
    permission = _FOR_BUCKET_OWNERS.get(name)
    if permission is not None:
        return Acl(owner, (Grant(bucket_owner, permission),) if bucket_owner not in ("", owner) else ())
    grants = _CANNED.get(name)
    return None if grants is None else Acl(owner, grants)


def _covers(grantee: str, caller: Caller) -> bool:
    if grantee == EVERYBODY:
        return True
    return not caller.anonymous and grantee in (SIGNED, caller.key_id)
