"""The policy document of a browser's POST: read strictly, then held against the form.

After "POST Policy" of the Amazon S3 API Reference. Pure: the time is handed in.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from headrace.gateways.s3.errors import S3Error, refused

_EXPIRATION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")
_UNCOVERED = ("x-amz-signature", "policy", "file")
"""Fields that no condition need name."""
IGNORED = "x-ignore-"
_LIMIT = 2**63


class Condition(msgspec.Struct, frozen=True):
    """`field` is in lower case; `prefix`: it must begin with `value`, else it must be `value`."""

    field: str
    value: str
    prefix: bool

    def holds(self, given: str) -> bool:
        """Whether a field's value satisfies it. A list of content types must, each of them."""
        if not self.prefix:
            return given == self.value
        values = given.split(",") if self.field == "content-type" else [given]
        return all(value.strip(" \t").startswith(self.value) for value in values)


class PostPolicy(msgspec.Struct, frozen=True):
    """What a form's signer allows. Lengths are the file's, in bytes."""

    expires_s: float
    conditions: tuple[Condition, ...]
    min_length: int = 0
    max_length: int | None = None


def read_policy(encoded: str) -> PostPolicy:
    """From the base64 of its JSON. Raises `S3Error` (`InvalidPolicyDocument`) for what is not exactly one."""
    try:
        document = msgspec.json.decode(b64decode(encoded.encode("ascii"), validate=True), strict=True)
    except (binascii.Error, UnicodeEncodeError, msgspec.DecodeError, RecursionError):
        raise _invalid("it is not base64 of a JSON document") from None
    if not isinstance(document, dict) or document.keys() != {"expiration", "conditions"}:
        raise _invalid("it must have expiration and conditions, and nothing else")
    items = document["conditions"]
    if not isinstance(items, list):
        raise _invalid("conditions is not a list")
    conditions: list[Condition] = []
    lengths: list[tuple[int, int]] = []
    for item in items:
        if isinstance(item, dict) and item:
            conditions.extend(_exact(name, value) for name, value in item.items())
        elif isinstance(item, list) and len(item) == 3:
            _read_list(item, conditions, lengths)
        else:
            raise _invalid("a condition is neither an object nor a list of three")
    low = max((pair[0] for pair in lengths), default=0)
    high = min((pair[1] for pair in lengths), default=None)
    return PostPolicy(_expiration(document["expiration"]), tuple(conditions), low, high)


def check_policy(policy: PostPolicy, fields: Mapping[str, str], now_s: float, caller: str) -> None:
    """Raises `S3Error` unless every condition holds and every field is named by one.

    `fields` have names in lower case, variables put in, and `bucket` among them, given or not.
    """
    if now_s >= policy.expires_s:
        raise refused("AccessDenied", "Invalid according to Policy: Policy expired.", caller=caller)
    for condition in policy.conditions:
        if not condition.holds(fields.get(condition.field, "")):
            operator = "starts-with" if condition.prefix else "eq"
            failed = f'["{operator}", "${condition.field}", "{condition.value}"]'
            raise refused("AccessDenied", f"Invalid according to Policy: Policy Condition failed: {failed}", caller=caller)
    covered = {condition.field for condition in policy.conditions}
    extra = [name for name in fields if name not in covered and name not in _UNCOVERED and not name.startswith(IGNORED)]
    if extra:
        raise refused("AccessDenied", f"Invalid according to Policy: Extra input fields: {', '.join(extra)[:200]}", caller=caller)


def _exact(name: str, value: object) -> Condition:
    if not isinstance(value, str) or not name:
        raise _invalid("a condition's value is not a text")
    return Condition(name.lower(), value, prefix=False)


def _read_list(item: list[object], conditions: list[Condition], lengths: list[tuple[int, int]]) -> None:
    operator, first, second = item
    if operator == "content-length-range":
        low, high = _number(first), _number(second)
        if low > high:
            raise _invalid("content-length-range ends before it begins")
        lengths.append((low, high))
        return
    if operator not in ("eq", "starts-with"):
        raise _invalid("a condition is neither eq nor starts-with nor content-length-range")
    if not isinstance(first, str) or not isinstance(second, str) or not first.startswith("$") or len(first) < 2:
        raise _invalid("a condition names no field as $name, or its value is not a text")
    conditions.append(Condition(first[1:].lower(), second, prefix=operator == "starts-with"))


def _number(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LIMIT:
        raise _invalid("content-length-range is not two numbers of bytes")
    return value


def _expiration(value: object) -> float:
    if not isinstance(value, str) or not _EXPIRATION.fullmatch(value):
        raise _invalid("expiration is not a time such as 2026-01-31T12:00:00.000Z")
    try:
        return datetime.strptime(value[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise _invalid("expiration is no time") from None


def _invalid(what: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {what}.")
