"""Each case is begun once; one that dies once more; one that dies twice never again."""

from hypothesis import given
from hypothesis import strategies as st

from apatite.batch.attempt import Death, Item
from apatite.batch.quarantine import Queue

A, B, C = (Item(case_id=name, value=None) for name in "abc")
OOM, KILLED, LATE = (Death(code=code, elapsed_s=1.5) for code in ("OOM", "WORKER_KILLED", "DEADLINE"))


def take(queue: Queue, in_flight: int = 0) -> Item | None:
    item = queue.next(in_flight)
    if item is not None:
        queue.begin(item)
    return item


def test_what_ran_out_of_memory_is_tried_again_alone_and_last():
    queue = Queue([A, B, C])
    assert take(queue) is A
    queue.ended(A)
    assert queue.bury(A, OOM) is None
    assert take(queue) is B
    assert take(queue, 1) is C
    assert take(queue, 2) is None
    assert take(queue, 1) is None
    assert take(queue, 0) is A
    queue.add(B)
    assert take(queue, 1) is None, "nothing is begun beside it"
    queue.ended(A)
    assert take(queue, 0) is B


def test_what_was_late_is_tried_again_beside_others():
    queue = Queue([A, B])
    assert take(queue) is A
    queue.ended(A)
    assert queue.bury(A, LATE) is None
    assert take(queue, 0) is B
    assert take(queue, 1) is A


def test_the_second_death_is_named_by_what_happened_then():
    queue = Queue([A])
    take(queue)
    queue.ended(A)
    queue.bury(A, LATE)
    take(queue)
    queue.ended(A)
    row = queue.bury(A, KILLED)
    assert (row.code, row.attempts, row.where, row.elapsed_s) == ("WORKER_KILLED", 2, "a", 1.5)
    assert row.what
    assert row.fix
    assert len(queue) == 0


@given(
    st.lists(st.lists(st.sampled_from([None, OOM, KILLED, LATE]), min_size=2, max_size=2), max_size=12),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_every_case_ends_once_whatever_happens(fates, hands, order):
    items = [Item(case_id=f"c{number}", value=fate) for number, fate in enumerate(fates)]
    queue, busy, ended, begun = Queue(items), [], [], {}
    while queue or busy:
        item = queue.next(len(busy)) if len(busy) < hands else None
        if item is not None:
            begun[item.name] = queue.begin(item)
            busy.append(item)
            continue
        item = busy.pop(order.randrange(len(busy)))
        queue.ended(item)
        fate = item.value[begun[item.name] - 1]
        if fate is None or queue.bury(item, fate) is not None:
            ended.append(item.name)
    assert sorted(ended) == sorted(item.name for item in items)
    for item in items:
        assert begun[item.name] == (1 if item.value[0] is None else 2)
