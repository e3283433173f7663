"""The segmenter puts each logit at its own voxel and its loss follows only what was looked for."""

import torch

from apatite.data.batches import Batch
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.vit import ViTConfig
from apatite.segment.model import SegmenterConfig, SegmentTask

SHAPE = SegmenterConfig(
    encoder=ViTConfig(crop=(8, 16, 24), patch=(4, 8, 8), dim=24, depth=1, heads=2),
    decoder=DecoderConfig(mae=TokenDecoderConfig(dim=12, depth=1, heads=2)),
    num_labels=3,
)


def batch_of(is_annotated: list[list[bool]]) -> Batch:
    torch.manual_seed(2)
    return Batch(
        case_ids=("a", "b"),
        images_hu=torch.randn(2, 1, 8, 16, 24) * 300,
        targets=(torch.rand(2, 3, 8, 16, 24) > 0.7).float(),
        is_annotated=torch.tensor(is_annotated),
    )


def test_shapes_and_the_range_of_a_probability():
    torch.manual_seed(0)
    segmenter = SHAPE.build()
    image = torch.randn(2, 1, 8, 16, 24) * 500
    assert segmenter(image).shape == (2, 3, 8, 16, 24)
    probability = segmenter.probability(image)
    torch.testing.assert_close(probability, segmenter(image).sigmoid())
    assert not probability.requires_grad


def test_the_kernel_does_not_change_the_function():
    torch.manual_seed(0)
    plain = SHAPE.build()
    padded = SHAPE.build(AttentionKernel(head_multiple=16))
    padded.load_state_dict(plain.state_dict(), strict=True)
    image = torch.randn(1, 1, 8, 16, 24) * 500
    torch.testing.assert_close(padded(image), plain(image), atol=1e-5, rtol=1e-5)


def test_what_was_not_looked_for_has_no_part_in_the_loss():
    torch.manual_seed(0)
    task = SegmentTask(SHAPE.build().eval())
    batch = batch_of([[True, True, False], [True, False, False]])
    losses = task.losses(batch, 0)
    assert set(losses) == {"dice_loss", "cross_entropy"}
    assert batch.targets is not None
    batch.targets[:, 2] = 1 - batch.targets[:, 2]
    batch.targets[1, 1] = 1 - batch.targets[1, 1]
    again = task.losses(batch, 0)
    assert all(torch.equal(losses[name], again[name]) for name in losses)
    batch.targets[0, 1] = 1 - batch.targets[0, 1]
    changed = task.losses(batch, 0)
    assert all(not torch.equal(losses[name], changed[name]) for name in losses)
