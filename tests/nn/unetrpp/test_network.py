"""Every preset works on a small crop of unequal edges, learns in every weight, and refuses what it cannot be."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from apatite.core.errors import ConfigError, ModelError
from apatite.core.types import Edges
from apatite.nn.decoders.convolution import Conv
from apatite.nn.unetrpp.attention import PairedAttention
from apatite.nn.unetrpp.block import Block
from apatite.nn.unetrpp.network import UNETRPP, UNETRPPConfig
from apatite.nn.unetrpp.presets import PRESETS

WINDOWS = ((-100.0, 300.0), (0.0, 100.0))
TINY = replace(PRESETS["tiny"], windows_hu=WINDOWS)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_crop(stem: Edges) -> Edges:
    """One, two and one voxels in the last stage."""
    return 8 * stem[0], 16 * stem[1], 8 * stem[2]


def build(config: UNETRPPConfig = TINY, outputs: int = 3, *, deep: bool = True) -> UNETRPP:
    torch.manual_seed(0)
    return config.build(outputs, deep=deep)


def image_hu(config: UNETRPPConfig, batch: int = 2) -> torch.Tensor:
    return 100 + 150 * torch.randn(batch, 1, *config.crop, generator=torch.Generator().manual_seed(1))


def all_outputs(network: UNETRPP, seen: torch.Tensor) -> tuple[torch.Tensor, ...]:
    image = network.windows(seen)
    return network.outputs(image, network.stages(image))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_has_the_maps_it_says_and_learns_in_every_weight(name):
    config = replace(PRESETS[name], crop=small_crop(PRESETS[name].stem), windows_hu=WINDOWS)
    network = build(config)
    for block in (module for module in network.modules() if isinstance(module, Block)):
        nn.init.ones_(block.gamma)
    image = network.windows(image_hu(config))
    stages = network.stages(image)
    assert [tuple(found.shape) for found in stages] == [
        (2, width, *grid) for width, grid in zip(config.widths, config.stages, strict=True)
    ]
    grids, widths = (config.crop, *config.stages), (config.base_width, *config.widths)
    assert [tuple(found.shape) for found in network.decode(image, stages)] == [
        (2, widths[n], *grids[n]) for n in range(3)
    ]
    outputs = network.outputs(image, stages)
    assert [tuple(found.shape) for found in outputs] == [(2, 3, *grids[n]) for n in range(3)]
    torch.stack([found.square().mean() for found in outputs]).sum().backward()
    for parameter, weight in network.named_parameters():
        assert weight.grad is not None, parameter
        assert weight.grad.isfinite().all(), parameter
        assert weight.grad.any(), parameter


def test_without_deep_supervision_there_is_one_head_and_every_weight_is_used():
    network = build(deep=False)
    found = network(image_hu(TINY))
    assert found.shape == (2, 3, *TINY.crop)
    assert len(network.heads) == len(all_outputs(network, image_hu(TINY))) == 1
    found.square().mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_forward_is_the_first_of_the_outputs():
    network = build().eval()
    assert torch.equal(network(image_hu(TINY)), all_outputs(network, image_hu(TINY))[0])


def test_forward_sees_hounsfield_units_through_the_windows():
    network = build().eval()
    seen = image_hu(TINY)
    clipped = seen.clamp(-100, 300)
    assert torch.equal(network(seen), network(clipped))
    assert not torch.equal(network(seen), network(seen.clamp(0, 100)))


def test_each_stage_is_skipped_to_its_own_step_of_the_decoder():
    network = build().eval()
    image = network.windows(image_hu(TINY))
    stages = network.stages(image)
    before = network.decode(image, stages)
    # Finest map, then the first stage's grid, then the second's: a stage reaches its own step and all after it.
    for changed, reached in ((0, (True, True, False)), (1, (True, True, True)), (3, (True, True, True))):
        other = [found + 1.0 * (place == changed) for place, found in enumerate(stages)]
        after = network.decode(image, other)
        assert tuple(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) == reached
    after = network.decode(image + torch.randn_like(image), stages)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, True]


def test_fresh_heads_and_stages_follow_the_public_initialisation():
    network = build(replace(TINY, widths=(32, 32, 32, 32)))
    encoder, decoder = (
        [module for module in part.modules() if isinstance(module, PairedAttention)]
        for part in (network.encoder, network.decoder)
    )
    assert len(encoder) == 4 * TINY.num_blocks
    assert len(decoder) == 3 * TINY.num_blocks
    for attention in encoder:
        assert abs(float(attention.queries_keys_values.weight.detach().std()) - 0.02) < 0.002
        assert not attention.project_keys.bias.any()
    for attention in decoder:
        assert float(attention.queries_keys_values.weight.detach().std()) > 0.08
        assert attention.project_keys.bias.any()


def test_each_stage_summarises_into_as_many_as_the_config_says():
    network = build(replace(TINY, projections=(9, 7, 5, 3), decoder_projection=4))
    for part, wanted in ((network.encoder, [9, 7, 5, 3]), (network.decoder, [4, 4, 4])):
        attentions = [module for module in part.modules() if isinstance(module, PairedAttention)]
        assert [attention.project_keys.out_features for attention in attentions] == wanted


def test_bf16_is_near_single_precision_and_learns():
    network = build().eval()
    seen = image_hu(TINY)
    exact = network(seen)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = all_outputs(network, seen)
        loss = sum((values.float().square().mean() for values in found), torch.zeros(()))
    assert (found[0].float() - exact).abs().mean() < 0.03 * exact.std()
    loss.backward()
    for parameter, weight in network.named_parameters():
        assert weight.grad is not None, parameter
        assert weight.grad.isfinite().all(), parameter


def test_all_its_convolutions_of_three_are_the_sound_ones():
    for module in build().modules():
        if isinstance(module, nn.Conv3d) and module.kernel_size == (3, 3, 3):
            assert isinstance(module, Conv)


def test_evaluation_is_repeatable_and_the_state_is_strict():
    network, other = build().eval(), TINY.build(3, deep=True).eval()
    seen = image_hu(TINY)
    other.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(network(seen), network(seen))
    assert torch.equal(network(seen), other(seen))
    assert not any("windows" in name for name in network.state_dict())


def test_one_sample_is_enough_to_train_on():
    network = build().train()
    all_outputs(network, image_hu(TINY, batch=1))[0].square().mean().backward()
    assert all(value.isfinite().all() for value in network.state_dict().values())
    for weight in network.encoder.parameters():
        assert weight.grad is not None
        assert weight.grad.isfinite().all()


def test_an_empty_crop_is_no_trouble():
    network = build().train()
    image = torch.zeros(2, 2, *TINY.crop)
    sum((found.square().mean() for found in network.outputs(image, network.stages(image))), torch.zeros(())).backward()
    for parameter, weight in network.named_parameters():
        assert weight.grad is not None, parameter
        assert weight.grad.abs().max() < 1e3, parameter


def test_what_must_not_be_decayed_is_named():
    named = {
        f"{prefix}.{name}" for prefix, module in build().named_modules() for name in getattr(module, "undecayed", ())
    }
    wanted = {
        name
        for name, _ in build().named_parameters()
        if name.endswith(("positions", "gamma", "temperature_channels", "temperature_voxels"))
    }
    assert named == wanted
    assert len(named) == 4 * 7 * TINY.num_blocks


def test_any_number_of_windows_is_normalised_in_groups_that_divide():
    three = replace(TINY, windows_hu=(*WINDOWS, (0.0, 1000.0)))
    norms = [module.num_groups for module in build(three).encoder.modules() if isinstance(module, nn.GroupNorm)]
    assert norms == [1, 4, 8, 16]
    assert build(three)(image_hu(three)).isfinite().all()


@pytest.mark.parametrize(
    ("crop", "stem", "fix"),
    [
        ((60, 64, 65), (4, 4, 4), r"multiples of \(32, 32, 32\), for example \(64, 64, 64\)"),
        ((8, 64, 64), (2, 4, 4), r"multiples of \(16, 32, 32\), for example \(16, 64, 64\)"),
        ((16, 32, 32), (2, 4, 4), r"one voxel .* use a crop of \(16, 32, 64\)"),
    ],
)
def test_a_crop_that_cannot_be_is_refused_with_one_that_can(crop, stem, fix):
    with pytest.raises(ConfigError, match=fix):
        UNETRPPConfig(crop=crop, windows_hu=WINDOWS, stem=stem)


def test_grids_halve_exactly():
    config = UNETRPPConfig(crop=(32, 64, 96), windows_hu=WINDOWS, stem=(2, 4, 4))
    assert config.stages[0] == (16, 16, 24)
    for fine, coarse in pairwise(config.stages):
        assert tuple(2 * edge for edge in coarse) == fine
    assert config.num_tokens == (6144, 768, 96, 12)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"widths": (6, 8, 16, 32), "heads": 4}, "multiples of the 4 heads"),
        ({"widths": (5, 8, 16, 32), "heads": 1}, "even"),
        ({"base_width": 0}, "below 1"),
        ({"stem": (0, 1, 1)}, "below 1"),
        ({"windows_hu": ()}, "below 1"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
        ({"attention_dropout": -0.1}, r"\[0, 1\)"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        replace(TINY, **changes)


def test_a_crop_of_other_edges_is_refused_even_with_as_many_voxels():
    with pytest.raises(ModelError, match="8, 24, 16"):
        build()(torch.zeros(1, 1, 8, 24, 16))
