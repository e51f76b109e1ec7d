"""Copies that Google Cloud Storage makes by itself."""

from __future__ import annotations

import msgspec

from headrace.model.errors import ConditionFailed, NotFound, Unavailable, VersionChanged
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Attributes, Condition
from headrace.stores.gs_objects import Item, decoded, generation_of, item_info, resource
from headrace.stores.gs_requests import GsRequests
from headrace.stores.gs_send import Document

_STUCK_TIMES = 5


class _Rewritten(msgspec.Struct, rename="camel"):
    done: bool = False
    rewrite_token: str = ""
    total_bytes_rewritten: str = "0"
    resource: Item | None = None


async def copy(
    requests: GsRequests,
    bucket: str,
    source: ObjectInfo,
    key: str,
    attributes: Attributes | None,
    condition: Condition,
) -> ObjectInfo:
    """`Store.copy` of an object of `bucket`."""
    origin = requests.for_bucket(bucket)
    document: Document | None = None
    if attributes is not None:
        kept = (await same_source(origin, source)).kept()
        document = resource(attributes, msgspec.structs.replace(kept, upload=""))
    query = await requests.precondition(condition, key)
    try:
        return item_info(await rewrite(requests, origin, source, key, document, query))
    except ConditionFailed as error:
        await same_source(origin, source)
        raise await requests.settle_refusal(error, condition, key) from error
    except NotFound:
        await same_source(origin, source)
        await requests.check_bucket()
        raise


async def rewrite(
    requests: GsRequests,
    origin: GsRequests,
    source: ObjectInfo,
    key: str,
    document: Document | None,
    query: dict[str, str],
) -> Item:
    """Have exactly that version copied, with the attributes in `document`, else with its own.

    Raises `ConditionFailed` whether the source or the target is not what was asked for.
    """
    generation = generation_of(source.version, source.key)
    target = f"{origin.object_path(source.key)}/rewriteTo{requests.object_path(key).removeprefix('/storage/v1')}"
    asked = {**query, "sourceGeneration": generation, "ifSourceGenerationMatch": generation}
    far, stuck = "", 0
    while True:
        body = await requests.change("POST", target, document, path=key, query=asked)
        answer = decoded(body, _Rewritten, requests.bucket)
        if answer.done and answer.resource is not None:
            return requests.described(msgspec.json.encode(answer.resource), key)
        stuck = stuck + 1 if answer.total_bytes_rewritten == far else 0
        if not answer.rewrite_token or stuck > _STUCK_TIMES:
            raise Unavailable(f"gs {requests.bucket}/{key}: the service's copy does not get ahead, try again", path=key)
        far = answer.total_bytes_rewritten
        asked["rewriteToken"] = answer.rewrite_token


async def same_source(origin: GsRequests, source: ObjectInfo) -> Item:
    """An object as it is now, as long as it is that version. Raises `VersionChanged`, `NotFound`."""
    found = await origin.item(source.key)
    if found.generation != generation_of(source.version, source.key):
        message = f"{source.key!r} is now {found.generation}, not {source.version.token}"
        raise VersionChanged(message, path=source.key)
    return found
