import numpy as np
import pytest

from apatite.calcium.burden import deployed_cuts, paper_cuts
from apatite.core.errors import ConfigError
from apatite.study.grouping import group_agreement
from apatite.study.intervals import IntervalConfig

QUICK = IntervalConfig(resamples=50)


def test_accuracy_and_confusion_by_hand(make_outcome):
    # Reference 1, 2, 3, 4 mm³ (cuts 1.75, 2.5, 3.25); predicted 1, 3, 3, 1.5 mm³: groups 1, 3, 3, 1.
    cases = [
        make_outcome("a", 2, 0, 0),
        make_outcome("b", 4, 2, 0),
        make_outcome("c", 6, 0, 0),
        make_outcome("d", 3, 0, 5),
    ]
    cuts = paper_cuts(np.array([1.0, 2.0, 3.0, 4.0]))
    found = group_agreement(cases, cuts, QUICK)
    assert found.matrix.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    assert found.accuracy.value == 0.5
    assert found.within_one.value == 0.75


def test_the_paper_leaves_out_cases_without_calcium_and_the_deployed_definition_keeps_them(make_outcome):
    cases = [make_outcome("free", 0, 0, 0), *(make_outcome(f"c{i}", 4 * i, 0, 0) for i in range(1, 5))]
    paper = group_agreement(cases, paper_cuts(np.array([o.reference_mm3 for o in cases])), QUICK)
    deployed = group_agreement(cases, deployed_cuts(np.array([2.0, 4.0, 6.0, 8.0]), np.array([0.5]), 1.0), QUICK)
    assert paper.num_cases == 4
    assert paper.matrix.shape == (4, 4)
    assert deployed.num_cases == 5
    assert deployed.matrix[0, 0] == 1


def test_no_case_with_a_group_is_an_error_with_a_next_step(make_outcome):
    with pytest.raises(ConfigError, match="no case has a burden group"):
        group_agreement([make_outcome("free", 0, 0, 0)], paper_cuts(np.array([1.0, 2.0, 3.0, 4.0])), QUICK)
