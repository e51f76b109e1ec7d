"""An open file that is written: it appears when it is closed, whole, or not at all."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from typing import Any

from headrace import bridge
from headrace.gateways.writing import Outgoing
from headrace.model.reading import Buffer


class WritingFile(io.BufferedIOBase):
    """Bytes in order, sent in parts as they come. `close` makes the object, unless it waits for `commit` (`autocommit` False).

    Left by an exception inside `with`, discarded, or forgotten unclosed, nothing of it stays. Threads may share it; a
    forked child may not write to it, and closing it there does nothing.
    """

    def __init__(
        self, outgoing: Outgoing, *, mode: str = "wb", first: bytes = b"", position: int = 0, autocommit: bool = True
    ) -> None:
        super().__init__()
        self.path = outgoing.path
        self.mode = mode
        self._outgoing = outgoing
        self._autocommit = autocommit
        self._buffer = bytearray(first)
        self._position = position
        self._ended = False
        self._sealed = False
        self._lock = threading.RLock()
        self._pid = os.getpid()
        bridge.keep(outgoing, first=True)

    @classmethod
    def sealed(cls, outgoing: Outgoing) -> WritingFile:
        """What has all its bytes already and waits for `commit` or `discard`."""
        held = cls(outgoing, autocommit=False)
        held._ended = held._sealed = True
        return held

    @property
    def name(self) -> str:
        return self.path

    @property
    def closed(self) -> bool:
        return getattr(self, "_ended", True)

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any, /) -> int:
        """Take `data`; waits while enough is on its way. Raises what sending raised, and nothing of the object stays then."""
        view = memoryview(data).cast("B")
        self._check_process()
        with self._lock:
            if self._ended:
                raise ValueError(f"{self.path}: write to closed file")
            done = 0
            while done < len(view):
                room = self._outgoing.next_part_bytes - len(self._buffer)
                self._buffer += view[done : done + room]
                done += min(room, len(view) - done)
                if len(self._buffer) >= self._outgoing.next_part_bytes and done < len(view):
                    self._send()
            self._position += len(view)
        return len(view)

    def close(self) -> None:
        """Make the object. Raises as `Outgoing.publish`; nothing of it stays then."""
        if self.closed or self._pid != os.getpid():
            self._ended = True
            return
        with self._lock:
            self._seal()
            if self._autocommit:
                bridge.run(self._outgoing.publish())

    def commit(self) -> None:
        """Make the object that was closed without `autocommit`."""
        self._check_process()
        with self._lock:
            self._seal()
            bridge.run(self._outgoing.publish())

    def discard(self) -> None:
        """Close it and leave nothing. Does nothing once the object was made."""
        self._ended = True
        if self._pid == os.getpid():
            bridge.run(self._outgoing.discard())

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        if not self.closed and self._pid == os.getpid():
            self._ended = True
            bridge.drop(self._outgoing.discard())

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise ValueError(f"{self.path} was opened for writing by another process: open it in this one")

    def _send(self) -> None:
        part, self._buffer = self._buffer, bytearray()
        self._do(self._outgoing.add(part))

    def _seal(self) -> None:
        if self._sealed:
            return
        rest, self._buffer = self._buffer, bytearray()
        self._ended = self._sealed = True
        self._do(self._outgoing.seal(rest, hold=not self._autocommit))

    def _do(self, work: Any) -> None:
        try:
            bridge.run(work)
        except BaseException:  # whatever it is: tidied up here, raised on
            self.discard()
            raise


class TextWriting(io.TextIOWrapper):
    """Text into an open file, which is discarded when `with` is left by an exception, or it is forgotten unclosed."""

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self.discard()
        self.close()

    def discard(self) -> None:
        """Close it and leave nothing."""
        self.buffer.discard()  # type: ignore[attr-defined]  # a file of this module

    def __del__(self) -> None:
        if not self.closed:
            self.discard()


class _Sink:
    """What a compressor writes to; deaf once the file was discarded, since compressors write their last bytes when they go."""

    def __init__(self, inner: WritingFile) -> None:
        self._inner = inner

    def write(self, data: Buffer, /) -> int:
        return len(data) if self._inner.closed else self._inner.write(data)

    def tell(self) -> int:
        return self._inner.tell()

    def flush(self) -> None:
        """Parts are sent when they are full."""


class PackedWriting(io.BufferedIOBase):
    """Bytes through the compressor that `pack` makes: closing ends it and `inner`, an exception inside `with` leaves nothing."""

    def __init__(self, pack: Callable[[Any], Any], inner: WritingFile) -> None:
        super().__init__()
        self.path = inner.path
        self.mode = inner.mode
        self._packer = pack(_Sink(inner))
        self._inner = inner

    @property
    def closed(self) -> bool:
        return self._inner.closed if hasattr(self, "_inner") else True

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._packer.tell())

    def write(self, data: Buffer, /) -> int:  # type: ignore[override]  # narrower than any buffer
        self._packer.write(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            try:
                self._packer.close()
            except BaseException:  # whatever it is: tidied up here, raised on
                self._inner.discard()
                raise
            self._inner.close()

    def discard(self) -> None:
        """Close it and leave nothing."""
        self._inner.discard()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        if not self.closed:
            self.discard()
