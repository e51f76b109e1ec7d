"""One mount served: the kernel's requests in, answers out, on one event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import mmap
import os
import struct
from contextlib import suppress

from headrace.gateways.fuse import abi
from headrace.gateways.fuse.abi import Op
from headrace.gateways.fuse.handing import Wholes
from headrace.gateways.fuse.inodes import Inode
from headrace.gateways.fuse.operations import HANDLERS, Mounted
from headrace.gateways.fuse.shared import Refused, Shared, errno_of
from headrace.model.errors import HeadraceError
from headrace.model.reading import Buffer, FileSlice, Piece

_log = logging.getLogger(__name__)

_AT_ONCE = 32
"""Requests that are taken in before the loop turns to what waits."""
_BACKGROUND = 64
_READ_AHEAD_BYTES = 8 << 20
_DIES_HARD_S = 20.0

_WANTED = (
    abi.INIT_ASYNC_READ | abi.INIT_ATOMIC_O_TRUNC | abi.INIT_BIG_WRITES | abi.INIT_READDIRPLUS | abi.INIT_READDIRPLUS_AUTO
    | abi.INIT_ASYNC_DIO | abi.INIT_PARALLEL_DIROPS | abi.INIT_ABORT_ERROR | abi.INIT_MAX_PAGES | abi.INIT_CACHE_SYMLINKS
    | abi.INIT_EXPLICIT_INVAL_DATA | abi.INIT_EXT
)  # fmt: skip


class Server:
    """Answers every request once. A request that fails is told its `errno`; nothing that a request does ends the server."""

    def __init__(self, shared: Shared, wholes: Wholes) -> None:
        self._shared = shared
        self._device = shared.device
        self._mount = Mounted.of(shared, wholes)
        self._buffer = mmap.mmap(-1, abi.REQUEST_BYTES)
        self._scratch = mmap.mmap(-1, abi.MAX_WRITE_BYTES)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()

    async def run(self) -> int:
        """Serve until the mount is taken away or `stop` is called; how many files could not be stored at the end."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._device.fd, self._readable)
        # In a thread: it looks at the mount itself, which this loop answers for.
        ahead = asyncio.ensure_future(asyncio.to_thread(self._device.read_ahead, _READ_AHEAD_BYTES // 1024))
        try:
            await self._ended.wait()
        finally:
            loop.remove_reader(self._device.fd)
            ahead.cancel()
        return await self._wind_down()

    def stop(self) -> None:
        self._ended.set()

    async def _wind_down(self) -> int:
        running = [task for task in self._running.values() if not task.done()]
        if running:
            _, late = await asyncio.wait(running, timeout=_DIES_HARD_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._mount.handing.close()
        return await self._mount.files.save_all()

    def _readable(self) -> None:
        view = memoryview(self._buffer)
        for _ in range(_AT_ONCE):
            try:
                length = os.readv(self._device.fd, [view])
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno == errno.ENOENT:
                    continue  # the request was taken back before it was read
                self._ended.set()
                return
            self._take(view[:length])

    def _take(self, raw: memoryview) -> None:
        try:
            request = abi.parse(raw)
            if not self._at_once(request):
                kept = request._replace(body=memoryview(bytes(request.body)))
                task = asyncio.ensure_future(self._later(kept))
                self._running[request.unique] = task
        except struct.error:
            _log.error("a request of the kernel could not be read: %s", bytes(raw[:64]).hex())

    def _at_once(self, request: abi.Request) -> bool:
        """What needs no waiting is answered here."""
        match request.op:
            case Op.READ:
                return self._read_now(request)
            case Op.LOOKUP | Op.OPEN | Op.GETATTR:
                return self._find_now(request)
            case Op.RELEASE:
                return self._release_now(request)
            case Op.WRITE:
                self._write(request)
            case Op.FORGET:
                self._shared.inodes.forget(request.node, *abi.FORGET_IN.unpack_from(request.body))
            case Op.BATCH_FORGET:
                self._forget_many(request)
            case Op.INTERRUPT:
                task = self._running.get(*abi.INTERRUPT_IN.unpack_from(request.body))
                if task is not None:
                    task.cancel()
            case Op.INIT:
                self._init(request)
            case Op.DESTROY:
                self._reply(request.unique, b"")
                self._ended.set()
            case _:
                if request.op in HANDLERS:
                    return False
                self._fail(request.unique, errno.ENOSYS)
        return True

    async def _later(self, request: abi.Request) -> None:
        try:
            answer = await HANDLERS[request.op](self._mount, request)
        except asyncio.CancelledError:
            self._fail(request.unique, errno.EINTR)
        except (HeadraceError, Refused, OSError) as error:
            self._fail(request.unique, errno_of(error))
        except Exception:  # noqa: BLE001  whatever it is, the caller must not wait for ever
            _log.exception("request %s failed", request.op)
            self._fail(request.unique, errno.EIO)
        else:
            self._reply(request.unique, *(answer if isinstance(answer, tuple) else (answer,)))
        finally:
            self._running.pop(request.unique, None)

    def _reply(self, unique: int, *parts: Buffer) -> None:
        length = abi.OUT_HEADER.size + sum(map(len, parts))
        self._send([abi.OUT_HEADER.pack(length, 0, unique), *parts])

    def _fail(self, unique: int, code: int) -> None:
        self._send([abi.OUT_HEADER.pack(abi.OUT_HEADER.size, -code, unique)])

    def _send(self, parts: list[Buffer]) -> None:
        try:
            os.writev(self._device.fd, parts)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # taken back, or unmounted
                _log.warning("an answer was refused by the kernel: %s", error)

    def _init(self, request: abi.Request) -> None:
        major, minor, ahead, flags, *more = struct.unpack_from("<IIIII" if len(request.body) >= 20 else "<IIII", request.body)
        if major != abi.MAJOR or minor < abi.OLDEST_MINOR:
            _log.error("this kernel speaks FUSE %s.%s; %s.%s or newer is needed", major, minor, abi.MAJOR, abi.OLDEST_MINOR)
            self._fail(request.unique, errno.EPROTO)
            self._ended.set()
            return
        offered = more[0] if more and flags & abi.INIT_EXT else 0
        more_flags = offered & (abi.INIT2_DIRECT_IO_ALLOW_MMAP | abi.INIT2_PASSTHROUGH)
        if not more_flags & abi.INIT2_PASSTHROUGH:
            self._device.no_passthrough()
        passes = int(bool(more_flags & abi.INIT2_PASSTHROUGH))
        answer = abi.INIT_OUT.pack(
            abi.MAJOR, min(minor, abi.MINOR), max(ahead, _READ_AHEAD_BYTES), flags & _WANTED, _BACKGROUND, _BACKGROUND * 3 // 4,
            abi.MAX_WRITE_BYTES, 1, abi.MAX_PAGES, 0, more_flags, passes,
        )  # fmt: skip
        self._reply(request.unique, answer)

    def _forget_many(self, request: abi.Request) -> None:
        count, _ = abi.BATCH_FORGET_IN.unpack_from(request.body)
        for index in range(count):
            at = abi.BATCH_FORGET_IN.size + index * abi.FORGET_ONE.size
            self._shared.inodes.forget(*abi.FORGET_ONE.unpack_from(request.body, at))

    def _find_now(self, request: abi.Request) -> bool:
        inode = self._shared.inodes.get(request.node)
        if inode is None:
            self._fail(request.unique, errno.ESTALE)
            return True
        answer: bytes | None = None
        with suppress(HeadraceError, Refused):  # the way that may wait finds out, too
            answer = self._found_now(inode, request)
        if answer is None:
            return False
        self._reply(request.unique, answer)
        return True

    def _release_now(self, request: abi.Request) -> bool:
        done = self._mount.files.release_now(*abi.RELEASE_IN.unpack_from(request.body)[:1])
        if done:
            self._reply(request.unique, b"")
        return done

    def _found_now(self, inode: Inode, request: abi.Request) -> bytes | None:
        if request.op == Op.GETATTR:
            return self._mount.names.attr_now(inode)
        if request.op == Op.OPEN:
            return self._mount.files.open_now(inode, *abi.OPEN_IN.unpack_from(request.body)[:1])
        found = self._mount.names.lookup_now(inode, *abi.names(request.body, 0, 1))
        return self._mount.names.known(found) if found is not None else None

    def _read_now(self, request: abi.Request) -> bool:
        handle, offset, size, *_ = abi.READ_IN.unpack_from(request.body)
        try:
            pieces = self._mount.reader.read_now(self._mount.files.get(handle), offset, size)
            parts = self._gather(pieces) if pieces is not None else None
        except (HeadraceError, Refused, OSError) as error:
            self._fail(request.unique, errno_of(error))
            return True
        if parts is None:
            return False
        self._reply(request.unique, *parts)
        return True

    def _gather(self, pieces: tuple[Piece, ...]) -> list[bytes | memoryview] | None:
        """All bytes of the pieces: the kernel takes fewer for the file's end. None when a disk would have to be waited for."""
        parts: list[bytes | memoryview] = []
        room = memoryview(self._scratch)
        for piece in pieces:
            if not isinstance(piece, FileSlice):
                parts.append(memoryview(piece))
                continue
            target = room[: piece.length]
            try:
                done = os.preadv(piece.fd, [target], piece.offset, os.RWF_NOWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                done = os.preadv(piece.fd, [target], piece.offset)
            if done < piece.length:
                return None  # not all of it is in memory, or a page was damaged: the other way finds out
            parts.append(target)
            room = room[done:]
        return parts

    def _write(self, request: abi.Request) -> None:
        handle, offset, size, *_ = abi.WRITE_IN.unpack_from(request.body)
        data = request.body[abi.WRITE_IN.size : abi.WRITE_IN.size + size]
        try:
            done = self._mount.files.write(handle, offset, data)
        except (Refused, OSError) as error:
            self._fail(request.unique, errno_of(error))
        else:
            self._reply(request.unique, abi.WRITE_OUT.pack(done, 0))
