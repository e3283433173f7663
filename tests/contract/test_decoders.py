"""What is true of every segmentation decoder, for every patch and either way of doubling."""

import pytest
import torch

from apatite.nn.decoders.decoder import Decoder
from apatite.nn.decoders.registry import DECODERS, DecoderConfig
from apatite.nn.decoders.sfpn import SFPNConfig
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.decoders.unetr import UNETRConfig
from apatite.nn.vit import Encoded, ViTConfig
from apatite.segment.model import SegmenterConfig

WAYS = [(name, upsampling) for name in DECODERS for upsampling in ("nearest", "transposed")][1:]
"""Decoder and way of doubling; the MAE decoder doubles nothing, so once is enough."""
PATCHES = [(4, 4, 4), (8, 8, 8), (16, 16, 16), (2, 4, 4), (8, 4, 16), (1, 2, 2), (1, 1, 1)]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def narrow(name: str, upsampling: str) -> DecoderConfig:
    return DecoderConfig(
        name=name,
        upsampling=upsampling,  # pyright: ignore[reportArgumentType]
        mae=TokenDecoderConfig(dim=12, depth=1, heads=2),
        sfpn=SFPNConfig(width=4),
        unetr=UNETRConfig(width=4),
    )


def tiny_encoder(patch: tuple[int, int, int] = (4, 4, 4), tokens: tuple[int, int, int] = (1, 2, 3)) -> ViTConfig:
    """An encoder whose crop has unequal edges whatever the patch; two blocks, three windows."""
    crop = (patch[0] * tokens[0], patch[1] * tokens[1], patch[2] * tokens[2])
    windows = ((-1000.0, 1000.0), (0.0, 300.0), (-100.0, 100.0))
    return ViTConfig(crop=crop, patch=patch, windows_hu=windows, dim=12, depth=2, heads=2)


def encoded(encoder: ViTConfig, decoder: Decoder, batch: int = 2) -> Encoded:
    """What an encoder could say, with gradients."""
    shape = (batch, encoder.num_tokens, encoder.dim)
    states = tuple(torch.randn(shape, requires_grad=True) for _ in decoder.taps)
    image = torch.randn(batch, len(encoder.windows_hu), *encoder.crop) if decoder.sees_image else None
    return Encoded(tokens=torch.randn(shape, requires_grad=True), states=states, image=image)


def build(name: str, upsampling: str, encoder: ViTConfig, labels: int = 3, seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    return narrow(name, upsampling).build(encoder, labels)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize(("name", "upsampling"), WAYS)
def test_a_logit_per_voxel_and_label_made_of_all_there_is(name, upsampling, patch):
    encoder = tiny_encoder(patch)
    decoder = build(name, upsampling, encoder)
    given = encoded(encoder, decoder)
    logits = decoder(given)
    assert logits.shape == (2, 3, *encoder.crop)
    # Random weights on the outputs, so that no symmetry hides a parameter.
    (logits * torch.randn_like(logits)).sum().backward()
    for parameter_name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        # An instance norm takes away whatever the bias before it adds; it learns nothing by right.
        if not _is_bias_before_norm(decoder, parameter_name):
            assert parameter.grad.abs().max() > 1e-4, parameter_name
    for tokens in (given.tokens, *given.states):
        assert tokens.grad is not None
        assert tokens.grad.abs().amax(dim=(0, 2)).min() > 0, "a token has no say"


def _is_bias_before_norm(decoder: torch.nn.Module, name: str) -> bool:
    module, _, kind = name.rpartition(".")
    convolution = (torch.nn.Conv3d, torch.nn.ConvTranspose3d)
    return kind == "bias" and module.startswith("stages.") and isinstance(decoder.get_submodule(module), convolution)


@pytest.mark.parametrize("tokens", [(1, 1, 1), (2, 1, 1), (2, 2, 2), (3, 1, 5)])
@pytest.mark.parametrize("patch", [(4, 4, 4), (2, 4, 8)])
@pytest.mark.parametrize(("name", "upsampling"), WAYS)
def test_a_crop_of_one_patch_is_enough(name, upsampling, patch, tokens):
    encoder = tiny_encoder(patch, tokens)
    decoder = build(name, upsampling, encoder)
    given = encoded(encoder, decoder, batch=1)
    logits = decoder(given)
    assert logits.shape == (1, 3, *encoder.crop)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    assert given.tokens.grad is not None
    assert given.tokens.grad.abs().max() > 1e-4, "what the tokens say is lost"


@pytest.mark.parametrize(("name", "upsampling"), WAYS)
def test_weights_do_not_depend_on_the_crop(name, upsampling):
    small, large = (build(name, upsampling, tiny_encoder(tokens=tokens)) for tokens in ((1, 1, 2), (2, 3, 5)))
    large.load_state_dict(small.state_dict(), strict=True)


@pytest.mark.parametrize(("name", "upsampling"), WAYS)
def test_the_order_of_tokens_and_the_sample_matter(name, upsampling):
    encoder = tiny_encoder(tokens=(2, 3, 5))
    decoder = build(name, upsampling, encoder)
    given = encoded(encoder, decoder)
    logits = decoder(given)
    turned = Encoded(
        tokens=given.tokens.flip(1),
        states=tuple(state.flip(1) for state in given.states),
        image=None if given.image is None else given.image.flip(2, 3, 4),
    )
    assert not torch.allclose(decoder(turned), logits.flip(2, 3, 4), atol=1e-3)
    alone = Encoded(
        tokens=given.tokens[1:],
        states=tuple(state[1:] for state in given.states),
        image=None if given.image is None else given.image[1:],
    )
    torch.testing.assert_close(decoder(alone), logits[1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "upsampling"), WAYS)
def test_the_same_from_the_same_seed_and_another_from_another(name, upsampling):
    encoder = tiny_encoder()
    one, same, other = (build(name, upsampling, encoder, seed=seed) for seed in (0, 0, 1))
    states = [decoder.state_dict() for decoder in (one, same, other)]
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
    assert not all(torch.equal(tensor, states[2][key]) for key, tensor in states[0].items())
    given = encoded(encoder, one)
    assert torch.equal(one(given), same(given))
    other.load_state_dict(one.state_dict(), strict=True)
    assert torch.equal(one.eval()(given), other(given)), "training and evaluation are the same function"


@pytest.mark.parametrize("patch", [(4, 4, 4), (8, 4, 16)])
@pytest.mark.parametrize(("name", "upsampling"), WAYS)
def test_in_bf16_it_is_nearly_the_same(name, upsampling, patch):
    encoder = tiny_encoder(patch)
    decoder = build(name, upsampling, encoder)
    given = encoded(encoder, decoder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = decoder(given)
    assert logits.dtype == torch.bfloat16
    logits.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())
    exact = decoder(given)
    assert (logits.float() - exact).abs().mean() < 0.05 * exact.std() + 0.03


@pytest.mark.parametrize("patch", [(4, 4, 4), (8, 4, 16), (1, 2, 2)])
@pytest.mark.parametrize(("name", "upsampling"), WAYS)
def test_its_maps_can_be_looked_at(name, upsampling, patch):
    encoder = tiny_encoder(patch)
    decoder = build(name, upsampling, encoder)
    given = encoded(encoder, decoder)
    maps = list(decoder.feature_maps(given))
    assert any(found.stride == patch for found in maps)
    for found in maps:
        edges = tuple(-(-edge // stride) for edge, stride in zip(encoder.crop, found.stride, strict=True))
        assert found.values.shape[2:] == edges
    if name != "mae":
        assert [maps[-1].stride, min(found.stride for found in maps)] == [(1, 1, 1)] * 2
        assert torch.equal(decoder.head(maps[-1].values), decoder(given))


@pytest.mark.parametrize(("name", "upsampling"), WAYS)
def test_it_learns_where_a_bright_blob_is(name, upsampling):
    torch.manual_seed(0)
    encoder = ViTConfig(crop=(4, 8, 12), patch=(2, 4, 4), dim=24, depth=2, heads=2)
    segmenter = SegmenterConfig(encoder=encoder, decoder=narrow(name, upsampling)).build()
    image = 20 * torch.randn(2, 1, *encoder.crop)
    is_blob = torch.zeros(2, 1, *encoder.crop)
    is_blob[0, :, 1:3, 2:6, 5:10] = is_blob[1, :, :2, 4:8, 1:4] = 1
    image += 400 * is_blob
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(segmenter(image), is_blob)
        loss.backward()
        optimizer.step()
    found = segmenter.probability(image) > 0.5
    overlap = 2 * (found & (is_blob > 0)).sum() / (found.sum() + is_blob.sum())
    assert overlap > 0.9
