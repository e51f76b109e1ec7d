"""Objects of one Google Cloud Storage bucket written, removed and tagged."""

from __future__ import annotations

from headrace.model.errors import ConditionFailed, Conflict, NotFound
from headrace.model.objects import ObjectInfo
from headrace.model.writing import Attributes, Body, Condition, Pairs
from headrace.stores.gs_objects import item_info, resource, tags_change
from headrace.stores.gs_requests import GsRequests
from headrace.stores.gs_send import Document, GsSender, Outgoing
from headrace.stores.kept_text import Kept
from headrace.stores.writes import full_object


class GsWrites:
    """The changing verbs of `GsStore` but for copies and multipart uploads."""

    def __init__(self, requests: GsRequests) -> None:
        self._requests = requests
        self._sender = GsSender(requests)

    async def write(self, key: str, body: Body, attributes: Attributes, condition: Condition) -> ObjectInfo:
        """`Store.write`."""

        def describe(checksums: Pairs) -> Document:
            return resource(attributes, Kept(full_object(checksums)))

        describe(())
        query = await self._requests.precondition(condition, key)
        try:
            return item_info(await self._sender.send(key, Outgoing(body, key), describe, query))
        except ConditionFailed as error:
            raise await self._requests.settle_refusal(error, condition, key) from error
        except NotFound:
            await self._requests.check_bucket()
            raise

    async def delete(self, key: str, condition: Condition) -> None:
        """`Store.delete`."""
        query = await self._requests.precondition(condition, key)
        try:
            (await self._requests.send("DELETE", self._requests.object_path(key), path=key, query=query)).close()
        except ConditionFailed as error:
            raise await self._requests.settle_refusal(error, condition, key) from error
        except NotFound:
            if condition:
                raise
            await self._requests.check_bucket()

    async def set_tags(self, key: str, tags: Pairs) -> None:
        """`Store.set_tags`: the generation stays, its metageneration is another afterwards."""
        found = await self._requests.item(key)
        same = {"ifGenerationMatch": found.generation, "ifMetagenerationMatch": found.metageneration}
        try:
            await self._requests.change("PATCH", self._requests.object_path(key), tags_change(tags), path=key, query=same)
        except ConditionFailed as error:
            message = f"gs {self._requests.bucket}/{key}: it was changed meanwhile; its tags were not, try again"
            raise Conflict(message, path=key) from error
