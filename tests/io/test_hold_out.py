"""Held-out cases: by column and value, and nothing else."""

import pytest

from apatite.core.errors import ConfigError
from apatite.io.case import Case
from apatite.io.hold_out import is_held_out, refuse_strangers

CASE = Case(case_id="a", patient_id="p", image="a.nii.gz", vendor="GE", kernel_class="bone", kernel="BONEPLUS")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), False),
        (("vendor=GE",), True),
        (("vendor=ge",), True),
        (("vendor=Siemens",), False),
        (("kernel_class=soft", "kernel=BonePlus"), True),
        (("kernel_class=soft",), False),
    ],
)
def test_any_rule_that_fits(rules, expected):
    assert is_held_out(CASE, rules) is expected


def test_an_unknown_column_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match="vendor_name") as caught:
        is_held_out(CASE, ("vendor_name=GE",))
    assert "vendor" in caught.value.fix


@pytest.mark.parametrize("rule", ["vendor", "vendor="])
def test_a_rule_without_a_value(rule):
    with pytest.raises(ConfigError, match="names no value"):
        is_held_out(CASE, (rule,))


def test_a_rule_that_fits_no_case_is_no_rule():
    refuse_strangers([CASE], ["vendor=ge", "kernel=BONEPLUS"])
    with pytest.raises(ConfigError, match="no case fits 'vendor=GEE'") as caught:
        refuse_strangers([CASE], ["kernel_class=bone", "vendor=GEE"])
    assert "GE" in caught.value.fix
