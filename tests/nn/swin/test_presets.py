"""Counts of parameters: what is known of published encoders, to the last one."""

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import nn

from apatite.nn.swin.presets import SWINS


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "parameters", "millions"),
    [("swin-smit", 8_763_784, 8.76), ("swin-smit-2025", 10_573_408, 10.57), ("swin-heart", 12_363_840, 12.36)],
)
def test_parameters_of_smit_and_its_successors(name, parameters, millions):
    """The release's 8.76 M and the later ones' 10.57 and 12.36 M follow from their configurations alone."""
    with torch.device("meta"):
        count = _count(SWINS[name].encoder().build())
    assert count == parameters
    assert round(count / 1e6, 2) == millions


def test_two_thirds_of_smit_lie_in_stage_4():
    """Its two blocks, their merging and the norm of its map: 67.5 %."""
    with torch.device("meta"):
        swin = SWINS["swin-smit"].encoder().build()
    stage4 = sum(map(_count, swin.blocks[8:])) + _count(swin.norms[3])
    assert stage4 == 5_915_576
    assert round(100 * stage4 / _count(swin), 1) == 67.5


def test_monais_encoder_has_as_many_parameters_as_monais():
    with torch.device("meta"):
        ours, theirs = SWINS["swin-unetr"].encoder().build(), nn.Module()
    # MONAI reads its stochastic depths out of a tensor, which one without memory does not allow.
    theirs = SwinUNETR(in_channels=1, out_channels=2, feature_size=48).swinViT
    assert _count(ours) == _count(theirs) == 8_062_002


def test_the_small_one_is_small():
    with torch.device("meta"):
        swin = SWINS["swin-xs"].encoder().build()
    assert _count(swin) < 2.5e6
    assert all(block.shifted == (place % 2 == 1) for place, block in enumerate(swin.blocks))
