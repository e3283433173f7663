"""Choosing by name."""

import pytest

from apatite.core.errors import ConfigError
from apatite.core.registry import choose, nearest

TABLE = {"vitiac_s": 1, "vitiac_m": 2, "swin": 3}


def test_a_known_name_is_looked_up() -> None:
    assert choose(TABLE, "swin", "model") == 3


def test_a_slip_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'swinn'.*did you mean 'swin'"):
        choose(TABLE, "swinn", "model")


def test_a_name_near_nothing_lists_all() -> None:
    assert nearest("qqqq", list(TABLE)) == "choose one of swin, vitiac_m, vitiac_s"
