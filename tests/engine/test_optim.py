"""Which parameter learns how fast, and which decays."""

import pytest
import torch
from torch import nn

from apatite.core.errors import ConfigError
from apatite.engine.optim import OptimConfig, build_optimizer, layer_of, set_learning_rate
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import FillingDecoder, TokenDecoderConfig
from apatite.nn.vit import ViTConfig

ENCODER = ViTConfig(crop=(2, 4, 6), patch=(2, 2, 2), dim=12, depth=3, heads=2)


class Model(nn.Module):
    """Encoder of three blocks and a decoder with a learned token."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ENCODER.build()
        self.decoder = FillingDecoder(ENCODER, TokenDecoderConfig(dim=12, depth=3, heads=2), 2, AttentionKernel())


def settings(config: OptimConfig) -> dict[str, tuple[float, float]]:
    """Scale and decay of every parameter by name."""
    model = Model()
    optimizer = build_optimizer(model, config, ENCODER.depth)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(found)
    return found


def test_layer_wise_rates_by_hand():
    found = settings(OptimConfig(layer_decay=0.5))
    scale = {name: value for name, (value, _) in found.items()}
    assert scale["encoder.embed.weight"] == scale["encoder.embed.bias"] == 0.5**4
    for block in range(3):
        names = [name for name in scale if name.startswith(f"encoder.transformer.blocks.{block}.")]
        assert len(names) == 12
        assert {scale[name] for name in names} == {0.5 ** (3 - block)}
    assert scale["encoder.transformer.norm.weight"] == 1.0
    assert {value for name, value in scale.items() if name.startswith("decoder.")} == {1.0}


def test_without_layer_decay_all_learn_alike():
    assert {scale for scale, _ in settings(OptimConfig()).values()} == {1.0}


def test_only_matrices_decay():
    for name, (_, decay) in settings(OptimConfig(weight_decay=0.3)).items():
        is_matrix = name.endswith("weight") and "norm" not in name
        assert decay == (0.3 if is_matrix else 0.0), name


def test_the_hidden_token_does_not_decay():
    assert settings(OptimConfig(weight_decay=0.3))["decoder.hidden_token"] == (1.0, 0.0)


def test_frozen_parameters_are_left_out():
    model = Model()
    model.encoder.requires_grad_(False)
    optimizer = build_optimizer(model, OptimConfig(), ENCODER.depth)
    chosen = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert chosen == {id(parameter) for parameter in model.decoder.parameters()}


def test_a_depth_that_would_raise_upper_rates_is_a_mistake():
    with pytest.raises(AssertionError, match="lies above 0 blocks"):
        build_optimizer(Model(), OptimConfig(layer_decay=0.5))


def test_the_base_rate_keeps_the_scales():
    model = Model()
    optimizer = build_optimizer(model, OptimConfig(layer_decay=0.5), ENCODER.depth)
    for lr in (0.1, 0.2):
        set_learning_rate(optimizer, lr)
    rates = {group["lr_scale"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {scale: pytest.approx(0.2 * scale) for scale in (0.0625, 0.125, 0.25, 0.5, 1.0)}


def test_a_scaled_group_moves_that_much_less():
    """One AdamW step moves a weight by its rate, whatever the gradient."""
    model = Model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, OptimConfig(layer_decay=0.5, weight_decay=0.0), ENCODER.depth)
    set_learning_rate(optimizer, 1e-2)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, scale in (("encoder.embed.weight", 0.0625), ("decoder.decoder.head.weight", 1.0)):
        moved = (before[name] - model.get_parameter(name)).mean().item()
        assert moved == pytest.approx(1e-2 * scale, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("encoder.embed.weight", 0),
        ("encoder.transformer.blocks.0.mlp.0.weight", 1),
        ("encoder.transformer.blocks.11.attention.qkv.bias", 12),
        ("encoder.transformer.norm.bias", 13),
        ("decoder.decoder.transformer.blocks.0.mlp.0.weight", 13),
        ("reconstruct.hidden_token", 13),
    ],
)
def test_layers(name, layer):
    assert layer_of(name, 12) == layer


@pytest.mark.parametrize(
    "values",
    [
        {"lr": 0.0},
        {"layer_decay": 0.0},
        {"layer_decay": 1.5},
        {"warmup_fraction": 1.0},
        {"clip_norm": -1.0},
        {"weight_decay": -0.1},
        {"betas": (0.9, 1.0)},
    ],
)
def test_nonsense_is_refused(values):
    with pytest.raises(ConfigError):
        OptimConfig(**values)


class Positioned(nn.Module):
    """Positions of two axes, which must not shrink, and a matrix, which may."""

    undecayed = ("positions",)

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(5, 4))
        self.linear = nn.Linear(4, 4)


def decays(module: nn.Module) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = build_optimizer(module, OptimConfig(weight_decay=0.3)).param_groups
    return {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}


def test_what_a_module_excepts_does_not_decay_wherever_the_module_stands():
    expected = {"positions": 0.0, "linear.weight": 0.3, "linear.bias": 0.0}
    assert decays(Positioned()) == expected
    assert decays(nn.ModuleDict({"a": nn.Sequential(Positioned())})) == {
        f"a.0.{name}": decay for name, decay in expected.items()
    }


def test_the_encoder_may_have_another_name():
    assert layer_of("branches.vit.encoder.embed.weight", 12, "branches.vit.encoder") == 0
    assert layer_of("branches.vit.encoder.transformer.blocks.3.mlp.0.weight", 12, "branches.vit.encoder") == 4
    assert (
        layer_of("branches.vit.reconstruct.decoder.transformer.blocks.3.mlp.0.weight", 12, "branches.vit.encoder") == 13
    )
    assert layer_of("branches.unetrpp.network.encoder.embed.weight", 12, "branches.vit.encoder") == 13
