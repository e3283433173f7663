"""The peer of timm's blocks computes what our network computes, and learns as many numbers."""

import pytest
import torch

from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask
from apatite.segment.model import SegmenterConfig
from timm_blocks import TimmMae, TimmSegmenter, block_class, same_size

pytestmark = pytest.mark.filterwarnings("ignore")  # timm's and torchvision's own

ENCODER = ViTConfig(crop=(4, 8, 12), patch=(2, 4, 4), windows_hu=((-1024.0, 3071.0),), dim=24, depth=2, heads=4)
DECODER = TokenDecoderConfig(dim=12, depth=2, heads=2)


@pytest.fixture(autouse=True)
def timm() -> None:
    try:
        block_class()
    except ImportError as error:
        pytest.skip(f"timm: {error}")


@pytest.mark.parametrize("head_multiple", [1, 16])
def test_the_same_logits_from_the_same_weights(head_multiple):
    torch.manual_seed(0)
    config = SegmenterConfig(encoder=ENCODER, decoder=DecoderConfig(mae=DECODER), num_labels=2)
    ours = config.build(AttentionKernel(head_multiple=head_multiple)).eval()
    for parameter in ours.encoder.transformer.blocks.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours.load_state_dict(ours.state_dict(), strict=True)  # zeroes the stored padding again
    image = 300 * torch.randn(2, 1, 4, 8, 12)
    with torch.inference_mode():
        assert torch.allclose(TimmSegmenter(ours).eval()(image), ours(image), atol=1e-4)


def test_the_masked_autoencoder_has_our_size_and_reaches_every_weight():
    task = PretrainTask(
        METHODS["mae"], Shapes(encoder=ENCODER, decoder=DECODER), AttentionKernel(head_multiple=16), seed=0, steps=1
    )
    peer = TimmMae(ENCODER, DECODER)
    assert same_size(task, peer)
    assert not same_size(task, TimmMae(ENCODER, TokenDecoderConfig(dim=24, depth=2, heads=2)))
    torch.nn.init.normal_(peer.hidden_token)
    patches = torch.randn(3, ENCODER.num_tokens, ENCODER.patch_voxels)
    order = torch.randperm(ENCODER.num_tokens).expand(3, -1)
    peer(patches, order[:, :2], order[:, 2:]).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in peer.parameters() if p.requires_grad)
