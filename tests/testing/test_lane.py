"""The arithmetic of one direction of a link, without time passing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.testing.lane import UNIT_BYTES, Lane


def drain(lane: Lane, now: float, *, until: float = 1e9) -> list[tuple[float, int, bytes]]:
    """Everything that arrives, with the moment at which it does."""
    seen: list[tuple[float, int, bytes]] = []
    while (due := lane.next_at()) is not None and due <= until:
        now = max(now, due)
        seen += [(now, arrival.flow, bytes(arrival.data)) for arrival in lane.advance(now)]
    return seen


def test_a_byte_arrives_after_its_sending_time_and_the_delay() -> None:
    lane = Lane(rate=1000, delay_s=0.5)
    lane.offer(1, b"x" * 100, 10.0)
    assert drain(lane, 10.0) == [(pytest.approx(10.6), 1, b"x" * 100)]


def test_a_backlog_is_sent_at_exactly_the_rate_even_when_woken_late() -> None:
    lane = Lane(rate=1_000_000, delay_s=0.0)
    lane.offer(1, b"x" * 1_000_000, 0.0)
    now = arrived = 0
    while lane.next_at() is not None:
        now += 1
        arrived += sum(len(arrival.data) for arrival in lane.advance(now * 0.013))
        assert arrived <= now * 0.013 * 1_000_000 + UNIT_BYTES
    assert now * 0.013 == pytest.approx(1.0, abs=0.03)


def test_idle_time_is_not_saved_up_as_a_burst() -> None:
    lane = Lane(rate=1000, delay_s=0.0)
    lane.offer(1, b"a" * 100, 0.0)
    drain(lane, 0.0)
    lane.offer(1, b"b" * 1000, 100.0)
    assert drain(lane, 100.0)[-1][0] == pytest.approx(101.0)


def test_a_stalled_process_catches_up_a_little_and_not_all() -> None:
    lane = Lane(rate=1_000_000, delay_s=0.0)
    lane.offer(1, b"x" * 10_000_000, 0.0)
    lane.advance(5.0)
    assert lane.carried_bytes <= 0.05 * 1_000_000 + 2 * UNIT_BYTES


def test_flows_share_the_rate_equally_whatever_they_have_queued() -> None:
    lane = Lane(rate=1_000_000, delay_s=0.0)
    lane.offer(1, b"x" * 3_000_000, 0.0)
    lane.offer(2, b"y" * 300_000, 0.0)
    lane.offer(3, b"z" * 300_000, 0.0)
    ends = {flow: when for when, flow, _ in drain(lane, 0.0)}
    assert ends[2] == pytest.approx(0.9, abs=0.05)
    assert ends[3] == pytest.approx(0.9, abs=0.05)
    assert ends[1] == pytest.approx(3.6, abs=0.05)


def test_without_a_rate_only_the_delay_counts() -> None:
    lane = Lane(rate=0, delay_s=0.25)
    lane.offer(1, b"x" * 10_000_000, 1.0)
    assert {when for when, _, _ in drain(lane, 1.0)} == {1.25}


def test_the_end_of_a_flow_comes_behind_its_bytes() -> None:
    lane = Lane(rate=1000, delay_s=0.1)
    lane.offer(1, b"x" * 100, 0.0)
    lane.offer(1, b"", 0.0)
    assert [data for _, _, data in drain(lane, 0.0)] == [b"x" * 100, b""]


def test_a_dropped_flow_neither_sends_nor_arrives() -> None:
    lane = Lane(rate=1000, delay_s=1.0)
    lane.offer(1, b"x" * 100, 0.0)
    lane.advance(0.0)
    lane.offer(1, b"y" * 100, 0.0)
    lane.offer(2, b"z" * 100, 0.0)
    lane.drop(1)
    assert {flow for _, flow, _ in drain(lane, 0.0)} == {2}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=40_000)), min_size=1, max_size=20),
    st.sampled_from([0.0, 0.01, 0.5]),
    st.integers(0, 99),
)
def test_every_flow_arrives_whole_and_in_order_whatever_is_lost(sent: list[tuple[int, bytes]], loss: float, seed: int) -> None:
    lane = Lane(rate=1_000_000, delay_s=0.02, loss=loss, resend_s=0.04, seed=seed)
    for step, (flow, data) in enumerate(sent):
        lane.offer(flow, data, step * 0.001)
    got = drain(lane, 0.02)
    for flow in range(4):
        assert b"".join(data for _, number, data in got if number == flow) == b"".join(d for f, d in sent if f == flow)
    assert lane.carried_bytes == sum(len(data) for _, data in sent)


def test_a_loss_costs_its_flow_a_resend_and_others_nothing() -> None:
    lane = Lane(rate=0, delay_s=0.02, loss=1.0, resend_s=0.04)
    lane.offer(1, b"x", 0.0)
    assert drain(lane, 0.0)[0][0] == pytest.approx(0.06)
    assert lane.lost_units == 1
