"""Stems: shapes for any patch, nothing crosses a patch's faces, names and sizes stay what they were."""

import pytest
import torch
from torch import nn

from apatite.core.config import dump, load
from apatite.nn.models import model_size
from apatite.nn.stem import STEMS, ConvStem, halving_plan
from apatite.nn.vit import ViTConfig

SMALL = {"crop": (4, 6, 10), "patch": (2, 3, 5), "dim": 12, "depth": 1, "heads": 2}


@pytest.mark.parametrize("patch", [(1, 1, 1), (2, 3, 5), (1, 4, 16), (8, 8, 8), (7, 1, 2)])
def test_any_patch_becomes_one_token(patch):
    stem = ConvStem(patch, 3, 24)
    rows = torch.randn(2, 5, 3 * patch[0] * patch[1] * patch[2])
    assert stem(rows).shape == (2, 5, 24)


def test_the_plan_halves_each_edge_until_one_is_left():
    assert halving_plan((1, 3, 8)) == [(1, 2, 2), (1, 2, 2), (1, 1, 2)]
    assert halving_plan((1, 1, 1)) == []


def test_a_stage_is_a_padded_convolution_of_each_patch_alone():
    """Oracle: the same layers on one patch that was cut out of the volume by hand."""
    torch.manual_seed(0)
    vit = ViTConfig(**SMALL, stem="conv").build()
    image = torch.randn(1, 1, 4, 6, 10) * 300
    cut = vit.windows(image)[:, :, 2:4, 0:3, 5:10]  # depth 1, height 0, width 1: token 1 * 4 + 0 * 2 + 1
    for stage in vit.embed.stages:
        cut = stage(cut)
    by_hand = vit.embed.project(cut.flatten(1))
    torch.testing.assert_close(vit.embed(vit.patches_of(image))[:, 5], by_hand)


@pytest.mark.parametrize("stem", STEMS)
def test_no_voxel_reaches_the_token_of_another_patch(stem):
    torch.manual_seed(1)
    vit = ViTConfig(**SMALL, stem=stem).build()
    image = torch.randn(1, 1, 4, 6, 10) * 300
    image.requires_grad_()
    vit.embed(vit.patches_of(image))[0, 3].sum().backward()
    assert image.grad is not None
    is_reached = image.grad[0, 0] != 0
    # Token 3 is depth 0, height 1, width 1; what lies outside the windows has no gradient.
    assert is_reached[0:2, 3:6, 5:10].any()
    is_reached[0:2, 3:6, 5:10] = False
    assert not is_reached.any()


def test_hidden_patches_stay_hidden_from_the_conv_stem():
    torch.manual_seed(2)
    vit = ViTConfig(**SMALL, stem="conv").build()
    patches, visible = vit.patches_of(torch.randn(1, 1, 4, 6, 10) * 300), torch.tensor([[0, 3, 5]])
    changed = patches.clone()
    changed[:, [1, 2, 4, 6, 7]] = 0.5
    assert torch.equal(vit(patches, visible), vit(changed, visible))
    torch.testing.assert_close(vit.embed_visible(patches, visible), vit.embed_visible(patches, None)[:, [0, 3, 5]])


def test_the_linear_stem_is_what_it_was():
    vit = model_size("vitiac-xs").encoder(crop=(16, 32, 32), patch=(8, 8, 8)).build()
    assert isinstance(vit.embed, nn.Linear)
    assert [tuple(p.shape) for name, p in vit.named_parameters() if name.startswith("embed.")] == [(96, 1024), (96,)]


def test_the_conv_stem_has_the_widths_of_the_plan():
    vit = model_size("vitiac-xs").encoder(crop=(16, 32, 32), patch=(8, 8, 8), stem="conv").build()
    shapes = {name: tuple(p.shape) for name, p in vit.embed.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "stages.0.0.weight": (24, 2, 3, 3, 3),
        "stages.1.0.weight": (48, 24, 3, 3, 3),
        "stages.2.0.weight": (96, 48, 3, 3, 3),
        "project.weight": (96, 96),
    }


def test_a_card_without_a_stem_means_linear():
    written = dump(ViTConfig(**SMALL, stem="conv"))
    assert load(ViTConfig, written, "card").stem == "conv"
    del written["stem"]
    assert load(ViTConfig, written, "card").stem == "linear"
