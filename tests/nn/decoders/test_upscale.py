import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.nn.decoders.upscale import UpscaleConfig, UpscaleDecoder, doubling_plan
from apatite.nn.vit import ViTConfig


@pytest.mark.parametrize(
    ("patch", "plan"),
    [((2, 4, 4), [(1, 2, 2), (2, 2, 2)]), ((8, 2, 1), [(2, 1, 1), (2, 1, 1), (2, 2, 1)]), ((4, 4, 4), [(2, 2, 2)] * 2)],
)
def test_doubling_plan(patch, plan):
    assert doubling_plan(patch) == plan


def test_a_token_reaches_the_voxels_of_its_own_patch():
    torch.manual_seed(0)
    encoder = ViTConfig(crop=(16, 16, 32), patch=(2, 4, 8), dim=12, depth=1, heads=2)
    decoder = UpscaleDecoder(encoder, UpscaleConfig(), 3)
    decoder.stages = torch.nn.ModuleList(torch.nn.Identity() for _ in decoder.stages)
    decoder.head = torch.nn.Identity()
    tokens = torch.zeros(1, encoder.num_tokens, 12)
    tokens[0, 4 * 4 * 2 + 4 * 1 + 3] = 1  # token (2, 1, 3)
    lit = decoder(tokens)[0, 0].nonzero()
    assert lit.min(dim=0).values.tolist() == [4, 4, 24]
    assert lit.max(dim=0).values.tolist() == [5, 7, 31]


def test_patch_edges_that_are_no_powers_of_two_are_refused():
    with pytest.raises(ConfigError, match="powers of two"):
        UpscaleDecoder(ViTConfig(crop=(6, 6, 6), patch=(3, 2, 2), dim=12, depth=1, heads=2), UpscaleConfig(), 1)
