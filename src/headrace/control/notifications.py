"""Stores' own word that objects changed: S3 event notifications, in every wrapping in which they arrive. Pure.

A notification never says what an object is now, only that the store must be asked: so one that comes late, twice or in another
order does no harm. Formats: Amazon S3's event message structure (also sent by S3-compatible stores as webhooks), the same in
Amazon SQS and SNS messages, and Amazon EventBridge's "Object Created" and "Object Deleted" events.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_plus

import msgspec

from headrace.model.errors import SettingsError

_MAX_OBJECTS = 10_000
_MAX_DEPTH = 4


class ChangedObject(msgspec.Struct, frozen=True):
    """An object of an S3 bucket that is no longer what it was."""

    bucket: str
    key: str


class Changes(msgspec.Struct, frozen=True):
    """What may have changed: objects of S3 buckets, what is at or below paths of the namespace, any object of any S3 store."""

    objects: tuple[ChangedObject, ...] = ()
    paths: tuple[str, ...] = ()
    are_all: bool = False


def parse_notification(body: bytes) -> tuple[ChangedObject, ...]:
    """The objects that a notification names, each once; none for a test message. Raises `SettingsError` for anything else."""
    found: dict[ChangedObject, None] = {}
    try:
        known = _collect(msgspec.json.decode(body), found, 0)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"the notification is not JSON ({type(error).__name__})") from error
    if not known:
        raise SettingsError(
            "the notification has no form that is known here: send S3 event records, or SQS, SNS or EventBridge messages"
        )
    return tuple(found)


def _collect(message: Any, found: dict[ChangedObject, None], depth: int) -> bool:
    """Take in what a message names; whether it has a known form."""
    if depth > _MAX_DEPTH:
        raise SettingsError(f"the notification is wrapped more than {_MAX_DEPTH} times")
    if isinstance(message, list):
        return _collect_all(message, found, depth)
    if not isinstance(message, dict):
        return False
    for name in ("Records", "Messages"):
        if isinstance(message.get(name), list):
            return _collect_all(message[name], found, depth)
    for name in ("Message", "Body", "body"):
        if isinstance(message.get(name), str):
            return _collect(msgspec.json.decode(message[name]), found, depth + 1)
    if message.get("Event") == "s3:TestEvent":
        return True
    if isinstance(message.get("s3"), dict):
        # Keys of S3's own records are encoded as in a form.
        return _add(message["s3"], found, encoded=True)
    if isinstance(message.get("detail"), dict):
        return _add(message["detail"], found, encoded=False)
    return False


def _collect_all(messages: list[Any], found: dict[ChangedObject, None], depth: int) -> bool:
    known = [_collect(one, found, depth + 1) for one in messages]
    return all(known)


def _add(described: dict[str, Any], found: dict[ChangedObject, None], *, encoded: bool) -> bool:
    bucket, changed = described.get("bucket"), described.get("object")
    name = bucket.get("name") if isinstance(bucket, dict) else None
    key = changed.get("key") if isinstance(changed, dict) else None
    if not isinstance(name, str) or not isinstance(key, str) or not name or not key:
        return False
    if len(found) >= _MAX_OBJECTS:
        raise SettingsError(f"the notification names more than {_MAX_OBJECTS} objects: send fewer in one message")
    found[ChangedObject(name, unquote_plus(key) if encoded else key)] = None
    return True
