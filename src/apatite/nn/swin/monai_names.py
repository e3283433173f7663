"""Where the weights of published Swin encoders go: their names, and ours.

Ours count the blocks of all stages through, so a name is known only with the depths of the stages.

    published                                     ours
    patch_embed.proj, patch_embed.norm            embed.project, embed.norm
    layers3.0.blocks.1.attn.qkv                   blocks.5.attention.qkv                 depths (2, 2, 4, 2)
    layers.2.blocks.1.attn.qkv                    the same, in the original code and in SMIT's
    layers3.0.downsample.reduction                blocks.7.merge.reduction
    norm0 ... norm3                               norms.0 ... norms.3                    SMIT alone

Source: `SwinTransformer` of MONAI (1.6.1) and of the released code of SMIT (The-Veeraraghavan-Lab/SMIT, commit 5d81399,
`models/Trans.py`), which has the names of the original code (microsoft/Swin-Transformer).
"""

import re
from typing import Final

from apatite.nn.swin.config import PerStage

_IN_BLOCK: Final = {
    "norm1": "attention_norm",
    "attn": "attention",
    "norm2": "mlp_norm",
    "mlp.linear1": "mlp.0",
    "mlp.linear2": "mlp.2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}
_EMBEDDING: Final = {"patch_embed.proj": "embed.project", "patch_embed.norm": "embed.norm"}
_STAGE = re.compile(r"(?:layers(?P<monai>[1-4])\.0|layers\.(?P<original>[0-3]))\.(?P<rest>.+)")
_BLOCK = re.compile(r"blocks\.(?P<place>\d+)\.(?P<rest>.+)")
_MERGE = re.compile(r"downsample\.(?P<rest>(?:norm|reduction)\..+)")
_NORM = re.compile(r"norm(?P<stage>[0-3])\.(?P<rest>weight|bias)")
COMPUTED: Final = "relative_position_index"
"""Ends the name of a table that published files hold and that is computed here."""


def from_monai(name: str, depths: PerStage) -> str | None:
    """The name of a `Swin`'s weight, for the name in a published one.

    Args:
        name: In MONAI's `SwinTransformer`, or in the original code's, as SMIT's; without what wraps it, such as
            `module.` or `swinViT.`. The parts of a perceptron may be `linear1` and `linear2` or `fc1` and `fc2`.
        depths: Blocks of the four stages.

    Returns:
        `None` where a `Swin` of these depths has no such weight: names of others, and `COMPUTED`.
    """
    for published, ours in _EMBEDDING.items():
        if name.startswith(f"{published}."):
            return ours + name.removeprefix(published)
    norm = _NORM.fullmatch(name)
    if norm:
        return f"norms.{norm['stage']}.{norm['rest']}"
    stage = _STAGE.fullmatch(name)
    if stage is None:
        return None
    number = int(stage["monai"]) - 1 if stage["monai"] else int(stage["original"])
    return _in_stage(stage["rest"], depths[number], sum(depths[:number]))


def _in_stage(name: str, depth: int, before: int) -> str | None:
    """The same inside a stage of so many blocks, with so many before it."""
    merge = _MERGE.fullmatch(name)
    if merge:
        return f"blocks.{before + depth - 1}.merge.{merge['rest']}"
    block = _BLOCK.fullmatch(name)
    if block is None or int(block["place"]) >= depth or name.endswith(COMPUTED):
        return None
    for published, ours in _IN_BLOCK.items():
        if block["rest"].startswith(f"{published}."):
            return f"blocks.{before + int(block['place'])}.{ours}{block['rest'].removeprefix(published)}"
    return None
