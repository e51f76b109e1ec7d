"""What crashes and forgotten uploads leave below `.headrace` is removed once it is old; nothing else is touched."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from headrace.model.errors import HeadraceError, NotFound
from headrace.model.uploads import Upload
from headrace.stores.file_keys import is_held
from headrace.stores.file_own import (
    ATTRIBUTES,
    COMPLETED,
    OWN,
    REMOVED,
    TEMPORARY,
    TEMPORARY_NAME,
    UPLOADS,
    discard,
    key_lock,
    open_folder,
    remove_tree,
)
from headrace.stores.file_root import FileRoot, opened_root
from headrace.stores.file_upload_folders import DESCRIPTION, ID, begun_uploads, published, put_away

UPLOAD_AGE_S = 7 * 86_400.0
TEMPORARY_AGE_S = 86_400.0
"""A file that was not written to for so long belongs to no write any more. Completed uploads are remembered as long."""
INTERVAL_S = 3_600.0
_LOG = logging.getLogger(__name__)


class Sweeper:
    """Sweeps one root at most once an hour, when asked to, in one of its threads."""

    def __init__(self, root: FileRoot, upload_age_s: float) -> None:
        self._root = root
        self._upload_age_s = upload_age_s
        self._due_s = 0.0
        self._busy = threading.Lock()

    def sweep_if_due(self) -> None:
        """Begin a sweep that nobody waits for."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + INTERVAL_S
        with suppress(RuntimeError):  # the store was closed
            self._root.pool.submit(self._sweep_safely)

    def _sweep_safely(self) -> None:
        try:
            self.sweep()
        except NotFound:  # it was a bucket, and is gone with all that was old in it
            return
        except (OSError, HeadraceError) as error:
            _LOG.warning("what is old below %s/%s was not removed, and will be tried again: %s", self._root.path, OWN, error)

    def sweep(self) -> None:
        """Remove what is old. Raises `OSError`, `HeadraceError`; `NotFound` for a bucket that was removed meanwhile."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            with opened_root(self._root) as root_fd:
                try:
                    self._sweep_at(root_fd, time.time())
                except OSError:
                    self._root.check_still(root_fd)
                    raise
        finally:
            self._busy.release()

    def _sweep_at(self, root_fd: int, now_s: float) -> None:
        for folder in (TEMPORARY, COMPLETED, OWN):
            for name in _older(root_fd, folder, now_s - TEMPORARY_AGE_S, TEMPORARY_NAME.fullmatch):
                _discard(root_fd, folder, name)
        for name in _older(root_fd, REMOVED, now_s - TEMPORARY_AGE_S, bool):
            remove_tree(root_fd, f"{REMOVED}/{name}")
        self._sweep_uploads(root_fd, now_s)
        self._sweep_attributes(root_fd, now_s - TEMPORARY_AGE_S)
        for name in _older(root_fd, COMPLETED, now_s - TEMPORARY_AGE_S, ID.fullmatch):
            if not _is_there(root_fd, f"{UPLOADS}/{name}"):
                _discard(root_fd, COMPLETED, name)

    def _sweep_uploads(self, root_fd: int, now_s: float) -> None:
        before_s = now_s - self._upload_age_s
        for begun in begun_uploads(root_fd):
            upload = begun.upload
            if not self._is_over(root_fd, upload, before_s):
                continue
            with key_lock(root_fd, upload.key):
                self._root.check_still(root_fd)
                # Asked again under the lock: a part may just have come.
                if self._is_over(root_fd, upload, before_s):
                    with suppress(FileNotFoundError):
                        put_away(root_fd, upload)
            remove_tree(root_fd, f"{REMOVED}/{upload.id}")
        for name in _older(root_fd, UPLOADS, before_s, ID.fullmatch):
            if not _is_there(root_fd, f"{UPLOADS}/{name}/{DESCRIPTION}"):
                remove_tree(root_fd, f"{UPLOADS}/{name}")

    def _is_over(self, root_fd: int, upload: Upload, before_s: float) -> bool:
        try:
            changed_s = os.stat(f"{UPLOADS}/{upload.id}", dir_fd=root_fd, follow_symlinks=False).st_mtime
        except FileNotFoundError:
            return False
        return changed_s < before_s or published(root_fd, upload) is not None

    def _sweep_attributes(self, root_fd: int, before_s: float) -> None:
        for folder in _older(root_fd, ATTRIBUTES, time.time() + 1, bool):
            for name in _older(root_fd, f"{ATTRIBUTES}/{folder}", before_s, bool):
                if TEMPORARY_NAME.fullmatch(name) or not is_held(root_fd, f"{ATTRIBUTES}/{folder}/{name}"):
                    _discard(root_fd, f"{ATTRIBUTES}/{folder}", name)


def _older(root_fd: int, path: str, before_s: float, is_ours: Callable[[str], object]) -> Iterator[str]:
    """Names of ours in a folder that were changed last before then."""
    try:
        folder = open_folder(root_fd, path)
    except FileNotFoundError:
        return
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_ours(entry.name):
                    with suppress(FileNotFoundError):
                        if entry.stat(follow_symlinks=False).st_mtime < before_s:
                            yield entry.name
    finally:
        os.close(folder)


def _discard(root_fd: int, path: str, name: str) -> None:
    with suppress(FileNotFoundError):
        folder = open_folder(root_fd, path)
        try:
            discard(folder, name)
        finally:
            os.close(folder)


def _is_there(root_fd: int, path: str) -> bool:
    try:
        os.stat(path, dir_fd=root_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
