import itertools

import pytest

from apatite.study.sweep.clock import StepClock
from apatite.study.sweep.estimate import START_S, expected_s
from apatite.study.sweep.expand import rows_of
from apatite.study.sweep.grid import grid_of
from apatite.study.sweep.record import Record
from apatite.study.sweep.run import Limit


def train(path, first, last, pace_s=3.0, stops_at=None):
    """Steps of three seconds each, by a clock that stands still otherwise."""
    time = itertools.count()
    clock = StepClock(path=path, now=lambda: now[0])
    now = [float(next(time))]
    for row in clock(({"step": step} for step in range(first, last)), "training"):
        now[0] += pace_s
        if stops_at is not None and row["step"] == stops_at:
            break
    return StepClock(path=path).total()


def test_seconds_add_up_over_pieces(tmp_path):
    # The last step's own time is noted when the loop asks for the next one.
    assert train(tmp_path / "clock.jsonl", 0, 10) == (10, 30.0)
    assert train(tmp_path / "clock.jsonl", 10, 20) == (20, 60.0)


def test_what_is_done_twice_counts_once(tmp_path):
    """Killed at step 10; the state that was kept is that of step 4."""
    path = tmp_path / "clock.jsonl"
    train(path, 0, 10)
    assert StepClock(path=path).spent_by(4) == pytest.approx(12.0, abs=3.0)
    before = StepClock(path=path).spent_by(4)
    assert train(path, 4, 10) == (10, pytest.approx(before + 18.0))


def test_a_torn_note_counts_for_none_and_a_new_run_for_nothing(tmp_path):
    path = tmp_path / "clock.jsonl"
    assert StepClock(path=path).total() == (0, 0.0)
    train(path, 0, 10)
    with path.open("a") as file:
        file.write('{"step": 11, "sec')
    assert StepClock(path=path).total() == (10, 30.0)


def test_a_steps_seconds_leave_out_the_look_after_the_last_one(tmp_path):
    """Ten steps of three seconds; after the last one a look of twenty, before its row is handed on."""
    now = [0.0]
    clock = StepClock(path=tmp_path / "clock.jsonl", now=lambda: now[0])
    assert clock.step_s() == 0.0

    def rows():
        for step in range(10):
            now[0] += 3.0 + 20.0 * (step == 9)
            yield {"step": step}

    assert len(list(clock(rows(), "pre-training"))) == 10
    assert (clock.total(), clock.step_s()) == ((10, 50.0), 3.0)


def test_what_is_no_training_is_not_timed(tmp_path):
    clock = StepClock(path=tmp_path / "clock.jsonl")
    assert list(clock(["case a", "case b"], "predicting")) == ["case a", "case b"]
    assert not clock.path.exists()


def grid(*blocks):
    return grid_of({"blocks": list(blocks), "minutes": {"pretrain": 1, "vit": 2}}, "made")


def done(row, **seconds):
    return Record(
        name=row.name, kind=row.kind, tier="own", axes=dict(row.axes), steps=1, seconds=seconds, num_parameters=1
    )


def test_estimates_are_the_grids_until_rows_are_measured():
    rows = rows_of(grid({"axes": {"patch": [4, 8], "seed": [0, 1, 2], "init": ["scratch", "mae"]}}))
    first = rows["vit-xs-p4-mae-scratch-nall-s0-perfect"]
    second, other = (rows[f"vit-xs-p{patch}-mae-mae-nall-s1-perfect"] for patch in (4, 8))
    assert expected_s(second, rows, {}) == START_S + 120
    # Rows of the same network take the same; others of the kind are corrected by the same factor.
    measured = {first.name: done(first, finetune=50.0, calibrate=6.0, evaluate=4.0)}
    assert expected_s(second, rows, measured) == START_S + 60
    assert expected_s(other, rows, measured) == START_S + 60
    third = rows["vit-xs-p4-mae-mae-nall-s0-perfect"]
    # What pre-training took before is no part of a row's own time.
    measured |= {third.name: done(third, pretrain=1000.0, finetune=80.0)}
    assert expected_s(second, rows, measured) == START_S + 70
    assert expected_s(rows["pretrain-mae-xs-p4-s1"], rows, measured) == START_S + 60


def test_an_equal_time_is_expected_to_take_as_long_as_what_it_equals():
    rows = rows_of(grid({"axes": {"init": ["scratch-equal-time"]}}))
    row = rows["vit-xs-p4-mae-scratch-equal-time-nall-s0-perfect"]
    encoder, scratch = (rows[name] for name in row.needs)
    measured = {encoder.name: done(encoder, pretrain=30.0), scratch.name: done(scratch, finetune=50.0, evaluate=5.0)}
    assert expected_s(row, rows, measured) == START_S + 85


def test_a_row_fits_or_is_longer_than_the_limit_and_has_half_of_it():
    now = [100.0]
    limit = Limit(total_s=60.0, begun=100.0, now=lambda: now[0])
    assert limit.fits(60.0) and limit.fits(1000.0)
    now[0] = 125.0
    assert limit.fits(35.0) and not limit.fits(36.0) and limit.fits(1000.0)
    now[0] = 131.0
    assert limit.fits(29.0) and not limit.fits(1000.0)
    assert Limit(total_s=None).fits(1e9)
