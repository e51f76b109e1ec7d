"""The Multipart contract: objects put together from parts that are sent apart, and seen when complete."""

from __future__ import annotations

from abc import ABC, abstractmethod

from headrace.model.objects import ByteRange, ObjectInfo
from headrace.model.uploads import Part, PartListing, Upload, UploadListing
from headrace.model.writing import ALWAYS, PLAIN, Attributes, Body, Condition, Pairs


class Multipart(ABC):
    """The multipart uploads of one store.

    Nothing of an upload is seen through the store before `complete`, which makes the object at once and whole. Every verb
    but `begin` and `list` raises `NoSuchUpload` for an upload that is not under way. Parts survive the end of this process.
    """

    @abstractmethod
    async def begin(self, key: str, attributes: Attributes = PLAIN, *, checksum: str = "", checksum_type: str = "") -> Upload:
        """A new upload. Raises `InvalidKey`, and `Unsupported` for a checksum that cannot be kept."""

    @abstractmethod
    async def put(self, upload: Upload, number: int, body: Body) -> Part:
        """Store part `number` (1 to 10,000), in place of one of that number. A body that raises leaves the earlier part."""

    @abstractmethod
    async def copy(self, upload: Upload, number: int, source: ObjectInfo, byte_range: ByteRange | None = None) -> Part:
        """Part `number` out of an object of the same store, of exactly the version `source` describes.

        Raises `VersionChanged`, and `InvalidRange` for a range that does not lie wholly within it.
        """

    @abstractmethod
    async def parts(self, upload: Upload, *, after: int = 0, limit: int = 1000) -> PartListing:
        """The parts whose numbers are above `after`, at most `limit` (1 to 1,000)."""

    @abstractmethod
    async def parts_of(self, info: ObjectInfo, *, after: int = 0, limit: int = 1000) -> tuple[Part, ...]:
        """The parts that the object `info` was made from, numbered from 1 without gaps, that come after `after`, at most `limit`.

        None for an object that was written whole. With their checksums by the algorithm that the upload was begun with, and
        without what else was known of them, such as their ETags. Raises `Unsupported` where that is not remembered, `NotFound`
        and `VersionChanged`.
        """

    @abstractmethod
    async def complete(
        self, upload: Upload, parts: tuple[Part, ...], *, condition: Condition = ALWAYS, checksums: Pairs = ()
    ) -> ObjectInfo:
        """Publish the object that the named parts, in rising order, make; other parts are dropped.

        `checksums` are what the caller expects of the whole object. Raises `InvalidPart`, `PartTooSmall`, `ConditionFailed`,
        `Conflict` and `CorruptData` (checksums), after which the upload stays. Completing once more with the same parts
        answers the same object as long as the store remembers.
        """

    @abstractmethod
    async def abort(self, upload: Upload) -> None:
        """Drop the upload and its parts."""

    @abstractmethod
    async def list(self, prefix: str = "", *, after: Upload | None = None, limit: int = 1000) -> UploadListing:
        """Uploads under way whose keys begin with `prefix`, behind `after` (its key and id), at most `limit`."""
