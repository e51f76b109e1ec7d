"""Extended attributes of the `user` namespace, kept in an object's metadata in the form of s3fs-fuse (`xattr`).

What Headrace itself knows of an object is shown beside them, as on the mounted directory: `user.headrace.etag` and its like.
"""

from __future__ import annotations

import base64
import binascii
import json
from urllib.parse import quote, unquote

from headrace.gateways.http.messages import Response
from headrace.gateways.webhdfs.attributes import keep
from headrace.gateways.webhdfs.context import Call, done, json_response
from headrace.gateways.webhdfs.errors import HdfsError, bad_parameter, not_offered
from headrace.gateways.webhdfs.status import Found, find, with_metadata
from headrace.model.objects import ObjectInfo

OWN = "user.headrace."
MOST_BYTES = 1536
"""Of all names and values together: S3 stores keep 2 KB of metadata."""
_KEPT = "xattr"


async def set_xattr(call: Call) -> Response:
    name = _name(call)
    flag = call.asked.get("flag", "CREATE").upper()
    if not set(flag.split(",")) <= {"CREATE", "REPLACE"}:
        raise bad_parameter("flag", "it is neither CREATE nor REPLACE")
    value = read_value(call.asked.get("xattr.value"))
    found, kept = await _kept(call)
    if name in kept and "REPLACE" not in flag:
        raise HdfsError("IOException", f"XAttr: {name} already exists. The REPLACE flag must be specified.")
    if name not in kept and "CREATE" not in flag:
        raise HdfsError("IOException", f"XAttr: {name} does not exist. The CREATE flag must be specified.")
    await _keep(call, found, {**kept, name: value})
    return done()


async def remove_xattr(call: Call) -> Response:
    name = _name(call)
    found, kept = await _kept(call)
    if name not in kept:
        raise HdfsError("IOException", f"No matching attributes found for remove operation: {name}")
    await _keep(call, found, {one: value for one, value in kept.items() if one != name})
    return done()


async def get_xattrs(call: Call) -> Response:
    """The named ones, or all."""
    encoding = call.asked.get("encoding", "hex").lower()
    if encoding not in ("text", "hex", "base64"):
        raise bad_parameter("encoding", "it is text, hex or base64")
    shown = _shown(await _found(call))
    wanted = call.asked.get("xattr.name")
    if wanted:
        if wanted not in shown:
            raise HdfsError("IOException", f"At least one of the attributes provided was not found: {wanted[:255]}")
        shown = {wanted: shown[wanted]}
    return json_response({"XAttrs": [{"name": name, "value": write_value(value, encoding)} for name, value in shown.items()]})


async def list_xattrs(call: Call) -> Response:
    return json_response({"XAttrNames": json.dumps(list(_shown(await _found(call))))})


def read_value(text: str) -> bytes:
    """A value as Hadoop's clients write it: `"text"`, `0x…` or `0s…` in base64; anything else is text. Raises `HdfsError`."""
    try:
        if text[:2] in ("0x", "0X"):
            return bytes.fromhex(text[2:])
        if text[:2] in ("0s", "0S"):
            return base64.b64decode(text[2:], validate=True)
    except (ValueError, binascii.Error):
        raise bad_parameter("xattr.value", "it is neither hexadecimal nor base64") from None
    return (text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text).encode()


def write_value(value: bytes, encoding: str) -> str:
    """The opposite of `read_value`."""
    if encoding == "hex":
        return "0x" + value.hex()
    if encoding == "base64":
        return "0s" + base64.b64encode(value).decode()
    return f'"{value.decode("utf-8", "replace")}"'


def read_kept(text: str) -> dict[str, bytes]:
    """What an object's metadata say; nothing where they say it in no form that is known."""
    try:
        told = json.loads(unquote(text)) if text else {}
        return {str(name): base64.b64decode(value) for name, value in told.items()} if isinstance(told, dict) else {}
    except (ValueError, TypeError, RecursionError):
        return {}


def write_kept(xattrs: dict[str, bytes]) -> str:
    """As metadata keep it; empty for none. Raises `HdfsError` when that is too long."""
    if not xattrs:
        return ""
    told = {name: base64.b64encode(value).decode() for name, value in sorted(xattrs.items())}
    text = quote(json.dumps(told, separators=(",", ":")), safe="")
    if len(text) > MOST_BYTES:
        raise HdfsError("IOException", f"the attributes of one file may have {MOST_BYTES} bytes together, as they are kept")
    return text


def _name(call: Call) -> str:
    name = call.asked.get("xattr.name")
    if not name.lower().startswith("user.") or len(name) < 6 or len(name.encode()) > 255 or name.startswith(OWN):
        raise not_offered(f"xattr.name: only names that begin with user. can be kept, and not with {OWN}")
    return "user." + name[5:]


async def _found(call: Call) -> Found:
    return await with_metadata(call.namespace, await find(call.namespace, call.path))


async def _kept(call: Call) -> tuple[Found, dict[str, bytes]]:
    found = await _found(call)
    if call.path.count("/") < 2:
        raise not_offered(f"{call.path} is made by a mount, or is a bucket: nothing can be kept with it")
    return found, _xattrs(found.info or found.marker)


async def _keep(call: Call, found: Found, xattrs: dict[str, bytes]) -> None:
    await keep(call, found, {_KEPT: write_kept(xattrs)})


def _xattrs(info: ObjectInfo | None) -> dict[str, bytes]:
    return read_kept(dict(info.metadata).get(_KEPT, "")) if info is not None else {}


def _shown(found: Found) -> dict[str, bytes]:
    info = found.info
    known = {"etag": info.etag, "version": info.version.token, "content-type": info.content_type} if info is not None else {}
    own = {OWN + name: value.encode() for name, value in known.items() if value}
    return {**_xattrs(info or found.marker), **own}
