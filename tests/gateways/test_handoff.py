from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.gateways.handoff import Decided, HandoffDesk, HandoffServer, may_hand_over
from headrace.gateways.http.messages import BadFraming
from headrace.gateways.s3.auth import Authenticator
from headrace.gateways.s3.keys import KeyRing
from headrace.model.clock import SystemClock
from headrace.model.errors import NotFound, VersionChanged
from headrace.model.events import AccessRefused
from headrace.model.mounts import MountSpec, Residency
from headrace.model.objects import ByteRange, Listing, ObjectInfo, Version
from headrace.model.reading import FileSlice, Reading
from headrace.model.sigv4 import SigningIdentity
from headrace.namespace.namespace import Namespace
from headrace.namespace.table import Mount, MountTable
from headrace.policy.rules import Policy, Rule
from headrace.stores.handoff import MAX_HEAD_BYTES, HandoffChannel, HandoffStore, frame
from headrace.stores.memory import MemoryStore
from headrace.stores.store import Store
from support.sliced import SlicedStore

BODY = bytes(range(256)) * 1024
SECRET = "s" * 32


class ManualClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return SystemClock.time()


class OverHttp(Store):
    """Stands where the S3 client of the data port stands: the node's account, and what was asked of it."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.reads = 0

    async def info(self, key: str) -> ObjectInfo:
        return await self._store.info(key.partition("/")[2])

    async def read(self, key: str, byte_range: ByteRange | None = None, *, version: Version | None = None) -> Reading:
        self.reads += 1
        return await MemoryStore.read(self._store, key.partition("/")[2], byte_range, version=version)

    async def list(self, prefix: str = "", *, delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        return await self._store.list(prefix, delimiter=delimiter, after=after, limit=limit)


@dataclass
class Desk:
    store: SlicedStore
    http: OverHttp
    client: HandoffStore
    desk: HandoffDesk
    clock: ManualClock
    path: Path
    namespace: Namespace
    events: list[object] = field(default_factory=list)
    policy: Policy = field(default_factory=Policy)

    def remount(self, spec: MountSpec) -> None:
        self.namespace.table = MountTable([Mount(spec.path, spec, self.store)])

    def client_of(self, key_id: str, secret: str) -> HandoffStore:
        channel = HandoffChannel(str(self.path), SigningIdentity(key_id, secret, "us-east-1"), "127.0.0.1:9400", self.clock)
        return HandoffStore(self.http, channel, self.clock)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = SlicedStore(tmp_path)
    store.put("k", BODY)
    namespace = Namespace(MountTable([Mount("/b", MountSpec("/b"), store)]))
    path = tmp_path / "handoff.sock"
    clock = ManualClock()
    here = Desk(store, OverHttp(store), None, None, clock, path, namespace)  # type: ignore[arg-type]
    here.desk = HandoffDesk(
        namespace,
        Authenticator(KeyRing({"ann": SECRET}), "us-east-1"),
        lambda: here.policy,
        clock=clock,
        emit=here.events.append,
    )
    here.client = here.client_of("ann", SECRET)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = HandoffServer(here.desk)
        server.start(listener)
        yield here
        await here.client.close()
        await server.close()


def _bytes(reading: Reading) -> bytes:
    assert reading.ready is not None
    parts = []
    for piece in reading.ready:
        assert isinstance(piece, FileSlice)
        parts.append(os.pread(piece.fd, piece.length, piece.offset))
    return b"".join(parts)


async def _all(reading: Reading) -> bytes:
    return b"".join([bytes(part) async for part in reading])


async def test_pages_at_hand_come_as_open_files(desk: Desk) -> None:
    desk.store.warm("k")
    reading = await desk.client.read("b/k", ByteRange(70_000, 200_000))
    assert _bytes(reading) == BODY[70_000:200_000]
    assert await _all(reading) == BODY[70_000:200_000]
    assert reading.info.key == "b/k"
    assert desk.http.reads == 0


async def test_a_lease_answers_later_reads_around_it_without_asking(desk: Desk) -> None:
    desk.store.warm("k")
    await desk.client.read("b/k", ByteRange(0, 10))
    asked = desk.store.peeks
    again = desk.client.peek("b/k", ByteRange(100_000, 100_010))
    assert again is not None
    assert _bytes(again) == BODY[100_000:100_010]
    assert desk.store.peeks == asked


async def test_cold_pages_are_read_over_http(desk: Desk) -> None:
    reading = await desk.client.read("b/k", ByteRange(0, 10))
    assert await _all(reading) == BODY[:10]
    assert desk.http.reads == 1


async def test_a_worker_that_does_not_know_the_version_says_no_and_learns_it_meanwhile(desk: Desk) -> None:
    desk.store.warm("k")
    desk.store.forgetful = True
    assert await _all(await desk.client.read("b/k", ByteRange(0, 10))) == BODY[:10]
    assert desk.http.reads == 1
    async with asyncio.timeout(5):
        while desk.store.forgetful:
            await asyncio.sleep(0.01)
    assert _bytes(await desk.client.read("b/k", ByteRange(0, 10))) == BODY[:10]
    assert desk.http.reads == 1


async def test_a_missing_object_is_said_to_be_so_by_http(desk: Desk) -> None:
    with pytest.raises(NotFound):
        await desk.client.read("b/absent", None)


async def test_a_wrong_secret_gets_no_file_and_leaves_an_event(desk: Desk) -> None:
    desk.store.warm("k")
    stranger = desk.client_of("ann", "x" * 32)
    await stranger.read("b/k", ByteRange(0, 10))
    assert desk.http.reads == 1
    assert [type(event) for event in desk.events] == [AccessRefused]
    await stranger.close()


async def test_the_policy_is_asked_before_the_namespace(desk: Desk) -> None:
    desk.store.warm("k")
    desk.policy = Policy((Rule("/b/k", effect="deny"),))
    await desk.client.read("b/k", ByteRange(0, 10))
    assert desk.http.reads == 1
    assert desk.store.peeks == 0


async def test_a_right_taken_away_ends_within_five_seconds(desk: Desk) -> None:
    desk.store.warm("k")
    first = await desk.client.read("b/k", ByteRange(0, 10))
    assert first.ready is not None
    piece = first.ready[0]
    assert isinstance(piece, FileSlice)
    assert piece.until <= desk.clock.now + 5
    desk.policy = Policy((Rule("/b", effect="deny"),))
    desk.clock.now += 5.01
    assert desk.client.peek("b/k", ByteRange(0, 10)) is None
    await desk.client.read("b/k", ByteRange(0, 10))
    assert desk.http.reads == 1


async def test_an_unpinned_read_is_no_staler_than_the_mount_allows(desk: Desk) -> None:
    desk.remount(MountSpec("/b", freshness="2s"))
    desk.store.warm("k")
    await desk.client.read("b/k", ByteRange(0, 10))
    desk.store.put("k", BODY[::-1])
    desk.clock.now += 2.01
    assert desk.client.peek("b/k", ByteRange(0, 10)) is None
    assert await _all(await desk.client.read("b/k", ByteRange(0, 10))) == BODY[::-1][:10]


async def test_a_pinned_version_is_never_answered_with_another(desk: Desk) -> None:
    old = (await desk.client.info("b/k")).version
    desk.store.put("k", BODY[::-1])
    desk.store.warm("k")
    with pytest.raises(VersionChanged):
        await desk.client.read("b/k", ByteRange(0, 10), version=old)


@pytest.mark.parametrize("residency", [Residency.MEMORY, Residency.NONE])
async def test_mounts_that_may_not_lie_on_disk_never_hand_over(desk: Desk, residency: Residency) -> None:
    desk.remount(MountSpec("/b", residency=residency))
    desk.store.warm("k")
    for _ in range(3):
        await desk.client.read("b/k", ByteRange(0, 10))
    assert desk.http.reads == 3
    assert desk.store.peeks == 0


def test_one_member_of_a_union_that_stays_in_memory_keeps_the_whole_union_there() -> None:
    members = (MountSpec("", "s3://a"), MountSpec("", "s3://b", residency=Residency.MEMORY))
    assert not may_hand_over(MountSpec("/u", union=members))
    assert may_hand_over(MountSpec("/u", union=members[:1]))


def test_what_is_granted_object_by_object_is_not_handed_over() -> None:
    assert may_hand_over(MountSpec("/", "file:///srv"))
    assert not may_hand_over(MountSpec("/", "file:///srv", acls=True))


async def test_a_descriptor_that_can_be_written_through_stays(desk: Desk) -> None:
    desk.store.warm("k")
    page = desk.store.pages["k", (await desk.store.info("k")).version][0]
    os.close(page.fd)
    page.fd = os.open(desk.store.files[0], os.O_RDWR)
    await desk.client.read("b/k", ByteRange(0, 10))
    assert desk.http.reads == 1


async def test_without_a_node_http_is_asked_and_the_socket_left_alone_for_a_while(desk: Desk) -> None:
    desk.path.unlink()
    for _ in range(2):
        await desk.client.read("b/k", ByteRange(0, 10))
    assert desk.http.reads == 2


@pytest.mark.parametrize(
    "message",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        frame(b"x" * (MAX_HEAD_BYTES + 1))[: MAX_HEAD_BYTES + 4],
        frame(b"DELETE /b/k HTTP/1.1\r\nhost: a\r\n\r\n"),
        frame(b"GET /b/k?uploads HTTP/1.1\r\nhost: a\r\n\r\n"),
        frame(b"nonsense") + b"more",
        frame(b"GET /b/k HTTP/1.1\r\nhost: a\r\n\r\nbody"),
        frame(b"POST /b HTTP/1.1\r\nhost: a\r\n\r\n[]"),
        frame(b'POST / HTTP/1.1\r\nhost: a\r\n\r\n["b/k"]'),
    ],
)
async def test_garbage_ends_the_conversation(desk: Desk, message: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(desk.path)
    writer.write(message)
    await writer.drain()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await writer.wait_closed()
    desk.store.warm("k")
    assert _bytes(await desk.client.read("b/k", ByteRange(0, 10))) == BODY[:10]


async def test_many_objects_are_handed_over_whole_in_one_exchange(desk: Desk) -> None:
    names = [f"k{number}" for number in range(20)]
    for name in names:
        desk.store.put(name, BODY[: 1000 + len(name)])
        desk.store.warm(name)
    desk.store.put("cold", BODY)
    found = await desk.client.at_hand([*(f"b/{name}" for name in names), "b/cold", "b/none", "elsewhere/k"])
    assert sorted(found) == sorted(f"b/{name}" for name in names)
    for name in names:
        assert _bytes(found[f"b/{name}"]) == BODY[: 1000 + len(name)]
        assert found[f"b/{name}"].info.key == f"b/{name}"
    assert desk.http.reads == 0


async def test_what_does_not_fit_into_one_message_is_left_to_be_asked_for_again(desk: Desk) -> None:
    names = [f"b/k{number}" for number in range(30)]
    for name in names:
        desk.store.put(name[2:], BODY)  # four pages each: sixteen of them fit
        desk.store.warm(name[2:])
    first = await desk.client.at_hand(names)
    assert list(first) == names[:16]
    assert list(await desk.client.at_hand(names[16:])) == names[16:]


async def test_more_names_than_one_message_holds_are_asked_for_in_part(desk: Desk) -> None:
    names = [f"b/{'x' * 500}{number}" for number in range(60)]
    for name in names:
        desk.store.put(name[2:], BODY[:10])
        desk.store.warm(name[2:])
    found = await desk.client.at_hand(names)
    assert 10 < len(found) < 60


async def test_the_policy_is_asked_for_each_of_many(desk: Desk) -> None:
    for name in ("yes/k", "no/k"):
        desk.store.put(name, BODY)
        desk.store.warm(name)
    desk.policy = Policy((Rule("/b/no", effect="deny"),))
    assert list(await desk.client.at_hand(["b/yes/k", "b/no/k", "b/no/../yes/k"])) == ["b/yes/k"]
    assert {event.path for event in desk.events if isinstance(event, AccessRefused)} == {"/b/no/k", "/b/no/../yes/k"}


@pytest.mark.parametrize("residency", [Residency.MEMORY, Residency.NONE])
async def test_many_of_a_mount_that_may_not_lie_on_disk_are_not_handed_over(desk: Desk, residency: Residency) -> None:
    desk.store.warm("k")
    desk.remount(MountSpec("/b", residency=residency))
    assert await desk.client.at_hand(["b/k"]) == {}


async def test_a_wrong_secret_gets_none_of_many(desk: Desk) -> None:
    desk.store.warm("k")
    stranger = desk.client_of("ann", "t" * 32)
    assert await stranger.at_hand(["b/k"]) == {}
    assert any(isinstance(event, AccessRefused) for event in desk.events)
    await stranger.close()


async def test_names_that_were_not_signed_are_refused(desk: Desk) -> None:
    desk.store.warm("k")
    channel = HandoffChannel("", SigningIdentity("ann", SECRET, "us-east-1"), "127.0.0.1:9400", desk.clock)
    signed = channel._head_of_many(b'["b/other"]')
    with pytest.raises(BadFraming, match="not those that were signed"):
        desk.desk.decide(signed + b'["b/k"]')
    many = b"[" + b",".join([b'"b/k"'] * 65) + b"]"
    with pytest.raises(BadFraming, match="at most 64 names"):
        desk.desk.decide(channel._head_of_many(many) + many)
    with pytest.raises(BadFraming, match="JSON array of strings"):
        desk.desk.decide(channel._head_of_many(b"[1]") + b"[1]")


async def test_names_of_no_object_are_answered_as_such(desk: Desk) -> None:
    desk.store.warm("k")
    assert list(await desk.client.at_hand(["", "b", "b/", "../k", "b/k\0", "b/" + "x" * 1025, "b/k"])) == ["b/k"]


async def test_an_unsigned_head_is_refused_where_the_mount_is_not_anonymous(desk: Desk) -> None:
    desk.store.warm("k")
    head = b"GET /b/k HTTP/1.1\r\nhost: a\r\n\r\n"
    assert desk.desk.decide(head).slices == ()
    desk.remount(MountSpec("/b", anonymous=True))
    assert len(desk.desk.decide(head).slices) == 4


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda tail: b"GET /b/k HTTP/1.1\r\nhost: a\r\n" + tail))
)
def test_whatever_is_sent_is_answered_or_refused(tmp_path: Path, head: bytes) -> None:
    store = SlicedStore(tmp_path)
    store.put("k", BODY)
    store.warm("k")
    namespace = Namespace(MountTable([Mount("/b", MountSpec("/b"), store)]))
    desk = HandoffDesk(
        namespace, Authenticator(KeyRing({"ann": SECRET}), "us-east-1"), Policy, clock=SystemClock(), emit=lambda _: None
    )
    try:
        decided = desk.decide(head)
    except BadFraming:
        return
    assert isinstance(decided, Decided)
    assert decided.slices == ()
    assert msgspec.json.encode(decided.answer)


async def test_the_client_closes_every_descriptor_that_it_was_given(desk: Desk) -> None:
    desk.store.warm("k")
    await desk.client.read("b/k", ByteRange(0, 10))
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for _ in range(20):
        desk.clock.now += 6
        await desk.client.read("b/k", ByteRange(0, 10))
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before
