"""The Store contract: everything that yields bytes is one. `contract.py` is its test suite."""

from __future__ import annotations

from abc import ABC, abstractmethod

from headrace.model.errors import InvalidRange, Unsupported
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import Reading
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs, ReadingBody, attributes_of
from headrace.stores.buckets import Buckets
from headrace.stores.multipart import Multipart


class Store(ABC):
    """A flat, ordered map from keys to versioned objects.

    Keys are arbitrary text of 1 to 1,024 UTF-8 bytes and are kept exactly: `a//b`, `dir/` and
    `.` are keys like any other. A store that cannot keep one raises `InvalidKey`; it never
    changes it. Every verb raises only `HeadraceError`s; `NotFound` means that the store said so,
    anything that could not be learnt is `Unavailable`. All verbs may be called concurrently from
    one event loop. No verb retries: that is `RetryStore`'s work.

    A write is seen whole or not at all, by every later call of any verb once it has returned. One that raises
    `Unavailable` may have taken effect; any other error means that nothing was changed. A condition is evaluated and the
    write takes effect in one step: a store that cannot do so for the condition at hand raises `Unsupported`, it never
    ignores one.
    """

    def peek(
        self,
        key: str,  # noqa: ARG002  a default for most
        byte_range: ByteRange | None,  # noqa: ARG002
        *,
        files: bool = False,  # noqa: ARG002
    ) -> Reading | None:
        """The read, if it can be answered at once without waiting, else None. `ready` is set.

        With `files`, for who hands open files on: slices of files wherever the store has files, however short the range.
        Raises `NotFound` or `InvalidRange` when that is known at once. Never does IO that can block.
        """
        return None

    @abstractmethod
    async def info(self, key: str) -> ObjectInfo:
        """The object as it is now. Raises `NotFound`."""

    @abstractmethod
    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        """Bytes of one version; all of them when `byte_range` is None.

        A range that ends behind the object is cut; one that starts at or behind its end raises
        `InvalidRange` (so does any range of an empty object). With `version`, the bytes are of
        that version or `VersionChanged` is raised, here or while iterating. The Reading's `info`
        describes the version whose bytes follow, also when `version` is None.
        """

    @abstractmethod
    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        """At most `limit` entries that begin with `prefix` (any text, not a path) and sort behind `after`.

        Sorted by UTF-8 bytes. With `delimiter`, keys that have it behind the prefix are rolled
        into a `CommonPrefix` that ends with it. `after` may be any text; when it is a
        CommonPrefix of an earlier page, the keys below it are not listed again. Every key that
        existed throughout is listed exactly once over the pages. Memory is bounded by `limit`.
        """

    async def tags(self, key: str) -> tuple[tuple[str, str], ...]:
        """The object's tags, sorted by name; none where the store knows no tags. Raises `NotFound`."""
        await self.info(key)
        return ()

    async def part(self, info: ObjectInfo, number: int) -> ByteRange:
        """The bytes of multipart part `number` (from 1) of the version that `info` describes.

        An object that is not known to have parts is its own first one. Raises `InvalidRange` where there is no such
        part, `Unsupported` where the store does not tell, and `VersionChanged`.
        """
        if info.parts > 1 and number <= info.parts:
            raise Unsupported(f"{info.key!r}: where its parts begin is not known here; read it by range", path=info.key)
        if number != 1:
            raise InvalidRange(f"{info.key!r} has no part {number}", path=info.key, size=info.size)
        return ByteRange(0, info.size)

    async def write(
        self,
        key: str,
        body: Body,  # noqa: ARG002  a default for stores that take no writes
        attributes: Attributes = PLAIN,  # noqa: ARG002
        *,
        condition: Condition = ALWAYS,  # noqa: ARG002
    ) -> ObjectInfo:
        """Make the object, or put another version in its place; what the store then says of it.

        Raises `ConditionFailed`, `NotFound` where `if_match` finds no object, `Conflict`, `InvalidKey`, `NoSpace`, and
        what the body raises.
        """
        raise Unsupported(f"{key!r}: this kind of store takes no writes", path=key)

    async def copy(
        self, source: ObjectInfo, key: str, attributes: Attributes | None = None, *, condition: Condition = ALWAYS
    ) -> ObjectInfo:
        """Another object with the bytes of exactly the version that `source` describes, by the store itself where it can.

        Without `attributes` it has those of the source. Raises as `write`, and `VersionChanged` when the source is
        another version now.
        """
        if attributes is None:
            attributes = attributes_of(source, await self.tags(source.key))
        reading = await self.read(source.key, version=source.version)
        return await self.write(key, ReadingBody(reading), attributes, condition=condition)

    async def delete(self, key: str, *, condition: Condition = ALWAYS) -> None:  # noqa: ARG002
        """Remove the object; that there is none is no error. Raises `ConditionFailed` for another object than asked for."""
        raise Unsupported(f"{key!r}: this kind of store removes nothing", path=key)

    async def set_tags(self, key: str, tags: Pairs) -> None:  # noqa: ARG002
        """Put `tags` in place of the object's, but for `ACL_TAG` if they do not name it; its version stays.

        Raises `NotFound`.
        """
        raise Unsupported(f"{key!r}: this kind of store keeps no tags", path=key)

    def multipart(self) -> Multipart:
        """The store's multipart uploads. Raises `Unsupported` where it has none."""
        raise Unsupported("this kind of store knows no multipart uploads")

    def buckets(self) -> Buckets:
        """The store's buckets. Raises `Unsupported` where its keys do not begin with one."""
        raise Unsupported("this store is not an account: it has no buckets")

    async def close(self) -> None:  # noqa: B027  most stores have nothing to free
        """Free connections and files. Readings still open may fail afterwards."""
