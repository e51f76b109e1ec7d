"""The table of operations: method × `op`. What HDFS has and Headrace has not is refused by its name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec

from headrace.gateways.http.messages import Response
from headrace.gateways.webhdfs import access, attributes, changing, listing, reading, writing, xattrs
from headrace.gateways.webhdfs.asked import Asked
from headrace.gateways.webhdfs.context import Call
from headrace.gateways.webhdfs.errors import bad_parameter, not_offered

Run = Callable[[Call], Awaitable[Response]]


class Need(StrEnum):
    """What a caller must be allowed at the path before an operation is begun."""

    NOTHING = "nothing"
    """It tells nothing of the namespace, or asks for itself."""
    LOOK = "look"
    """To read it or to list it."""
    READ = "read"
    LIST = "list"
    WRITE = "write"


class Operation(msgspec.Struct, frozen=True):
    """One row."""

    method: str
    name: str
    need: Need
    run: Run
    takes_body: bool = False


OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "OPEN", Need.READ, reading.open_file),
    Operation("GET", "GETFILESTATUS", Need.LOOK, listing.get_file_status),
    Operation("GET", "LISTSTATUS", Need.LIST, listing.list_status),
    Operation("GET", "LISTSTATUS_BATCH", Need.LIST, listing.list_status_batch),
    Operation("GET", "GETCONTENTSUMMARY", Need.LIST, listing.get_content_summary),
    Operation("GET", "GETFILECHECKSUM", Need.READ, reading.get_file_checksum),
    Operation("GET", "GETFILEBLOCKLOCATIONS", Need.READ, reading.get_file_block_locations),
    Operation("GET", "GET_BLOCK_LOCATIONS", Need.READ, reading.get_block_locations),
    Operation("GET", "CHECKACCESS", Need.LOOK, access.check_access),
    Operation("GET", "GETHOMEDIRECTORY", Need.NOTHING, access.get_home_directory),
    Operation("GET", "GETTRASHROOT", Need.NOTHING, access.get_trash_root),
    Operation("GET", "GETSERVERDEFAULTS", Need.NOTHING, access.get_server_defaults),
    Operation("GET", "GETXATTRS", Need.READ, xattrs.get_xattrs),
    Operation("GET", "LISTXATTRS", Need.READ, xattrs.list_xattrs),
    Operation("GET", "GETDELEGATIONTOKEN", Need.NOTHING, access.get_delegation_token),
    Operation("PUT", "RENEWDELEGATIONTOKEN", Need.NOTHING, access.renew_delegation_token),
    Operation("PUT", "CANCELDELEGATIONTOKEN", Need.NOTHING, access.cancel_delegation_token),
    Operation("PUT", "CREATE", Need.WRITE, writing.create, takes_body=True),
    Operation("PUT", "MKDIRS", Need.WRITE, changing.make_directories),
    Operation("PUT", "RENAME", Need.WRITE, changing.rename),
    Operation("PUT", "SETPERMISSION", Need.WRITE, attributes.set_permission),
    Operation("PUT", "SETOWNER", Need.WRITE, attributes.set_owner),
    Operation("PUT", "SETTIMES", Need.WRITE, attributes.set_times),
    Operation("PUT", "SETREPLICATION", Need.WRITE, attributes.set_replication),
    Operation("PUT", "SETXATTR", Need.WRITE, xattrs.set_xattr),
    Operation("PUT", "REMOVEXATTR", Need.WRITE, xattrs.remove_xattr),
    Operation("POST", "APPEND", Need.WRITE, writing.append, takes_body=True),
    Operation("POST", "CONCAT", Need.WRITE, writing.concat),
    Operation("DELETE", "DELETE", Need.WRITE, changing.delete),
)
_BY_NAME = {(row.method, row.name): row for row in OPERATIONS}

NOT_OFFERED: dict[str, str] = {
    "TRUNCATE": "a file is written whole: write a shorter one in its place",
    "CREATESYMLINK": "there are no symbolic links here",
    "GETLINKTARGET": "there are no symbolic links here",
    **dict.fromkeys(
        ("GETACLSTATUS", "MODIFYACLENTRIES", "REMOVEACLENTRIES", "REMOVEDEFAULTACL", "REMOVEACL", "SETACL"),
        "there are no ACLs here: rules say who may do what",
    ),
    **dict.fromkeys(
        ("ALLOWSNAPSHOT", "DISALLOWSNAPSHOT", "CREATESNAPSHOT", "DELETESNAPSHOT", "RENAMESNAPSHOT", "GETSNAPSHOTDIFF",
         "GETSNAPSHOTDIFFLISTING", "GETSNAPSHOTTABLEDIRECTORYLIST", "GETSNAPSHOTTABLEDIRECTORY", "GETSNAPSHOTLIST"),
        "there are no snapshots here",
    ),
    **dict.fromkeys(
        ("GETALLSTORAGEPOLICY", "GETSTORAGEPOLICY", "SETSTORAGEPOLICY", "UNSETSTORAGEPOLICY", "SATISFYSTORAGEPOLICY",
         "GETECPOLICY", "SETECPOLICY", "UNSETECPOLICY", "ENABLEECPOLICY", "DISABLEECPOLICY", "GETECPOLICIES", "GETECCODECS"),
        "how bytes are stored is the store's own business",
    ),
    **dict.fromkeys(
        ("GETQUOTAUSAGE", "SETQUOTA", "SETQUOTABYSTORAGETYPE", "GETSTATUS"), "what there is room for is the store's own business"
    ),
}  # fmt: skip
"""By name, with the reason."""


def find_operation(method: str, asked: Asked) -> Operation:
    """The row for a request. Raises `HdfsError`."""
    name = asked.op
    row = _BY_NAME.get((method, name))
    if row is not None:
        return row
    if name in NOT_OFFERED:
        raise not_offered(f"{name} is not done: {NOT_OFFERED[name]}")
    raise bad_parameter("op", f"No enum constant {method} {name[:40]!a}")
