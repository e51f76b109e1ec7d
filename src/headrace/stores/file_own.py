"""What a directory store keeps for itself, below `.headrace` in its root: temporary files, locks, odd keys, uploads.

Everything here takes the root's descriptor, blocks, and raises `OSError`. Nothing is followed out of the root.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import xxhash

from headrace.model.errors import InvalidKey
from headrace.stores.beneath import open_beneath
from headrace.stores.keys import check_key

OWN = ".headrace"
TEMPORARY = f"{OWN}/tmp"  # noqa: S108  not the system's
LOCKS = f"{OWN}/locks"
ATTRIBUTES = f"{OWN}/attributes"
OBJECTS = f"{OWN}/objects"
UPLOADS = f"{OWN}/uploads"
COMPLETED = f"{OWN}/completed"
REMOVED = f"{OWN}/removed"
STRIPES = 256
MAX_NAME_BYTES = 255
TEMPORARY_NAME = re.compile(r"w-[0-9a-f]{32}")
_CHUNK_BYTES = 100  # of an odd key per directory, in twice as many letters
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
_RACED_TRIES = 1000


def check_own(key: str) -> None:
    """Raises `InvalidKey` for what no store holds, and for the keys of this store's own files."""
    check_key(key)
    if key.partition("/")[0] == OWN:
        raise InvalidKey(f"{key!r}: {OWN} belongs to the store itself, it holds no objects", path=key)


def valid_segments(path: str) -> bool:
    """Whether every segment of the path can be a name in a directory."""
    return "\0" not in path and all(segment not in ("", ".", "..") for segment in path.split("/"))


def can_be_path(key: str) -> bool:
    """Whether a file of that path can be made in an empty directory."""
    return valid_segments(key) and (
        len(key) * 4 <= MAX_NAME_BYTES or all(len(segment.encode()) <= MAX_NAME_BYTES for segment in key.split("/"))
    )


def odd_path(key: str) -> str:
    """Where a key is kept that cannot be the path of a file. Paths sort as their keys do."""
    return f"{OBJECTS}/{odd_prefix(key.encode())}-"


def odd_prefix(data: bytes) -> str:
    """What the names of all odd keys that begin with these bytes begin with, below the folder of odd keys.

    The last name of a key ends with a dash, which sorts before every digit and before the slash.
    """
    text = data.hex()
    return "/".join([text[at : at + 2 * _CHUNK_BYTES] for at in range(0, len(text), 2 * _CHUNK_BYTES)])


def odd_key(path: str) -> str:
    """The key of an `odd_path`, given below the folder of odd keys. Raises `ValueError`."""
    if not path.endswith("-"):
        raise ValueError(path)
    return bytes.fromhex(path[:-1].replace("/", "")).decode()


def make_folder(root_fd: int, path: str) -> int:
    """The directory `path`, made with all above it where it is not there; durable. The caller closes the descriptor.

    Raises `NotADirectoryError` where a file is in its way.
    """
    for _ in range(_RACED_TRIES):
        try:
            return open_folder(root_fd, path)
        except FileNotFoundError:
            above, _, name = path.rpartition("/")
            upper = make_folder(root_fd, above)
            try:
                os.mkdir(name, dir_fd=upper)
                os.fsync(upper)
            except FileExistsError:
                continue  # made meanwhile
            except FileNotFoundError as error:
                if not above:
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path) from error
                continue  # the one above it was removed meanwhile
            finally:
                os.close(upper)
    raise OSError(errno.EAGAIN, "directories are being removed all the time", path)


def open_folder(root_fd: int, path: str) -> int:
    """The directory, if it is there. The caller closes the descriptor. Raises `FileNotFoundError`."""
    return open_beneath(root_fd, path or ".", _DIRECTORY)


@contextmanager
def opened_folder(root_fd: int, path: str) -> Iterator[int]:
    """`make_folder`, closed at the end."""
    descriptor = make_folder(root_fd, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def existing_folder(root_fd: int, path: str) -> Iterator[int]:
    """The directory, closed at the end. Raises `FileNotFoundError`."""
    descriptor = open_folder(root_fd, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_temporary(folder_fd: int) -> tuple[int, str]:
    """A new file with a name that `TEMPORARY_NAME` knows."""
    name = f"w-{secrets.token_hex(16)}"
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder_fd), name


def discard(folder_fd: int, name: str) -> None:
    """Unlink a file that may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder_fd)


def write_whole(folder_fd: int, name: str, data: bytes) -> None:
    """Put a small file in its place at once; durable when this returns."""
    descriptor, temporary = open_temporary(folder_fd)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        os.fsync(folder_fd)
    except OSError:
        discard(folder_fd, temporary)
        raise
    finally:
        os.close(descriptor)


def read_whole(folder_fd: int, path: str) -> bytes:
    """A small file of ours below an opened folder. Raises `FileNotFoundError`."""
    descriptor = open_beneath(folder_fd, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        pieces = []
        while piece := os.read(descriptor, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it where the file stands; the system may take less at once."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def rename_into(root_fd: int, folder_fd: int, name: str, path: str) -> None:
    """Move a file to `path` below the root, over what file is there; durable when this returns.

    Raises `IsADirectoryError`, `NotADirectoryError`, or ENAMETOOLONG where no file can be there.
    """
    above, _, target = path.rpartition("/")
    for _ in range(_RACED_TRIES):
        with opened_folder(root_fd, above) as upper:
            try:
                os.rename(name, target, src_dir_fd=folder_fd, dst_dir_fd=upper)
            except FileNotFoundError:
                os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
                continue  # the directory was removed, as empty, between
            os.fsync(upper)
            return
    raise OSError(errno.EAGAIN, "directories are being removed all the time", path)


def remove_tree(root_fd: int, path: str) -> None:
    """Remove a directory of ours and all below it, as far as that can be done now; the sweep takes what is left."""
    above, _, name = path.rpartition("/")
    with suppress(FileNotFoundError), existing_folder(root_fd, above) as folder:
        shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


def unlink_and_prune(root_fd: int, path: str) -> None:
    """Remove a file, durably, and the directories above it that are left empty; never the root. It may be gone already."""
    above, _, name = path.rpartition("/")
    try:
        with existing_folder(root_fd, above) as upper:
            os.unlink(name, dir_fd=upper)
            os.fsync(upper)
    except (FileNotFoundError, NotADirectoryError):
        return
    while above:
        upper_path, _, name = above.rpartition("/")
        try:
            with existing_folder(root_fd, upper_path) as upper:
                os.rmdir(name, dir_fd=upper)
        except OSError:  # it holds something, is a link, or went away: what is left stays
            return
        above = upper_path


@contextmanager
def key_lock(root_fd: int, key: str) -> Iterator[None]:
    """Nobody else on this machine who asks for this key's lock runs between. Locks end with their process."""
    with locked_stripe(root_fd, xxhash.xxh3_64_intdigest(key.encode()) % STRIPES):
        yield


@contextmanager
def locked_stripe(root_fd: int, stripe: int) -> Iterator[None]:
    """One of the `STRIPES` locks."""
    with opened_folder(root_fd, LOCKS) as folder:
        descriptor = os.open(f"{stripe:02x}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
