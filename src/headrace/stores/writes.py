"""What every store that takes writes shares: a body held to its length, and conditions."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator

from headrace.model.errors import ConditionFailed, Conflict, CorruptData, HeadraceError, NotFound
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Body, Condition, Pairs

TYPE = "type"
FULL_OBJECT = "FULL_OBJECT"
COMPOSITE = "COMPOSITE"


async def whole(body: Body, key: str) -> AsyncGenerator[memoryview]:
    """The body's bytes as flat views, none empty. Raises `CorruptData` unless there are as many as its length says."""
    seen = 0
    pieces = aiter(body)
    try:
        async for piece in pieces:
            view = memoryview(piece).cast("B")
            seen += len(view)
            if body.length is not None and seen > body.length:
                raise CorruptData(f"{key!r}: the body has more than the {body.length} bytes that were announced", path=key)
            if len(view):
                yield view
    finally:
        # A generator that is given up would otherwise keep its connection until it is collected.
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
    if body.length is not None and seen != body.length:
        raise CorruptData(f"{key!r}: the body ended after {seen} of {body.length} bytes", path=key)


def check_condition(condition: Condition, found: ObjectInfo | None, key: str) -> None:
    """Raises `ConditionFailed`, or `NotFound` where `if_match` finds no object."""
    if condition.holds(found):
        return
    if found is None:
        raise NotFound(f"{key!r} is not there, so it does not match {condition.if_match!r}", path=key)
    raise ConditionFailed(f"{key!r} has the ETag {found.etag!r}, which the condition does not allow", path=key)


def settled_refusal(error: HeadraceError, condition: Condition, found: ObjectInfo | None, key: str, shown: str) -> HeadraceError:
    """What to raise for a refused condition where the service does not tell what is there: `found`, asked for since."""
    try:
        check_condition(condition, found, key)
    except (ConditionFailed, NotFound) as settled:
        return settled
    changed = Conflict(f"{shown}: it was changed meanwhile; nothing was written, try again", path=key)
    changed.__cause__ = error
    return changed


def has_md5(info: ObjectInfo, md5: str) -> bool:
    """Whether the store says of the object's bytes that this is their MD5, in hexadecimal: by its ETag, or beside it."""
    if not md5:
        return False
    return info.etag == md5 or dict(info.checksums).get("md5") == b64encode(bytes.fromhex(md5)).decode()


def full_object(checksums: Pairs) -> Pairs:
    """A sender's checksums of a whole body as they are kept with the object."""
    kept = tuple([pair for pair in checksums if pair[0] != TYPE])
    return (*kept, (TYPE, FULL_OBJECT)) if kept else ()
