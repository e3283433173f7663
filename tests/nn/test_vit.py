import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.nn.models import VITS, vit_size
from apatite.nn.patches import patchify
from apatite.nn.vit import ViTConfig

ONE_WINDOW = ((-1024.0, 3071.0),)


def test_a_visible_token_is_embedded_with_its_own_position():
    torch.manual_seed(0)
    vit = ViTConfig(crop=(4, 6, 10), patch=(2, 3, 5), dim=12, depth=1, heads=2).build()
    patches = vit.patches_of(torch.randn(2, 1, 4, 6, 10) * 500)
    visible = torch.tensor([[1, 6], [0, 7]])
    embedded = vit.embed_visible(patches, visible)
    everything = vit.embed_visible(patches, None)
    assert torch.allclose(embedded[0, 1], everything[0, 6], atol=1e-6)
    assert torch.allclose(embedded[1, 0], everything[1, 0], atol=1e-6)


def test_hidden_patches_cannot_be_seen():
    torch.manual_seed(0)
    vit = ViTConfig(crop=(4, 6, 10), patch=(2, 3, 5), dim=12, depth=2, heads=2).build()
    visible = torch.tensor([[0, 3, 5]])
    a = torch.randn(1, 1, 4, 6, 10) * 500
    patches = vit.patches_of(a)
    changed = patches.clone()
    changed[:, [1, 2, 4, 6, 7]] = 0.5
    assert torch.equal(vit(patches, visible), vit(changed, visible))


def test_patches_are_windowed_channels():
    vit = ViTConfig(crop=(2, 2, 4), patch=(2, 2, 2), dim=12, depth=1, heads=2).build()
    image = torch.full((1, 1, 2, 2, 4), 150.0)
    patches = vit.patches_of(image)
    assert torch.allclose(patches, patchify(vit.windows(image), (2, 2, 2)))
    assert patches[0, 0, 1].item() == pytest.approx(0.0)  # 150 HU is the middle of 0 ... 300
    assert patches[0, 0, 0].item() == pytest.approx((150 + 1024) / 4095 * 2 - 1)


def test_encoding_gives_what_is_asked_for_and_nothing_else():
    torch.manual_seed(0)
    vit = ViTConfig(crop=(4, 6, 10), patch=(2, 3, 5), dim=12, depth=3, heads=2).build()
    image = torch.randn(2, 1, 4, 6, 10) * 500
    plain = vit.encode(image)
    assert torch.equal(plain.tokens, vit(vit.patches_of(image)))
    assert (plain.states, plain.image) == ((), None)
    full = vit.encode(image, (2,), keeps_image=True)
    assert torch.equal(full.tokens, plain.tokens)
    second = vit.transformer.blocks[1](vit.transformer.blocks[0](vit.embed_visible(vit.patches_of(image), None)))
    assert torch.equal(full.states[0], second)
    assert full.image is not None
    assert torch.equal(full.image, vit.windows(image))


@pytest.mark.parametrize("name", VITS)
@pytest.mark.parametrize("patch", [(4, 4, 4), (8, 8, 8), (16, 16, 16), (4, 8, 16)])
def test_every_size_takes_every_patch(name, patch):
    config = vit_size(name).encoder(patch=patch, crop=(32, 96, 96))
    assert config.num_tokens == 32 * 96 * 96 // (patch[0] * patch[1] * patch[2])


def test_impossible_widths_are_refused():
    with pytest.raises(ConfigError, match="multiple of 6"):
        ViTConfig(dim=100, heads=10)
