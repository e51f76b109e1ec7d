"""Kafka as a log of notifications, over a real broker: positions, restarts, passwords, TLS, and what is said when it fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.control import kafka
from headrace.control.feed import Bounds, Feed
from headrace.control.kafka import KafkaAccess, client_options, resolve_source
from headrace.control.plane import ControlPlane
from headrace.control.settings import ControlSettings, KafkaSource, Mechanism
from headrace.ledger.ledger import Ledger
from headrace.model.clock import SystemClock
from headrace.model.errors import SettingsError, Unavailable
from headrace.stores.credentials import Credentials
from support.fake_node import FakeNode
from support.kafka import Broker, kafka_broker
from support.processes import free_port
from support.tls import make_certificate, tls_in_front

SOURCE = KafkaSource(brokers=("kafka:9092",), topics=("s3-events",))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with kafka_broker(tmp_path) as started:
        yield started


def access(broker: Broker, *topics: str, home: Path = Path("/home-of-a-test")) -> KafkaAccess:
    source = KafkaSource(brokers=(broker.address,), topics=topics)
    return resolve_source(source, home=home, environ={}, clock=SystemClock())


def record(key: str) -> bytes:
    return json.dumps({"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": key}}}]}).encode()


def keys(node: FakeNode) -> list[str]:
    return [changed.key for changed in node.changes]


@pytest.mark.servers
async def test_what_is_committed_is_found_again_and_the_rest_is_read(broker: Broker) -> None:
    broker.make_topic("a", partitions=2)
    for number in range(3):
        broker.send("a", b"%d" % number, partition=1)
    reader = await access(broker, "a").open()
    places = await reader.places()
    assert places == (("a", 0), ("a", 1))
    assert await reader.committed(places) == {}
    assert await reader.bounds(places) == {("a", 0): Bounds(0, 0), ("a", 1): Bounds(0, 3)}
    await reader.begin({("a", 0): 0, ("a", 1): 1})
    taken = await reader.take(10)
    assert [(message.place, message.offset, message.body) for message in taken] == [(("a", 1), 1, b"1"), (("a", 1), 2, b"2")]
    await reader.commit({("a", 1): 2})
    await reader.take(0.2)
    await reader.close()
    again = await access(broker, "a").open()
    assert await again.committed(places) == {("a", 1): 2}
    await again.close()
    other_home = await access(broker, "a", home=Path("/another")).open()
    assert await other_home.committed(places) == {}, "no two nodes share a position"
    await other_home.close()


@pytest.mark.servers
async def test_a_feed_outlives_its_broker_and_begins_anew_with_a_log_that_does(broker: Broker) -> None:
    broker.make_topic("events")
    node = FakeNode()
    source = access(broker, "events")
    feed = Feed(source.name, source.open, node, SystemClock(), pause=lambda _seconds: asyncio.sleep(0.05))
    running = asyncio.create_task(feed.run())
    async with asyncio.timeout(60):
        while not feed.stats.connected:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(broker.send, "events", record("one"))
        while keys(node) != ["one"]:
            await asyncio.sleep(0.01)
        broker.stop()
        while feed.stats.connected:
            await asyncio.sleep(0.01)
        assert broker.address in feed.stats.error
        assert "Connection refused" in feed.stats.error
        # This broker's log is memory: it comes back empty, with positions that mean nothing.
        await asyncio.to_thread(broker.start)
        await asyncio.to_thread(broker.make_topic, "events")
        while not feed.stats.connected:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(broker.send, "events", record("two"))
        while keys(node) != ["one", "two"]:
            await asyncio.sleep(0.01)
    assert node.missed == 2
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.servers
async def test_a_connection_ends_in_seconds_also_where_brokers_went_before_they_took_a_commit(broker: Broker) -> None:
    broker.make_topic("events")
    reader = await access(broker, "events").open()
    places = await reader.places()
    assert await reader.committed(places) == {}
    await reader.begin(dict.fromkeys(places, 0))
    broker.stop()
    await reader.commit(dict.fromkeys(places, 0))
    async with asyncio.timeout(20):
        await reader.close()


@pytest.mark.servers
async def test_a_topic_that_is_not_there_is_named(broker: Broker) -> None:
    reader = await access(broker, "events", "nowhere").open()
    with pytest.raises(Unavailable, match=r"topic events: .*make it there, or correct `topics`"):
        await reader.places()
    await reader.close()


@pytest.mark.servers
async def test_brokers_that_are_away_are_named_in_seconds() -> None:
    nobody = Broker(Path(), free_port())
    reader = await access(nobody, "events").open()
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match=rf"Kafka at {nobody.address}: .*Connection refused"):
            await reader.places()
    await reader.close()


@pytest.mark.servers
async def test_tls_is_spoken_with_brokers_whose_certificate_is_known_and_with_no_others(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    broker = Broker(tmp_path, free_port(), advertised=free_port())
    broker.start()
    try:
        async with tls_in_front(broker.advertised, broker.port, certificate, key):
            address = (f"127.0.0.1:{broker.advertised}",)
            known = KafkaSource(address, ("events",), tls=True, ca=str(certificate))
            for source, words in (
                (known, "topic events: .*Unknown topic"),
                (KafkaSource(address, ("events",), tls=True), "certificate verify failed"),
            ):
                reader = await resolve_source(source, home=tmp_path, environ={}, clock=SystemClock()).open()
                with pytest.raises(Unavailable, match=words):
                    await reader.places()
                await reader.close()
    finally:
        broker.stop()


def test_a_source_becomes_the_options_of_the_library_and_nothing_is_left_to_chance() -> None:
    plain = client_options(SOURCE, "g", None)
    assert plain["security.protocol"] == "PLAINTEXT"
    assert (plain["group.id"], plain["auto.offset.reset"], plain["enable.auto.commit"]) == ("g", "error", False)
    assert "sasl.password" not in plain
    secure = KafkaSource(
        ("a:1", "b:2"), ("t",), mechanism=Mechanism.SCRAM_SHA_512, tls=True, ca="/ca", certificate="/c", key="/k"
    )
    options = client_options(secure, "g", Credentials("user", "word"))
    assert options["bootstrap.servers"] == "a:1,b:2"
    assert options["security.protocol"] == "SASL_SSL"
    assert [options[f"sasl.{name}"] for name in ("mechanism", "username", "password")] == ["SCRAM-SHA-512", "user", "word"]
    assert [options[f"ssl.{name}.location"] for name in ("ca", "certificate", "key")] == ["/ca", "/c", "/k"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (KafkaSource((), ("t",)), "names no brokers"),
        (KafkaSource(("a:1",), ()), "no topics"),
        (KafkaSource(("a:1",), ("t",), credentials="hunter2"), "never a secret itself"),
        (KafkaSource(("a:1",), ("t",), credentials="env:NONE"), "NONE_ACCESS_KEY_ID"),
        (KafkaSource(("a:1",), ("t",), tls=True, ca="/no/such/file"), "/no/such/file is not a file"),
        (KafkaSource(("a:1",), ("t",), ca=__file__), "tls = true"),
    ],
)
def test_a_source_that_cannot_work_keeps_the_node_from_starting(
    source: KafkaSource, words: str, ledger: Ledger, tmp_path: Path
) -> None:
    settings = ControlSettings(home=tmp_path, kafka=(source,))
    with pytest.raises(SettingsError, match=words) as refused:
        ControlPlane(ledger, settings, SystemClock(), environ={})
    assert "hunter2" not in str(refused.value)


def test_without_the_client_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kafka, "CLIENT", "confluent_kafka_that_is_not_installed")
    with pytest.raises(SettingsError, match=r"pip install 'headrace\[kafka\]'"):
        resolve_source(SOURCE, home=tmp_path, environ={}, clock=SystemClock())


def test_a_password_in_the_clear_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    environ = {"K_ACCESS_KEY_ID": "u", "K_SECRET_ACCESS_KEY": "w0rd-of-honour"}
    source = KafkaSource(("a:1",), ("t",), credentials="env:K")
    resolve_source(source, home=tmp_path, environ=environ, clock=SystemClock())
    assert "sent in the clear" in caplog.text
    assert "w0rd" not in caplog.text
