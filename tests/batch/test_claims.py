"""A case is claimed by one living process; what a dead one left is taken over by one of the others."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from apatite.batch.claims import Desk, others
from apatite.batch.lease import hold


@pytest.fixture
def desks(tmp_path):
    """Two processes at work on one batch, and one that is not."""
    one, two, gone = (Desk(folder=tmp_path, owner=name) for name in ("one", "two", "gone"))
    with hold(one.lease_folder(), "batch"), hold(two.lease_folder(), "batch"):
        yield one, two, gone


def test_one_of_two(desks):
    one, two, _ = desks
    assert one.claim("c")
    assert not two.claim("c")
    assert (one.is_ours("c"), two.is_ours("c")) == (True, False)
    one.release("c")
    assert two.claim("c")


def test_the_claim_of_a_dead_process_is_taken_over_once(desks, tmp_path):
    one, two, gone = desks
    assert gone.claim("c")
    (tmp_path / "cases" / "c" / ".result.part-0123").mkdir()
    (tmp_path / "cases" / "c" / ".result.part-0123" / "half").write_text("")
    assert two.claim("c")
    assert not one.claim("c")
    assert [desk.is_ours("c") for desk in desks] == [False, True, False]
    assert sorted(path.name for path in (tmp_path / "cases" / "c").iterdir()) == ["claim.0", "claim.1"]
    two.release("c")
    assert list((tmp_path / "cases" / "c").iterdir()) == []


def test_names_that_look_like_numbers_of_claims(desks):
    one, two, _ = desks
    assert one.claim("c")
    assert two.claim("c.0")
    assert two.claim("claim.0")
    assert (one.is_ours("c"), two.is_ours("c.0")) == (True, True)


def test_many_at_the_same_time(tmp_path):
    """Of eight that want the case of a dead process, one gets it; again and again."""
    Desk(folder=tmp_path, owner="gone").claim("c")
    for turn in range(3):
        rivals = [Desk(folder=tmp_path, owner=f"desk{turn}{number}") for number in range(8)]
        with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
            for desk in rivals:
                stack.enter_context(hold(desk.lease_folder(), "batch"))
            assert sum(pool.map(lambda desk: desk.claim("c"), rivals)) == 1


def test_who_else_is_at_work(desks, tmp_path):
    one, _, gone = desks
    gone.lease_folder().mkdir()
    assert [path.name for path in others(tmp_path, one.owner)] == ["two"]
    assert [path.name for path in others(tmp_path)] == ["one", "two"]
    assert others(tmp_path / "nowhere") == []
