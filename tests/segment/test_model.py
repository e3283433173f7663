"""The segmenter puts each logit at its own voxel and its loss follows only what was looked for."""

from dataclasses import replace

import pytest
import torch

from apatite.core.config import dump
from apatite.data.batches import Batch
from apatite.engine.weights import weights_of
from apatite.io.model_package import write_package
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.vit import ViTConfig
from apatite.segment.model import SegmenterConfig, SegmentTask
from apatite.segment.predict import open_predictor

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


@pytest.mark.parametrize("name", ["mae", "upscale"])
def test_a_package_from_before_there_were_more_decoders_is_read_as_ever(name, card, tmp_path):
    torch.manual_seed(0)
    config = replace(SHAPE, decoder=replace(SHAPE.decoder, name=name), num_labels=1)
    segmenter = config.build().eval()
    architecture = dump(config)
    assert set(architecture["decoder"]) == {"name", "upsampling", "mae", "upscale", "sfpn", "unetr"}
    architecture["decoder"] = {key: architecture["decoder"][key] for key in ("name", "mae", "upscale")}
    write_package(tmp_path / "old", replace(card, architecture=architecture), weights_of(segmenter))
    image = torch.randn(1, 1, 8, 16, 24) * 300
    assert torch.equal(open_predictor(tmp_path / "old", "cpu").network.probability(image), segmenter.probability(image))


@pytest.mark.parametrize("name", ["sfpn", "unetr"])
def test_a_segmenter_of_every_decoder_comes_back_from_its_package(name, card, tmp_path):
    torch.manual_seed(0)
    decoder = DecoderConfig(name=name, upsampling="transposed")
    config = replace(SHAPE, encoder=replace(SHAPE.encoder, depth=3), decoder=decoder, num_labels=1)
    segmenter = config.build().eval()
    write_package(tmp_path / "new", replace(card, architecture=dump(config)), weights_of(segmenter))
    network = open_predictor(tmp_path / "new", "cpu").network
    image = torch.randn(1, 1, 8, 16, 24) * 300
    assert network.config == config
    assert torch.equal(network.probability(image), segmenter.probability(image))


def test_the_decoder_is_given_what_it_asks_for_of_the_same_pass():
    torch.manual_seed(0)
    plain = SHAPE.build()
    image = torch.randn(1, 1, 8, 16, 24) * 300
    assert (plain.encode(image).states, plain.encode(image).image) == ((), None)
    deep = replace(SHAPE, encoder=replace(SHAPE.encoder, depth=4), decoder=DecoderConfig(name="unetr")).build()
    given = deep.encode(image)
    tokens, states = deep.encoder.embed_visible(deep.encoder.patches_of(image), None), []
    for block in deep.encoder.transformer.blocks:
        tokens = block(tokens)
        states.append(tokens)
    assert [torch.equal(a, b) for a, b in zip(given.states, (states[2], states[1], states[0]), strict=True)] == [
        True
    ] * 3
    assert given.image is not None
    torch.testing.assert_close(deep(image), deep.decoder(given))
