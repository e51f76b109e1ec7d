"""What a store is not trusted with before it has shown it: that it obeys conditions, and copies what it is told to copy.

Some S3 services ignore the headers that state a condition and answer 200, which loses what somebody else wrote. So before the
first conditional write of a kind, objects of our own, with names that nobody else chooses, are written beside the key in
question: one write that must be refused and one that must be done. They are removed afterwards.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec

from headrace.model.errors import ConditionFailed, HeadraceError, NotFound, Unsupported
from headrace.model.objects import ObjectInfo
from headrace.model.uploads import Part
from headrace.model.writing import Condition
from headrace.stores.keys import MAX_KEY_BYTES, PROOF_NAME
from headrace.stores.s3_objects import copy_source
from headrace.stores.s3_requests import Headers, S3Requests
from headrace.stores.s3_write_xml import complete_xml, parse_result
from headrace.stores.s3_xml import parse_tags

Info = Callable[[str], Awaitable[ObjectInfo]]
"""`Store.info` of the bucket."""

_TRUSTED_S = 3600.0
_DISTRUSTED_S = 300.0
_ABSENT_ETAG = "0" * 32


class Verb(StrEnum):
    """The requests that may be conditional."""

    PUT = "PutObject"
    COPY = "CopyObject"
    COMPLETE = "CompleteMultipartUpload"
    DELETE = "DeleteObject"


class _Shape(StrEnum):
    MATCH_ETAG = "If-Match"
    MATCH_ANY = "If-Match: *"
    NONE_MATCH_ETAG = "If-None-Match"
    NONE_MATCH_ANY = "If-None-Match: *"


class _Verdict(msgspec.Struct, frozen=True):
    """`quote` is put around entity tags (old Ceph matches only bare ones); None: the condition is not obeyed."""

    quote: str | None
    until: float


class Proofs:
    """What one bucket's store has shown so far. A verdict is kept for an hour, a bad one for five minutes."""

    def __init__(self, requests: S3Requests) -> None:
        self._requests = requests
        self._verdicts: dict[tuple[Verb, _Shape], _Verdict] = {}
        self._habits: dict[str, _Verdict] = {}
        self._turn = asyncio.Lock()

    async def condition_headers(self, verb: Verb, condition: Condition, key: str) -> list[tuple[str, str]]:
        """The headers that state `condition` for a write of `key`. Raises `Unsupported` where they would not be obeyed."""
        headers = []
        for value, is_match in ((condition.if_match, True), (condition.if_none_match, False)):
            if value:
                shape = _shape(value, is_match=is_match)
                quote = await self._quote(verb, shape, key)
                if quote is None:
                    message = f"s3 {key!r}: the store does not obey {shape} on {verb}, so nothing was written"
                    raise Unsupported(message, path=key)
                headers.append(_header(shape, value, quote))
        return headers

    async def copies_exactly(self, key: str) -> bool:
        """Whether a copy obeys the condition on its source, and sets the tags that it is told to."""
        return await self._has_habit("copies", key, lambda trial: trial.copies())

    async def keeps_upload_tags(self, key: str) -> bool:
        """Whether an object has the tags that its multipart upload was begun with."""
        return await self._has_habit("upload tags", key, lambda trial: trial.upload_tags())

    async def _has_habit(self, name: str, key: str, test: Callable[[_Trial], Awaitable[bool]]) -> bool:
        async with self._turn:
            now = self._requests.clock.monotonic()
            verdict = self._habits.get(name)
            if verdict is None or now >= verdict.until:
                good = await test(_Trial(self._requests, key))
                verdict = self._habits[name] = _Verdict("" if good else None, now + (_TRUSTED_S if good else _DISTRUSTED_S))
            return verdict.quote is not None

    async def _quote(self, verb: Verb, shape: _Shape, key: str) -> str | None:
        async with self._turn:
            now = self._requests.clock.monotonic()
            verdict = self._verdicts.get((verb, shape))
            if verdict is None or now >= verdict.until:
                quote = await _Trial(self._requests, key).quote(verb, shape)
                verdict = _Verdict(quote, now + (_DISTRUSTED_S if quote is None else _TRUSTED_S))
                self._verdicts[verb, shape] = verdict
            return verdict.quote


async def settle_refusal(error: ConditionFailed, key: str, condition: Condition, info: Info) -> HeadraceError:
    """The error to raise for a 412: where `if_match` found no object at all it is `NotFound`, which S3's answer leaves open."""
    if condition.if_match:
        try:
            await info(key)
        except NotFound as absent:
            return absent
    return error


class _Trial:
    """One proof, with objects of its own."""

    def __init__(self, requests: S3Requests, beside: str) -> None:
        folder = beside[: beside.rfind("/") + 1]
        name = PROOF_NAME + secrets.token_hex(8)
        self._key = folder + name if len((folder + name).encode()) + 1 <= MAX_KEY_BYTES else name
        self._other = self._key + "2"
        self._requests = requests
        self._made: set[str] = set()

    async def quote(self, verb: Verb, shape: _Shape) -> str | None:
        """What must stand around entity tags for the condition to be obeyed; None: nothing helps."""
        acts: dict[Verb, Callable[[Headers], Awaitable[None]]] = {
            Verb.PUT: self._put,
            Verb.COPY: self._copy,
            Verb.COMPLETE: self._complete,
            Verb.DELETE: self._delete,
        }
        try:
            for quote in ('"', ""):
                if await self._obeys(verb, acts[verb], shape, quote):
                    return quote
        except Unsupported:
            return None
        finally:
            await self._clear()
        return None

    async def copies(self) -> bool:
        """Whether a copy of another version than asked for is refused, and tags are replaced."""
        try:
            etag = await self._write(self._other, [("x-amz-tagging", "a=1")])
            source = copy_source(self._requests.settings.bucket, self._other)
            if not await self._is_refused(self._copy_from(source, [("x-amz-copy-source-if-match", f'"{_ABSENT_ETAG}"')])):
                return False
            replace = [("x-amz-metadata-directive", "REPLACE"), ("x-amz-tagging-directive", "REPLACE"), ("x-amz-tagging", "b=2")]
            if await self._is_refused(self._copy_from(source, [("x-amz-copy-source-if-match", f'"{etag}"'), *replace])):
                return False
            return await self._has_tag("b", "2")
        except Unsupported:
            return False
        finally:
            await self._clear()

    async def upload_tags(self) -> bool:
        """Whether the tags of a multipart upload become those of its object."""
        self._made.add(self._key)
        try:
            await self._complete((), begun_with=[("x-amz-tagging", "b=2")])
            return await self._has_tag("b", "2")
        except Unsupported:
            return False
        finally:
            await self._clear()

    async def _has_tag(self, name: str, value: str) -> bool:
        response = await self._requests.send("GET", self._key, query=[(b"tagging", b"")])
        return parse_tags(await response.read()) == ((name, value),)

    async def _obeys(self, verb: Verb, act: Callable[[Headers], Awaitable[None]], shape: _Shape, quote: str) -> bool:
        etag = await self._write(self._key)
        if shape is _Shape.MATCH_ETAG:
            refused, done = _ABSENT_ETAG, etag
        elif shape is _Shape.NONE_MATCH_ETAG:
            refused, done = etag, _ABSENT_ETAG
        else:
            refused = done = "*"
        if shape is _Shape.MATCH_ANY:
            await self._delete(())
        if not await self._is_refused(act([_header(shape, refused, quote)])):
            return False
        if shape is _Shape.MATCH_ANY:
            await self._write(self._key)
        elif shape is _Shape.NONE_MATCH_ANY:
            await self._delete(())
        if await self._is_refused(act([_header(shape, done, quote)])):
            return False
        if verb is Verb.DELETE or done == "*":
            return True
        await self._delete(())  # no object matches no entity tag
        return await self._is_refused(act([_header(shape, done, quote)])) is (shape is _Shape.MATCH_ETAG)

    async def _is_refused(self, call: Awaitable[None]) -> bool:
        try:
            await call
        except (ConditionFailed, NotFound):
            return True
        return False

    async def _write(self, key: str, headers: Headers = ()) -> str:
        self._made.add(key)
        response = await self._requests.send("PUT", key, headers=headers, body=b"headrace")
        response.close()
        return response.headers.get("etag", "").strip('"')

    async def _put(self, headers: Headers) -> None:
        await self._write(self._key, headers)

    async def _copy(self, headers: Headers) -> None:
        if self._other not in self._made:
            await self._write(self._other)
        await self._copy_from(copy_source(self._requests.settings.bucket, self._other), headers)

    async def _copy_from(self, source: tuple[str, str], headers: Headers) -> None:
        self._made.add(self._key)
        await self._requests.read_whole(await self._requests.send("PUT", self._key, headers=[source, *headers]))

    async def _complete(self, headers: Headers, begun_with: Headers = ()) -> None:
        send, key = self._requests.send, self._key
        begun = await (await send("POST", key, query=[(b"uploads", b"")], headers=begun_with)).read()
        upload = (b"uploadId", parse_result(begun, "InitiateMultipartUploadResult").fields.get("UploadId", "").encode())
        try:
            part = await send("PUT", key, query=[(b"partNumber", b"1"), upload], body=b"headrace")
            part.close()
            body = complete_xml([Part(1, part.headers.get("etag", "").strip('"'))])
            await self._requests.read_whole(await send("POST", key, query=[upload], headers=headers, body=body))
        except BaseException:  # whatever it is: tidied up here, raised on
            (await send("DELETE", key, query=[upload])).close()
            raise

    async def _delete(self, headers: Headers) -> None:
        (await self._requests.send("DELETE", self._key, headers=headers)).close()

    async def _clear(self) -> None:
        for key in self._made:
            (await self._requests.send("DELETE", key)).close()


def _shape(value: str, *, is_match: bool) -> _Shape:
    if is_match:
        return _Shape.MATCH_ANY if value == "*" else _Shape.MATCH_ETAG
    return _Shape.NONE_MATCH_ANY if value == "*" else _Shape.NONE_MATCH_ETAG


def _header(shape: _Shape, value: str, quote: str) -> tuple[str, str]:
    name = "if-match" if shape in (_Shape.MATCH_ETAG, _Shape.MATCH_ANY) else "if-none-match"
    return name, value if value == "*" else f"{quote}{value}{quote}"
