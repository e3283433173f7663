"""The rules of a teacher as functions of the step alone."""

from dataclasses import fields

import pytest

from apatite.core.errors import ConfigError
from apatite.pretrain.teaching import Teaching, TeachingChanges


def test_momentum_rises_by_the_global_step():
    teaching = Teaching(momentum=0.996)
    assert teaching.momentum_at(0, 1000) == pytest.approx(0.996, abs=1e-15)
    assert teaching.momentum_at(500, 1000) == pytest.approx(0.998)
    assert teaching.momentum_at(1000, 1000) == 1
    values = [teaching.momentum_at(step, 100) for step in range(101)]
    assert values == sorted(values)


def test_the_released_momentum_stays():
    teaching = Teaching(momentum=0.996, momentum_rises=False)
    assert {teaching.momentum_at(step, 1000) for step in (0, 500, 999)} == {0.996}


def test_temperatures_rise_over_their_ramps():
    # 30 of 500 epochs for views; cells wait 30 epochs, then rise over 30, as the released schedule.
    teaching = Teaching(views_ramp=0.06, cells_ramp_begins=0.06, cells_ramp=0.06)
    steps = 5000
    assert [teaching.views_temperature(step, steps) for step in (0, 150, 300, 4999)] == pytest.approx(
        [0.04, 0.055, 0.07, 0.07]
    )
    assert [teaching.cells_temperature(step, steps) for step in (0, 300, 450, 600, 4999)] == pytest.approx(
        [0.04, 0.04, 0.055, 0.07, 0.07]
    )


def test_without_a_ramp_a_temperature_is_there_at_once():
    assert Teaching(views_ramp=0.0).views_temperature(0, 10) == 0.07
    late = Teaching(cells_ramp_begins=0.5, cells_ramp=0.0)
    assert [late.cells_temperature(step, 10) for step in (0, 4, 5)] == [0.04, 0.04, 0.07]


def test_prototypes_learn_after_their_share_and_anchors_come_at_equal_distances():
    teaching = Teaching(frozen_share=0.1, anchor_share=0.25)
    assert [step for step in range(40) if not teaching.learns_prototypes(step, 40)] == [0, 1, 2, 3]
    assert [step for step in range(40) if teaching.is_anchored_after(step, 40)] == [9, 19, 29, 39]
    assert Teaching(frozen_share=0.0).learns_prototypes(0, 40)


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"views_centre_momentum": 1.5},
        {"temperature": (0.0, 0.07)},
        {"student_temperature": 0.0},
        {"views_ramp": 1.5},
        {"cells_ramp_begins": -1.0},
        {"frozen_share": 1.0},
        {"anchor_share": 0.0},
    ],
)
def test_senseless_rules_are_refused(changes):
    with pytest.raises(ConfigError):
        Teaching(**changes)


def test_a_run_changes_what_it_names_and_nothing_else():
    method = Teaching(tap="merged3", drops_paths=True)
    changed = TeachingChanges(drops_paths=False, momentum=0.9).applied_to(method)
    assert changed == Teaching(tap="merged3", drops_paths=False, momentum=0.9)
    assert TeachingChanges().applied_to(method) == method
    assert TeachingChanges().applied_to(None) is None
    with pytest.raises(ConfigError, match="momentum"):
        TeachingChanges(momentum=0.9).applied_to(None)


def test_every_rule_can_be_changed():
    assert [item.name for item in fields(TeachingChanges)] == [item.name for item in fields(Teaching)]
