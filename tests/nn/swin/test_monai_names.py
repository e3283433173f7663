"""The names of published weights; the oracle is MONAI's own state, and that of the released code written out."""

import pytest
from monai.networks.nets.swin_unetr import SwinTransformer

from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.monai_names import COMPUTED, from_monai

DEPTHS = (2, 1, 3, 2)


@pytest.fixture(scope="module")
def swin():
    return SwinConfig(crop=(16, 16, 16), windows_hu=((0.0, 1.0),), dim=4, depths=DEPTHS).build()


def test_all_of_monais_names_are_all_of_ours_but_the_norms(swin):
    theirs = SwinTransformer(
        in_chans=1,
        embed_dim=4,
        window_size=(4, 4, 4),
        patch_size=(2, 2, 2),
        depths=DEPTHS,
        num_heads=(4, 4, 4, 4),
        qkv_bias=False,
        patch_norm=True,
    ).state_dict()
    found = {name: from_monai(name, DEPTHS) for name in theirs}
    assert {name for name, ours in found.items() if ours is None} == {name for name in theirs if COMPUTED in name}
    state = swin.state_dict()
    assert {ours for ours in found.values() if ours} == {name for name in state if not name.startswith("norms.")}
    assert all(state[ours].shape == theirs[name].shape for name, ours in found.items() if ours)


def test_smits_names_are_all_of_ours(swin):
    names = [f"patch_embed.{part}.{kind}" for part in ("proj", "norm") for kind in ("weight", "bias")]
    names += [f"norm{stage}.{kind}" for stage in range(4) for kind in ("weight", "bias")]
    for stage, depth in enumerate(DEPTHS):
        names += [f"layers.{stage}.downsample.{part}" for part in ("reduction.weight", "norm.weight", "norm.bias")]
        for place in range(depth):
            block = f"layers.{stage}.blocks.{place}"
            names += [f"{block}.{part}.{kind}" for part in ("norm1", "norm2") for kind in ("weight", "bias")]
            names += [f"{block}.attn.{part}" for part in ("relative_position_bias_table", "qkv.weight")]
            names += [f"{block}.attn.proj.{kind}" for kind in ("weight", "bias")]
            names += [f"{block}.mlp.{part}.{kind}" for part in ("fc1", "fc2") for kind in ("weight", "bias")]
    assert sorted(str(from_monai(name, DEPTHS)) for name in names) == sorted(swin.state_dict())


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("layers1.0.blocks.1.norm1.bias", "blocks.1.attention_norm.bias"),
        ("layers3.0.blocks.0.mlp.linear2.weight", "blocks.3.mlp.2.weight"),
        ("layers.2.blocks.2.attn.proj.weight", "blocks.5.attention.proj.weight"),
        ("layers.2.downsample.norm.bias", "blocks.5.merge.norm.bias"),
        ("layers4.0.downsample.reduction.weight", "blocks.7.merge.reduction.weight"),
        ("norm3.weight", "norms.3.weight"),
    ],
)
def test_blocks_are_counted_through_all_stages(name, ours):
    assert from_monai(name, DEPTHS) == ours


@pytest.mark.parametrize(
    "name",
    [
        "mask_token",
        "head.weight",
        "layers.4.blocks.0.norm1.weight",
        "layers0.0.blocks.0.norm1.weight",
        "layers.1.blocks.1.norm1.weight",
        "layers.0.blocks.0.attn.relative_position_index",
        "layers1c.0.conv1.weight",
        "norm4.weight",
        "module.norm3.weight",
        "patch_embedding.weight",
    ],
)
def test_names_of_others_are_none(name):
    assert from_monai(name, DEPTHS) is None
