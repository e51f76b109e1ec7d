"""CHECKACCESS, home directories, and delegation tokens."""

from __future__ import annotations

import re

from headrace.gateways.http.messages import Response
from headrace.gateways.webhdfs.context import Call, done, json_response
from headrace.gateways.webhdfs.errors import HdfsError, bad_parameter
from headrace.gateways.webhdfs.listing import listed_path
from headrace.gateways.webhdfs.status import BLOCK_BYTES, find
from headrace.model.mounts import WriteMode
from headrace.policy.rules import Action

_ACTION = re.compile(r"[r-][w-][x-]")


async def check_access(call: Call) -> Response:
    """Whether the caller may, by the rules; permissions that are kept with files bind nobody."""
    wanted = call.asked.get("fsaction", "---")
    if not _ACTION.fullmatch(wanted):
        raise bad_parameter("fsaction", f"{wanted[:40]!a} is not like r-x")
    found = await find(call.namespace, call.path)
    if found.info is None:
        call.require(Action.LIST, listed_path(call.path))
    elif "r" in wanted:
        call.require(Action.READ, call.path)
    if "w" in wanted:
        call.require(Action.WRITE, call.path)
        mount = call.namespace.mount_of(call.path)
        if mount is None or mount.spec.write is WriteMode.NONE:
            raise HdfsError("AccessControlException", f"Permission denied: {call.path} takes no writes")
    if "x" in wanted and found.info is not None:
        raise HdfsError(
            "AccessControlException", f"Permission denied: access=EXECUTE, inode={call.path!a}: no file is executable"
        )
    return done()


async def get_home_directory(call: Call) -> Response:
    return json_response({"Path": _home(call)})


async def get_trash_root(call: Call) -> Response:
    return json_response({"Path": f"{_home(call)}/.Trash"})


def _home(call: Call) -> str:
    return f"/user/{call.who.caller.key_id or call.who.name or 'anonymous'}"


async def get_server_defaults(call: Call) -> Response:  # noqa: ARG001  one form for all operations
    """What Hadoop 3's clients ask before they write."""
    told = {
        "blockSize": BLOCK_BYTES, "bytesPerChecksum": 512, "writePacketSize": 65536, "replication": 1, "fileBufferSize": 4096,
        "encryptDataTransfer": False, "trashInterval": 0, "checksumType": 2, "keyProviderUri": "", "defaultStoragePolicyId": 0,
    }  # fmt: skip
    return json_response({"FsServerDefaults": told})


async def get_delegation_token(call: Call) -> Response:
    """A token for the caller, who signed the request."""
    owner = _signer(call)
    token = call.desk.tokens.issue(owner, call.asked.get("renewer")[:128], call.now_s)
    return json_response({"Token": {"urlString": token}})


async def renew_delegation_token(call: Call) -> Response:
    return json_response({"long": call.desk.tokens.renew(call.asked.get("token"), _signer(call), call.now_s)})


async def cancel_delegation_token(call: Call) -> Response:
    call.desk.tokens.cancel(call.asked.get("token"), _signer(call), call.now_s)
    return done()


def _signer(call: Call) -> str:
    if not call.who.signed:
        raise HdfsError(
            "AuthenticationException",
            "delegation tokens are given out, renewed and cancelled by signed requests alone",
            audited=True,
        )
    return call.who.caller.key_id
