import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.cache.arena import MemoryTier
from headrace.model.errors import HeadraceError, SettingsError

PAGE = 16 << 10


def object_id(number: int) -> bytes:
    return number.to_bytes(8, "little") + bytes([number % 251]) * 4 + b"tag1"


def content(number: int, page: int, length: int = PAGE) -> bytes:
    seed = number.to_bytes(8, "big") + page.to_bytes(8, "big")
    return (seed * (length // 16 + 1))[:length]


@pytest.fixture
def tier() -> Iterator[MemoryTier]:
    made = MemoryTier.create(4 << 20, PAGE)
    yield made
    made.close()


def test_what_was_put_is_found_by_object_and_page(tier: MemoryTier) -> None:
    assert tier.put(object_id(1), 0, content(1, 0))
    assert tier.put(object_id(1), 7, memoryview(content(1, 7, 100)))
    assert tier.put(object_id(2), 0, b"")
    assert tier.get(object_id(1), 0) == content(1, 0)
    assert tier.get(object_id(1), 7) == content(1, 7, 100)
    assert tier.get(object_id(2), 0) == b""
    assert tier.get(object_id(1), 1) is None
    assert tier.get(object_id(3), 0) is None


def test_a_page_too_long_for_any_slot_is_declined(tier: MemoryTier) -> None:
    assert not tier.put(object_id(1), 0, bytes(PAGE + 1))
    assert tier.stats().filled == 0


def test_putting_a_page_again_takes_no_second_slot(tier: MemoryTier) -> None:
    for _ in range(3):
        assert tier.put(object_id(1), 0, content(1, 0))
    assert tier.stats().filled == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 5), st.sampled_from([1, 4096, 4097, PAGE])), max_size=300))
def test_never_more_than_its_capacity_and_never_another_pages_bytes(puts: list[tuple[int, int, int]]) -> None:
    tier = MemoryTier.create(1 << 20, PAGE)
    try:
        kept: dict[tuple[int, int], bytes] = {}
        for number, page, length in puts:
            data = content(number, page, length)
            if (number, page) not in kept:
                assert tier.put(object_id(number), page, data)
                kept[number, page] = data
            assert tier.get(object_id(number), page) in (kept[number, page], None)
        for (number, page), data in kept.items():
            assert tier.get(object_id(number), page) in (data, None)
        stats = tier.stats()
        assert stats.bytes_used <= stats.capacity
        assert stats.filled <= stats.slots
    finally:
        tier.close()


def test_the_least_read_pages_make_room(tier: MemoryTier) -> None:
    for number in range(20):
        tier.put(object_id(number), 0, content(number, 0))
        for _ in range(3):
            tier.get(object_id(number), 0)
    for number in range(1000, 3000):
        tier.put(object_id(number), 0, content(number, 0))
        for hot in range(20):
            tier.get(object_id(hot), 0)
    assert sum(tier.get(object_id(number), 0) is not None for number in range(20)) >= 18
    assert tier.stats().evicted > 1000


def test_what_makes_room_is_handed_on_whole(tier: MemoryTier) -> None:
    gone: list[tuple[bytes, int, bytes]] = []
    tier.on_evicted = lambda name, page, data: gone.append((name, page, data))
    for number in range(1000):
        tier.put(object_id(number), 2, content(number, 2))
    assert gone
    numbers = {object_id(number): number for number in range(1000)}
    assert all(data == content(numbers[name], 2) and page == 2 for name, page, data in gone)


def test_drop_takes_all_pages_of_the_object_and_wipes_their_bytes(tier: MemoryTier) -> None:
    for page in range(5):
        tier.put(object_id(1), page, b"SECRET-MARK" * 100)
    tier.put(object_id(2), 0, content(2, 0))
    assert tier.drop(object_id(1)) == 5
    assert tier.drop(object_id(1)) == 0
    assert tier.get(object_id(1), 0) is None
    assert tier.get(object_id(2), 0) == content(2, 0)
    assert b"SECRET-MARK" not in os.pread(tier.fd, tier.capacity, 0)


def test_drop_mount_takes_all_objects_with_its_tag(tier: MemoryTier) -> None:
    tier.put(object_id(1), 0, b"a")
    tier.put(object_id(2), 0, b"b")
    tier.put(bytes(12) + b"tag2", 0, b"c")
    assert tier.drop_mount(b"tag1") == 2
    assert tier.get(bytes(12) + b"tag2", 0) == b"c"


def test_a_flipped_bit_is_a_miss_and_the_slot_is_emptied(tier: MemoryTier) -> None:
    tier.put(object_id(1), 0, content(1, 0))
    raw = os.pread(tier.fd, tier.capacity, 0)
    at = raw.find(content(1, 0)) + 5000
    os.pwrite(tier.fd, bytes([raw[at] ^ 4]), at)
    assert tier.get(object_id(1), 0) is None
    assert (tier.stats().damaged, tier.stats().filled) == (1, 0)
    assert tier.put(object_id(1), 0, content(1, 0))
    assert tier.get(object_id(1), 0) == content(1, 0)


def test_no_flip_in_the_index_serves_wrong_bytes(tier: MemoryTier) -> None:
    tier.put(object_id(1), 0, content(1, 0))
    entry = os.pread(tier.fd, tier.capacity, 0).find(object_id(1))
    for bit in range(40 * 8):
        byte = os.pread(tier.fd, 1, entry + bit // 8)[0]
        os.pwrite(tier.fd, bytes([byte ^ (1 << bit % 8)]), entry + bit // 8)
        assert tier.get(object_id(1), 0) in (content(1, 0), None)
        tier.put(object_id(1), 0, content(1, 0))
        assert tier.get(object_id(1), 0) == content(1, 0)
        entry = os.pread(tier.fd, tier.capacity, 0).find(object_id(1))


def test_pages_are_seen_by_another_process(tier: MemoryTier) -> None:
    tier.put(object_id(1), 3, content(1, 3))
    code = (
        "import sys; from headrace.cache.arena import MemoryTier; tier = MemoryTier.attach(int(sys.argv[1]));"
        "page = tier.get(bytes.fromhex(sys.argv[2]), 3); tier.put(bytes.fromhex(sys.argv[2]), 4, page[::-1])"
    )
    command = [sys.executable, "-c", code, str(tier.fd), object_id(1).hex()]
    subprocess.run(command, pass_fds=(tier.fd,), check=True, timeout=60)
    assert tier.get(object_id(1), 4) == content(1, 3)[::-1]


def test_only_a_tier_can_be_attached(tmp_path: Path) -> None:
    for data in (b"", b"x" * 8192):
        stranger = tmp_path / "stranger"
        stranger.write_bytes(data)
        fd = os.open(stranger, os.O_RDWR)
        with pytest.raises(HeadraceError, match="not a memory tier"):
            MemoryTier.attach(fd)
        os.close(fd)


def test_a_capacity_without_room_for_pages_is_refused_with_the_least_one() -> None:
    with pytest.raises(SettingsError, match="give at least"):
        MemoryTier.create(100_000, 64 << 10)


def test_nobody_can_shrink_it_under_a_reader(tier: MemoryTier) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(tier.fd, 0)


def test_the_pages_are_kept_out_of_core_dumps(tier: MemoryTier) -> None:
    smaps = Path("/proc/self/smaps").read_text(encoding="utf-8").split("headrace-memory", 1)[1]
    assert "dd" in smaps.split("VmFlags:", 1)[1].split("\n", 1)[0].split()


def in_a_child(tier: MemoryTier, work: Callable[[MemoryTier], None]) -> int:
    """Run `work` in a forked process with a tier of its own; its wait status."""
    pid = os.fork()
    if not pid:
        try:
            work(MemoryTier.attach(os.dup(tier.fd)))
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


def killed_at(line: int) -> Callable[[FrameType, str, object], object]:
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal seen
        if not frame.f_code.co_filename.endswith("arena.py"):
            return None
        seen += event == "line"
        if seen == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("verb", ["put", "drop"])
def test_a_writer_killed_at_any_line_leaves_a_usable_tier(verb: str, step: int) -> None:
    tier = MemoryTier.create(1 << 20, PAGE)
    for number in range(200):
        tier.put(object_id(number), 0, content(number, 0))

    def work(own: MemoryTier) -> None:
        sys.settrace(killed_at(line))
        if verb == "put":
            own.put(object_id(line + 1000), 0, content(line + 1000, 0))
        else:
            own.drop(survivor)

    kills = 0
    for line in range(1, 400, step):
        survivor = next((object_id(n) for n in range(1400) if tier.get(object_id(n), 0) is not None), object_id(0))
        status = in_a_child(tier, work)
        numbers = [*range(200), *range(1000, 1002 + line)]
        assert all(tier.get(object_id(number), 0) in (content(number, 0), None) for number in numbers[-60:] + numbers[:200])
        assert tier.put(object_id(line + 1000), 0, content(line + 1000, 0)), "a lock outlived its holder"
        assert tier.get(object_id(line + 1000), 0) == content(line + 1000, 0)
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    tier.close()
    assert kills > 25 // step


def test_readers_beside_killed_writers_never_see_wrong_bytes() -> None:
    tier = MemoryTier.create(1 << 20, PAGE)

    def write_for_ever(own: MemoryTier) -> None:
        while True:
            for number in range(300):
                own.put(object_id(number), 0, content(number, 0))

    served = 0
    for _ in range(4):
        pids = []
        for _ in range(2):
            pid = os.fork()
            if not pid:
                write_for_ever(MemoryTier.attach(os.dup(tier.fd)))
            pids.append(pid)
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            for number in range(300):
                data = tier.get(object_id(number), 0)
                assert data in (content(number, 0), None)
                served += data is not None
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert served > 0
    assert all(tier.put(object_id(number), 1, content(number, 1)) for number in range(300))
    tier.close()


def test_threads_share_one_tier(tier: MemoryTier) -> None:
    wrong: list[int] = []

    def work(base: int) -> None:
        for number in range(base, base + 300):
            tier.put(object_id(number), 0, content(number, 0))
            if tier.get(object_id(number), 0) not in (content(number, 0), None):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(base,)) for base in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_set_held_by_another_process_makes_put_give_up_at_once(tier: MemoryTier) -> None:
    other = MemoryTier.attach(os.dup(tier.fd))
    for size_class in other._classes:
        for which in range(size_class.sets):
            assert other._lock(size_class, which)
    assert not tier.put(object_id(1), 0, b"x")
    assert tier.stats().skipped == 1
    other.close()
    assert tier.put(object_id(1), 0, b"x")
