"""A ViT's states lie on the stages of UNETR++ at the right place, and change nothing until something was learned."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from apatite.nn.decoders.unetr import quarter_depths
from apatite.nn.hybrid import (
    NoEncoder,
    Resampling,
    StateMaps,
    UNETRPPAlone,
    UNETRPPOnStates,
    UNETRPPWithStates,
    axis_weights,
)
from apatite.nn.unetrpp.presets import PRESETS
from apatite.nn.vit import Encoded, ViTConfig

WINDOWS = ((-1000.0, 1000.0), (0.0, 300.0))
TINY = replace(PRESETS["tiny"], crop=(8, 16, 24), windows_hu=WINDOWS)
VIT = ViTConfig(crop=(8, 16, 24), patch=(4, 8, 8), windows_hu=WINDOWS, dim=12, depth=4, heads=2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def states_of(vit: ViTConfig, batch: int = 2) -> Encoded:
    """What a ViT could say, with gradients."""
    shape = (batch, vit.num_tokens, vit.dim)
    states = tuple(torch.randn(shape, requires_grad=True) for _ in quarter_depths(vit.depth))
    image = torch.randn(batch, len(vit.windows_hu), *vit.crop)
    return Encoded(tokens=torch.randn(shape, requires_grad=True), states=states, image=image)


@pytest.mark.parametrize(("have", "want"), [(1, 5), (2, 8), (3, 7), (5, 5), (4, 6)])
def test_finer_axes_are_interpolated_as_torch_does(have, want):
    values = torch.randn(2, have)
    expected = F.interpolate(values[None], size=want, mode="linear", align_corners=False)[0]
    torch.testing.assert_close(values @ axis_weights(have, want).T, expected)


@pytest.mark.parametrize(("have", "want"), [(6, 1), (8, 2), (9, 3)])
def test_coarser_axes_are_means_as_torch_has_them(have, want):
    values = torch.randn(2, have)
    torch.testing.assert_close(values @ axis_weights(have, want).T, F.avg_pool1d(values[None], have // want)[0])


def test_an_element_that_two_share_is_split():
    expected = torch.tensor([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    torch.testing.assert_close(axis_weights(3, 2), expected)


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_what_is_constant_stays_so_and_so_do_slopes_and_means(have, want):
    weights = axis_weights(have, want).double()
    assert weights.shape == (want, have)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(want, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(weights, weights.flip(0, 1), atol=1e-5, rtol=0)
    if want < have:
        torch.testing.assert_close(weights.sum(dim=0), torch.full((have,), want / have).double(), atol=1e-5, rtol=0)
        return
    # Away from the borders a slope is read where it is: at the centres of the wanted elements.
    slope = (torch.arange(have) + 0.5) / have
    centres = (torch.arange(want) + 0.5) / want
    inside = (centres >= slope[0]) & (centres <= slope[-1])
    torch.testing.assert_close((weights @ slope.double())[inside], centres.double()[inside], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("have", "want"), [((2, 3, 5), (4, 9, 10)), ((4, 6, 10), (2, 3, 5)), ((2, 6, 3), (4, 2, 9)), ((3, 4, 5), (3, 4, 5))]
)
def test_every_axis_goes_its_own_way(have, want):
    features = torch.randn(2, 3, *have)
    finer = tuple(max(pair) for pair in zip(have, want, strict=True))
    pooled = F.adaptive_avg_pool3d(features, tuple(min(pair) for pair in zip(have, want, strict=True)))
    assert all(edge % other == 0 for edge, other in zip(finer, want, strict=True))
    expected = F.interpolate(pooled, size=want, mode="trilinear", align_corners=False)
    torch.testing.assert_close(Resampling(have, want)(features), expected)


PAIRS = [
    ((16, 16, 16), (2, 4, 4), (1, 2, 4)),
    ((4, 4, 4), (4, 4, 4), (1, 2, 3)),
    ((8, 8, 8), (1, 4, 4), (2, 1, 2)),
    ((16, 8, 4), (2, 4, 1), (1, 1, 4)),
    ((2, 6, 5), (1, 3, 5), (1, 1, 2)),
]
"""Patch and stem, and how often eight stems fit into the crop; of the last pair neither grid divides the other."""


@pytest.mark.parametrize(("patch", "stem", "times"), PAIRS)
def test_a_map_for_every_stage_whatever_the_patch_and_the_stem(patch, stem, times):
    crop = tuple(8 * edge * count for edge, count in zip(stem, times, strict=True))
    unetrpp = replace(TINY, crop=crop, stem=stem)
    vit = replace(VIT, crop=crop, patch=patch)
    maps = StateMaps(vit, unetrpp, starts_at_zero=False)(states_of(vit))
    assert [tuple(one.shape) for one in maps] == [
        (2, width, *grid) for width, grid in zip(unetrpp.widths, unetrpp.stages, strict=True)
    ]


@pytest.mark.parametrize("place", [(0, 1, 2), (1, 0, 0), (1, 1, 1)])
def test_what_a_token_says_stays_at_its_place(place):
    """A token unlike all others: in every stage the maps differ most where its patch lies."""
    torch.manual_seed(0)
    vit, unetrpp = replace(VIT, patch=(4, 4, 8)), TINY
    maps = StateMaps(vit, unetrpp, starts_at_zero=False)
    given = states_of(vit, batch=1)
    depth, height, width = place
    token = (depth * vit.tokens[1] + height) * vit.tokens[2] + width
    other = Encoded(
        tokens=given.tokens + 9 * F.one_hot(torch.tensor(token), vit.num_tokens)[None, :, None] * torch.randn(12),
        states=tuple(
            state + 9 * F.one_hot(torch.tensor(token), vit.num_tokens)[None, :, None] * torch.randn(12)
            for state in given.states
        ),
        image=given.image,
    )
    for told, untold, grid in zip(maps(other), maps(given), unetrpp.stages, strict=True):
        change = (told - untold).abs().sum(dim=(0, 1))
        found = torch.unravel_index(change.argmax(), change.shape)
        for axis, tokens in enumerate(vit.tokens):
            centre = (found[axis].item() + 0.5) / grid[axis] * tokens
            # An element may cover several tokens, of which the token is one.
            reach = max(1.0, tokens / grid[axis]) / 2
            assert abs(centre - (place[axis] + 0.5)) <= reach + 0.5 * (tokens > grid[axis])


def test_shallow_states_go_to_fine_stages():
    given = states_of(VIT)
    maps = StateMaps(VIT, TINY, starts_at_zero=False)(given)
    deep_first = [*given.states, given.tokens]
    for stage, expected in enumerate((2, 1, 0, 3)):
        gradients = torch.autograd.grad(maps[stage].square().sum(), deep_first, allow_unused=True, retain_graph=True)
        assert [place for place, gradient in enumerate(gradients) if gradient is not None] == [expected]
    assert quarter_depths(VIT.depth) == (3, 2, 1)


LEGAL = {
    "synapse": (16, 32, 64),
    "acdc": (8, 32, 64),
    "lung": (8, 64, 32),
    "brats": (32, 32, 64),
    "small": (32, 64, 32),
    "tiny": (8, 16, 24),
}
"""Small crops of unequal edges that suit the stems."""


@pytest.mark.parametrize("preset", PRESETS)
def test_the_hybrid_begins_as_unetrpp_alone_bit_for_bit(preset):
    """The widths are the preset's; one block per stage is like three."""
    shape = replace(PRESETS[preset], crop=LEGAL[preset], windows_hu=WINDOWS, num_blocks=1)
    vit = replace(VIT, crop=shape.crop, patch=(4, 8, 8))
    torch.manual_seed(1)
    alone, hybrid = UNETRPPAlone(shape, None, 2, deep=True), UNETRPPWithStates(shape, vit, 2, deep=True)
    hybrid.unetrpp.load_state_dict(alone.unetrpp.state_dict(), strict=True)
    given = states_of(vit)
    for is_training in (True, False):
        made = []
        for network in (alone, hybrid):
            torch.manual_seed(2)  # of dropout
            made.append(network.train(is_training).outputs(given))
        assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))
    for one, other in zip(hybrid.unetrpp.buffers(), alone.unetrpp.buffers(), strict=True):
        assert torch.equal(one, other), "norms saw the same"


def test_the_hybrid_learns_from_the_states_from_the_first_step_on():
    """The projections move first: while they are nothing, no gradient reaches the ViT."""
    torch.manual_seed(0)
    hybrid = UNETRPPWithStates(TINY, VIT, 2, deep=True)
    for expected in (False, True):
        given = states_of(VIT)
        sum(output.square().sum() for output in hybrid.outputs(given)).backward()
        for projection in hybrid.states.projections:
            assert projection.weight.grad.abs().max() > 0
        reached = [state.grad is not None and bool(state.grad.abs().max() > 0) for state in given.states]
        assert reached == [expected] * 3
        torch.optim.SGD(hybrid.parameters(), lr=1e-3).step()


def test_on_states_everything_learns_and_nothing_of_the_encoder_is_there():
    torch.manual_seed(0)
    network = UNETRPPOnStates(TINY, VIT, 2, deep=True)
    whole = UNETRPPAlone(TINY, None, 2, deep=True)
    names = {name for name, _ in network.unetrpp.named_parameters()}
    assert names == {name for name, _ in whole.unetrpp.named_parameters() if not name.startswith("encoder.")}
    given = states_of(VIT)
    outputs = network.outputs(given)
    assert [tuple(output.shape[2:]) for output in outputs] == [TINY.crop, *TINY.stages[:2]]
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    for state in (given.tokens, *given.states):
        assert state.grad.abs().amax(dim=(0, 2)).min() > 0, "a token has no say"


def test_the_same_weights_on_states_as_the_whole_gives_on_its_own_stages():
    """The half without the encoder decodes as the whole does."""
    torch.manual_seed(0)
    half, whole = UNETRPPOnStates(TINY, VIT, 2, deep=True).eval(), UNETRPPAlone(TINY, None, 2, deep=True).eval()
    half.unetrpp.load_state_dict(
        {name: tensor for name, tensor in whole.unetrpp.state_dict().items() if not name.startswith("encoder.")}
    )
    image = states_of(VIT).image
    assert image is not None
    stages = whole.unetrpp.stages(image)
    for one, other in zip(half.unetrpp.outputs(image, stages), whole.unetrpp.outputs(image, stages), strict=True):
        assert torch.equal(one, other)


def test_without_deep_supervision_there_is_one_head():
    for kind in (UNETRPPAlone, UNETRPPWithStates, UNETRPPOnStates):
        network = kind(TINY, VIT, 3, deep=False)
        assert len(network.unetrpp.heads) == 1
        assert [tuple(output.shape) for output in network.outputs(states_of(VIT))] == [(2, 3, *TINY.crop)]


def test_all_heads_say_that_labels_are_rare():
    network = UNETRPPAlone(TINY, None, 3, deep=True)
    for head in network.unetrpp.heads:
        assert head.bias is not None
        torch.testing.assert_close(head.bias.sigmoid(), torch.full((3,), 0.018), atol=1e-6, rtol=0)


def test_where_there_is_no_encoder_the_image_goes_on():
    given = NoEncoder(WINDOWS).encode(torch.full((2, 1, 8, 16, 24), 150.0))
    assert given.image is not None
    assert given.image.shape == (2, 2, 8, 16, 24)
    torch.testing.assert_close(given.image[0, :, 0, 0, 0], torch.tensor([0.15, 0.0]))
    assert (given.states, given.tokens.shape) == ((), (2, 0, 0))
    assert list(NoEncoder(WINDOWS).parameters()) == []


@pytest.mark.parametrize("kind", [UNETRPPAlone, UNETRPPWithStates, UNETRPPOnStates])
def test_in_bf16_it_is_nearly_the_same(kind):
    torch.manual_seed(0)
    network = kind(TINY, VIT, 2, deep=True).eval()
    given = states_of(VIT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(given)
    logits.float().square().mean().backward()
    exact = network(given)
    assert (logits.float() - exact).abs().mean() < 0.05 * exact.std() + 0.03
