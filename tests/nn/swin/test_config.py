import itertools

import pytest

from apatite.core.errors import ConfigError
from apatite.nn.swin.config import CONVENTIONS, SwinConfig

WINDOW = ((0.0, 1.0),)
CORNERS = set(itertools.product((0, 1), repeat=3))


def test_a_cell_is_eight_patches_and_the_last_map_half_as_fine():
    config = SwinConfig(crop=(16, 64, 144), patch=(1, 2, 3), windows_hu=WINDOW, dim=6, heads=(1, 2, 3, 6))
    assert config.cell == (8, 16, 24)
    assert config.tokens == (2, 4, 6)
    assert config.num_tokens == 48
    assert config.deep_cell == (16, 32, 48)
    assert config.deep_grid_of(config.crop) == (1, 2, 3)
    assert (config.embed_dim, config.tap_dim, config.deep_dim) == (6, 48, 96)
    assert config.map_dims == (6, 12, 24, 48, 96)


def test_smit_has_216_cells_and_27_deep_elements():
    config = SwinConfig(windows_hu=WINDOW)
    assert (config.cell, config.num_tokens, config.depth) == ((16, 16, 16), 216, 10)
    assert config.deep_grid_of((96, 96, 96)) == (3, 3, 3)
    assert (config.tap_dim, config.deep_dim) == (384, 768)


def test_an_odd_number_of_cells_is_rounded_up():
    config = SwinConfig(windows_hu=WINDOW)
    assert config.grid_of((48, 16, 80)) == (3, 1, 5)
    assert config.deep_grid_of((48, 16, 80)) == (2, 1, 3)


def test_a_crop_that_is_no_whole_number_of_cells_is_refused_with_a_near_one():
    with pytest.raises(ConfigError, match=r"\(40, 96, 96\)") as caught:
        SwinConfig(crop=(40, 96, 96), windows_hu=WINDOW)
    assert "(32, 96, 96)" in str(caught.value.fix)
    with pytest.raises(ConfigError, match="whole cells"):
        SwinConfig(windows_hu=WINDOW).grid_of((8, 16, 16))


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": (5, 4, 4, 4)},
        {"depths": (2, 0, 4, 2)},
        {"window": (4, 0, 4)},
        {"patch": (0, 2, 2)},
        {"drop_path": 1.0},
        {"mlp_ratio": 0},
        {"windows_hu": ()},
    ],
)
def test_senseless_shapes_are_refused(changes):
    with pytest.raises(ConfigError):
        SwinConfig(**({"windows_hu": WINDOW} | changes))


def test_every_neighbour_comes_once_but_in_what_monai_was_until_1_4():
    """Project-MONAI/MONAI, issue 8284: (0, 1, 0) and (0, 0, 1) came twice, (1, 1, 0) and (0, 1, 1) never."""
    assert sorted(CONVENTIONS["smit"].neighbours) == sorted(CORNERS)
    assert sorted(CONVENTIONS["monai"].neighbours) == sorted(CORNERS)
    twice = CONVENTIONS["monai-1.4"].neighbours
    assert len(twice) == 8
    assert CORNERS - set(twice) == {(1, 1, 0), (0, 1, 1)}
    assert twice.count((0, 1, 0)) == twice.count((0, 0, 1)) == 2


def test_the_orders_are_those_of_the_public_code():
    """`PatchMerging.forward` of SMIT (commit 5d81399), and of MONAI 1.6.1, from x0 to x7."""
    smit, monai = CONVENTIONS["smit"].neighbours, CONVENTIONS["monai"].neighbours
    assert smit[:5] == monai[:5] == ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0))
    assert smit[5:] == ((0, 1, 1), (1, 0, 1), (1, 1, 1))
    assert monai[5:] == ((1, 0, 1), (0, 1, 1), (1, 1, 1))
