"""Kafka as a `Reader` of messages. The client library is an extra and is imported when a reader is opened."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.control.feed import Bounds, Message, Place, PositionLost
from headrace.control.settings import KafkaSource
from headrace.model.clock import Clock
from headrace.model.errors import HeadraceError, SettingsError, Unavailable
from headrace.stores.credentials import Credentials, CredentialsProvider, credentials_provider

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError

_log = logging.getLogger(__name__)

CLIENT = "confluent_kafka"
_ASK_S = 5.0
_CLOSE_S = 2.0
_MAX_MESSAGES = 500
_NEVER = -1
_T = TypeVar("_T")


class KafkaAccess:
    """A source of the settings, and where its password comes from."""

    def __init__(self, source: KafkaSource, group: str, provider: CredentialsProvider | None) -> None:
        self.source = source
        self.group = group
        self.name = f"{', '.join(source.topics)} at {source.brokers[0]}"
        self._provider = provider

    async def open(self) -> KafkaReader:
        """A reader with the password of this moment. Raises `SettingsError`, `Unavailable`."""
        return KafkaReader(self, await self._provider.get() if self._provider is not None else None)


def resolve_source(source: KafkaSource, *, home: Path, environ: Mapping[str, str], clock: Clock) -> KafkaAccess:
    """What a `[[kafka]]` of the settings means on this node. Raises `SettingsError` for one that cannot work."""
    if not source.brokers or not source.topics:
        raise SettingsError('[[kafka]] names no brokers or no topics: write brokers = ["host:9092"] and topics = ["…"]')
    if importlib.util.find_spec(CLIENT) is None:
        raise SettingsError("[[kafka]] needs a Kafka client: pip install 'headrace[kafka]'")
    for name in ("ca", "certificate", "key"):
        path = getattr(source, name)
        if path and not Path(path).is_file():
            raise SettingsError(f"[[kafka]] {name}: {path} is not a file")
        if path and not source.tls:
            raise SettingsError(f"[[kafka]] {name} is for TLS: write tls = true too")
    provider = None
    if source.credentials:
        if not source.credentials.startswith(("env:", "file:")):
            raise SettingsError("[[kafka]] credentials: write env:PREFIX or file:PATH, never a secret itself")
        provider = credentials_provider(source.credentials, environ=environ, clock=clock)
    if provider is not None and not source.tls and source.mechanism == "PLAIN":
        _log.warning("[[kafka]] at %s: the password is sent in the clear; write tls = true", source.brokers[0])
    return KafkaAccess(source, source.group or _own_group(home), provider)


def _own_group(home: Path) -> str:
    """A name that no other node has: two with one name would forget what the other has not read."""
    mark = hashlib.blake2b(str(home).encode(), digest_size=4).hexdigest()
    return f"headrace-{socket.gethostname()}-{mark}"


def client_options(source: KafkaSource, group: str, credentials: Credentials | None) -> dict[str, str | int | bool]:
    """The library's own options for a source."""
    options: dict[str, str | int | bool] = {
        "bootstrap.servers": ",".join(source.brokers),
        "client.id": "headrace",
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # A position that the log does not have is ours to deal with, never silently replaced.
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
        "queued.max.messages.kbytes": 16384,
        "reconnect.backoff.max.ms": 5000,
        "socket.timeout.ms": 5000,
        "socket.connection.setup.timeout.ms": 5000,
    }
    if source.ca:
        options["ssl.ca.location"] = source.ca
    if source.certificate:
        options["ssl.certificate.location"] = source.certificate
    if source.key:
        options["ssl.key.location"] = source.key
    if credentials is not None:
        options["sasl.mechanism"] = source.mechanism.value
        options["sasl.username"] = credentials.key_id
        options["sasl.password"] = credentials.secret
    options["security.protocol"] = ("SASL_" if credentials else "") + ("SSL" if source.tls else "PLAINTEXT")
    return options


class KafkaReader:
    """A consumer of all partitions that joins no group: every node must hear every message.

    All calls of the library run on one thread of its own, each bounded in time.
    """

    def __init__(self, access: KafkaAccess, credentials: Credentials | None) -> None:
        self._access = access
        self._options = client_options(access.source, access.group, credentials)
        self._not_committed = ""
        self._trouble = ""
        self._consumer: Consumer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka")

    async def places(self) -> tuple[Place, ...]:
        return await self._call(self._places)

    async def committed(self, places: Sequence[Place]) -> dict[Place, int]:
        return await self._call(lambda consumer: _committed(consumer, places))

    async def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        return await self._call(lambda consumer: {place: _bounds(consumer, place) for place in places})

    async def begin(self, starts: Mapping[Place, int]) -> None:
        await self._call(lambda consumer: consumer.assign(_partitions(starts)))

    async def take(self, timeout_s: float) -> tuple[Message, ...]:
        return await self._call(lambda consumer: self._take(consumer, timeout_s))

    async def commit(self, nexts: Mapping[Place, int]) -> None:
        await self._call(lambda consumer: consumer.commit(offsets=_partitions(nexts), asynchronous=True))

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        closed = asyncio.Event()

        def close(consumer: Consumer) -> None:
            try:
                consumer.close()
            except Exception as error:  # noqa: BLE001 - the session is over anyway; whatever the library says of its end changes nothing
                _log.info("the connection to %s did not end well: %s", self._access.name, error)
            with contextlib.suppress(RuntimeError):  # the loop is over too
                loop.call_soon_threadsafe(closed.set)

        try:
            await loop.run_in_executor(self._thread, lambda: None)  # what was asked last has ended
            if self._consumer is not None:
                # With a commit under way and its brokers gone, the library ends no connection before they are back
                # (librdkafka issue 3740): nobody waits for that, the process's end neither.
                threading.Thread(target=close, args=(self._consumer,), name="kafka-close", daemon=True).start()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(closed.wait(), _CLOSE_S)
        finally:
            self._thread.shutdown(wait=False)

    async def _call(self, ask: Callable[[Consumer], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._translated, ask)

    def _translated(self, ask: Callable[[Consumer], _T]) -> _T:
        from confluent_kafka import KafkaException  # noqa: PLC0415 - an extra

        try:
            if self._consumer is None:
                self._consumer = self._connect()
            return ask(self._consumer)
        except KafkaException as error:
            if self._consumer is not None:
                self._consumer.poll(0)  # lets it tell what went wrong on the way
            raise self._unavailable(error.args[0].str() if error.args else str(error)) from error

    def _connect(self) -> Consumer:
        from confluent_kafka import Consumer  # noqa: PLC0415 - an extra

        # Its own lines to standard error are turned off: what it has to say is kept and shown with the next failure.
        options: dict[str, Any] = {**self._options, "log_level": 0}
        return Consumer({**options, "error_cb": self._hear, "on_commit": self._hear_commit})

    def _hear(self, error: KafkaError) -> None:
        from confluent_kafka import KafkaError  # noqa: PLC0415 - an extra

        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # says less than what came before it
            self._trouble = error.str()

    def _hear_commit(self, error: KafkaError | None, _partitions: object) -> None:
        if error is not None:
            self._not_committed = f"group {self._access.group}: how far was read could not be written down: {error.str()}"

    def _unavailable(self, reason: str) -> HeadraceError:
        last = f" ({self._trouble})" if self._trouble and self._trouble not in reason else ""
        self._trouble = ""
        return Unavailable(f"Kafka at {self._access.source.brokers[0]}: {reason}{last}")

    def _places(self, consumer: Consumer) -> tuple[Place, ...]:
        found: list[Place] = []
        for topic in self._access.source.topics:
            told = consumer.list_topics(topic, timeout=_ASK_S).topics[topic]
            if told.error is not None or not told.partitions:
                reason = told.error.str() if told.error is not None else "it has no partitions"
                raise self._unavailable(f"topic {topic}: {reason}; make it there, or correct `topics`")
            found += [(topic, number) for number in sorted(told.partitions)]
        return tuple(found)

    def _take(self, consumer: Consumer, timeout_s: float) -> tuple[Message, ...]:
        from confluent_kafka import KafkaError  # noqa: PLC0415 - an extra

        first = consumer.poll(timeout_s)
        if self._not_committed:
            reason, self._not_committed = self._not_committed, ""
            raise self._unavailable(reason)
        if first is None:
            return ()
        taken: list[Message] = []
        for got in (first, *consumer.consume(_MAX_MESSAGES - 1, 0)):
            place, error = (got.topic() or "", got.partition() or 0), got.error()
            if error is None:
                taken.append(Message(place, got.offset() or 0, got.value() or b""))
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                raise PositionLost(place)
            else:
                raise self._unavailable(error.str())
        self._trouble = ""
        return tuple(taken)


def _partitions(offsets: Mapping[Place, int]) -> list[Any]:
    from confluent_kafka import TopicPartition  # noqa: PLC0415 - an extra

    return [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]


def _committed(consumer: Consumer, places: Sequence[Place]) -> dict[Place, int]:
    from confluent_kafka import KafkaException  # noqa: PLC0415 - an extra

    found: dict[Place, int] = {}
    for told in consumer.committed(_partitions(dict.fromkeys(places, 0)), timeout=_ASK_S):
        if told.error is not None:
            raise KafkaException(told.error)
        if told.offset > _NEVER:
            found[told.topic, told.partition] = told.offset
    return found


def _bounds(consumer: Consumer, place: Place) -> Bounds:
    first, end = consumer.get_watermark_offsets(_partitions({place: 0})[0], timeout=_ASK_S)
    return Bounds(first, end)
