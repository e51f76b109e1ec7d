from hypothesis import given
from hypothesis import strategies as st

from headrace.cache.rows import NONE, Rows

ASIDE = 2
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "move", "drop", "correct"]), st.integers(0, 9), st.integers(0, 2)), max_size=60
)


def queued(rows: Rows, queue: int) -> list[int]:
    found, row = [], rows.heads[queue]
    while row != NONE:
        found.append(rows.ids[row])
        row = rows.following(row)
    return found


@given(STEPS)
def test_queues_keep_their_order_and_bytes_whatever_is_moved_or_dropped(steps: list[tuple[str, int, int]]) -> None:
    rows, sizes = Rows(queues=2), dict[int, int]()
    queues: list[list[int]] = [[], [], []]
    for number, (what, ident, queue) in enumerate(steps, 1):
        row = rows.find(ident)
        assert (row == NONE) == (ident not in sizes)
        if what == "correct" and row != NONE:
            rows.correct(row, number, queue)
            sizes[ident] = number
        elif what == "add" and row == NONE:
            rows.push(rows.add(ident, number, queue, 0), queue)
            queues[queue].append(ident)
            sizes[ident] = number
        elif what in ("move", "drop") and row != NONE:
            next(one for one in queues if ident in one).remove(ident)
            if what == "move":
                rows.move(row, queue)
                queues[queue].append(ident)
            else:
                assert rows.drop(row) == sizes.pop(ident)
                assert not rows.holds(row)
    assert [queued(rows, queue) for queue in range(ASIDE)] == queues[:ASIDE]
    assert rows.bytes == [sum(sizes[ident] for ident in queue) for queue in queues]
    assert sum(rows.group_bytes.values()) == sum(sizes.values())
    assert sorted(rows) == sorted(sizes)
    assert len(rows.ids) <= 10, "places of what was dropped are used again"
