"""Who may do what where: rules over callers and paths, decided without IO."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec


class Action(StrEnum):
    """What a caller asks to do."""

    READ = "read"
    """An object's bytes and what is known of it."""
    LIST = "list"
    """What lies below a path."""
    WRITE = "write"
    """Put, copy onto, tag and delete objects; make and remove buckets."""
    ADMIN = "admin"
    """Change mounts, keys and rules."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[rule]]`. `path` covers itself and all below it, compared exactly after one decoding.

    A path that ends with `*` covers every path that begins with the text before it.
    `callers` are key ids; `*` is every authenticated caller.
    """

    path: str
    """Covers itself and all below it; with `*` at its end, all paths that begin with the text before it."""
    callers: tuple[str, ...] = ("*",)
    """Key ids; `*`: every caller with a key, and for a deny also those without."""
    actions: tuple[Action, ...] = (Action.READ, Action.LIST)
    """Any of `read`, `list`, `write`, `admin`."""
    effect: Literal["allow", "deny"] = "allow"
    """`allow` or `deny`; a deny that covers always wins."""

    def __post_init__(self) -> None:
        # A rule that can never hold must not stand there as if it did: a misspelt deny would deny nothing.
        if not self.path.startswith("/"):
            raise ValueError(f"a rule's path must begin with a slash, not {self.path[:80]!a}")
        if not self.actions or not self.callers or not all(self.callers):
            raise ValueError(f"the rule for {self.path[:80]!a} names no caller or no action: leave the key out for the default")

    def covers_path(self, path: str) -> bool:
        if self.path.endswith("*"):
            return path.startswith(self.path[:-1])
        return self.path in ("/", path) or path.startswith(self.path.rstrip("/") + "/")


class Caller(msgspec.Struct, frozen=True):
    """Who asks. `key_id` is empty for an anonymous caller."""

    key_id: str = ""

    @property
    def anonymous(self) -> bool:
        return not self.key_id


ANONYMOUS = Caller()


class Decision(msgspec.Struct, frozen=True):
    """What the policy says of one request. `reason` names the rule in words for the audit log."""

    allowed: bool
    reason: str


class Policy(msgspec.Struct, frozen=True):
    """Rules in order of writing. A deny that covers always wins; see `decide`."""

    rules: tuple[Rule, ...] = ()

    def decide(self, caller: Caller, action: Action, path: str, *, anonymous_mount: bool = False, acls: bool = False) -> Decision:
        """May `caller` do `action` at namespace path `path`?

        1. A covering deny rule refuses. 2. An anonymous caller may read and list where the mount
        says `anonymous`; where it keeps `acls` those decide, and whoever asks here asks them, too; nothing else.
        3. Without any allow rule that names this caller (or `*`), an authenticated caller may do everything.
        4. Else one of them must cover the path.
        """
        if caller.anonymous:
            if any(r.effect == "deny" and action in r.actions and "*" in r.callers and r.covers_path(path) for r in self.rules):
                return Decision(False, "denied by rule")
            if acls and action is not Action.ADMIN:
                return Decision(True, "left to access control lists")
            if anonymous_mount and action in (Action.READ, Action.LIST):
                return Decision(True, "anonymous mount")
            return Decision(False, "authentication required")
        mine = [r for r in self.rules if "*" in r.callers or caller.key_id in r.callers]
        for rule in mine:
            if rule.effect == "deny" and action in rule.actions and rule.covers_path(path):
                return Decision(False, f"denied by rule for {rule.path}")
        allows = [r for r in mine if r.effect == "allow"]
        if not allows:
            return Decision(True, "no rule limits this caller")
        for rule in allows:
            if action in rule.actions and rule.covers_path(path):
                return Decision(True, f"allowed by rule for {rule.path}")
        return Decision(False, "no rule allows it")

    def denies_below(self, caller: Caller, action: Action, path: str) -> bool:
        """Whether some path that begins with `path` may be decided otherwise than `path` itself.

        Listings filter entry by entry only where this holds.
        """
        return any(
            rule.path.rstrip("*").startswith(path) or rule.covers_path(path)
            for rule in self.rules
            if action in rule.actions
            if "*" in rule.callers or caller.key_id in rule.callers
        )
