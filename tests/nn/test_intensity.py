import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.nn.intensity import Windows


def test_windows_by_hand():
    channels = Windows([(-1000.0, 1000.0), (0.0, 300.0)])(
        torch.tensor([-2000.0, 0.0, 75.0, 130.0, 5000.0]).view(1, 1, 1, 1, 5)
    )
    assert channels[0, 0].flatten().tolist() == pytest.approx([-1, 0, 0.075, 0.13, 1])
    assert channels[0, 1].flatten().tolist() == pytest.approx([-1, -1, -0.5, 130 / 150 - 1, 1])


@pytest.mark.parametrize("windows", [[], [(300.0, 0.0)], [(1.0, 1.0)]])
def test_empty_windows_are_refused(windows):
    with pytest.raises(ConfigError, match="empty"):
        Windows(windows)
