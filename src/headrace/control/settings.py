"""What the control plane is told by `headrace.toml`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from headrace.model.mounts import MountSpec
from headrace.policy.rules import Rule


class KeySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[key]]`: an access key that may ask the data port."""

    id: str
    """The access key id that S3 callers present."""
    secret: str
    """By reference: `env:NAME` or `file:PATH`; a literal is accepted with a warning."""

    def __repr__(self) -> str:
        return f"KeySpec(id={self.id!r})"


class Mechanism(StrEnum):
    """How a user and a password are shown to Kafka's brokers."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class KafkaSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[kafka]]`: topics in which stores say that objects changed. Needs `pip install 'headrace[kafka]'`."""

    brokers: tuple[str, ...]
    """`host:port` of some of the cluster's brokers; the others are learnt from them."""
    topics: tuple[str, ...]
    """Topics that carry S3 event notifications. Every node reads every partition."""
    group: str = ""
    """Under this name the brokers keep how far this node has read. No other node or program may use it; empty: made of
    this host's name and the home directory."""
    credentials: str = ""
    """By reference only: `env:PREFIX` (user in PREFIX_ACCESS_KEY_ID, password in PREFIX_SECRET_ACCESS_KEY) or `file:PATH`
    (two lines: user, password); empty: the brokers ask for none."""
    mechanism: Mechanism = Mechanism.PLAIN
    """How user and password are shown to the brokers."""
    tls: bool = False
    """Speak TLS; the brokers' certificates must carry their host names."""
    ca: str = ""
    """File of the authorities that may have signed the brokers' certificates; empty: the system's."""
    certificate: str = ""
    """File of this node's own certificate, where brokers ask for one."""
    key: str = ""
    """File of that certificate's key."""


class ControlSettings(msgspec.Struct, frozen=True):
    """The part of the settings that mounts, keys and the control port are made of."""

    home: Path
    mounts: tuple[MountSpec, ...] = ()
    keys: tuple[KeySpec, ...] = ()
    rules: tuple[Rule, ...] = ()
    hosts: tuple[str, ...] = ()
    """Host names, besides addresses and `localhost`, under which browsers may open the control port."""
    kafka: tuple[KafkaSource, ...] = ()
