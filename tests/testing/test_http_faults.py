"""What a fault strikes, and what it makes of a stream: without IO."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.testing.http_faults import Answer, Corrupt, Cut, Fault, Hang, Meanwhile, Plan, Strike, Tampering, When


def names(plan: Plan[Fault], **request: object) -> list[str]:
    return [fault.name for fault in plan.choose(0.0, **request)]  # type: ignore[arg-type]


def test_a_fault_strikes_what_matches_after_so_many_and_so_often() -> None:
    plan = Plan([Fault("f", Cut(), When(method="GET", path=r"^/b/", skip=1, times=2))])
    hits = [names(plan, method="GET", target="/b/k") for _ in range(5)]
    assert hits == [[], ["f"], ["f"], [], []]
    assert names(plan, method="HEAD", target="/b/k") == []
    assert names(plan, method="GET", target="/c/k") == []


def test_a_fault_may_be_for_ranges_only_and_for_a_time_only() -> None:
    plan = Plan([Fault("f", Cut(), When(ranged=True, times=0, after_s=1, until_s=2))])
    assert [bool(plan.choose(at, ranged=True)) for at in (0.9, 1.0, 1.9, 2.0)] == [False, True, True, False]
    assert not plan.choose(1.5, ranged=False)


def test_chance_is_the_same_for_the_same_seed() -> None:
    def draw(seed: int) -> list[bool]:
        plan = Plan([Fault("f", Answer(), When(times=0, chance=0.5))], seed=seed)
        return [bool(plan.choose(0.0)) for _ in range(64)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert 16 < sum(draw(7)) < 48


def run(tampering: Tampering, chunks: list[bytes]) -> tuple[bytes, list[tuple[int, str]]]:
    out, strikes = bytearray(), []
    for strike in tampering.edge():
        strikes.append((len(out), strike.name))
    for chunk in chunks:
        for step in tampering.feed(chunk):
            if isinstance(step, Strike):
                strikes.append((len(out), step.name))
            else:
                out += step
    for strike in tampering.edge():
        strikes.append((len(out), strike.name))
    return bytes(out), strikes


@given(st.binary(min_size=1, max_size=200), st.data())
def test_strikes_stand_exactly_at_their_byte_however_the_stream_is_cut(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    flip = data.draw(st.integers(0, len(body) - 1))
    edges = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
    chunks = [body[a:b] for a, b in zip([0, *edges], [*edges, len(body)], strict=True)]
    out, strikes = run(Tampering([("hang", Hang(at)), ("flip", Corrupt(flip, 0x01))], length=len(body)), chunks)
    assert sorted(strikes) == sorted([(at, "hang"), (flip, "flip")])
    assert out == body[:flip] + bytes((body[flip] ^ 1,)) + body[flip + 1 :]


def test_a_negative_position_counts_from_the_end() -> None:
    assert run(Tampering([("cut", Cut(-1))], length=10), [bytes(10)])[1] == [(9, "cut")]


def test_a_position_behind_the_end_never_strikes() -> None:
    async def hook() -> None:
        raise AssertionError

    assert run(Tampering([("m", Meanwhile(hook, at=11))], length=10), [bytes(10)])[1] == []
