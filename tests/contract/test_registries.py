"""What is true of every entry of every table; a new entry is tested by being listed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import yaml

from apatite.core.config import dump, load, override
from apatite.core.rng import derived_seed
from apatite.data import prepare
from apatite.data.batches import Batch
from apatite.data.places import CropPlaces
from apatite.losses.critical import CriticalVoxelLossConfig
from apatite.losses.topology import TopologyLossConfig
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.registry import DECODERS
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.models import MODELS
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.nn.vit import ViTConfig
from apatite.pretrain import recipes as pretrain_recipes
from apatite.pretrain.between import BETWEEN
from apatite.pretrain.branches import BRANCHES, Shapes
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask
from apatite.pretrain.terms import TERMS, TermSettings
from apatite.segment import recipes as segment_recipes
from apatite.topology.diagrams import DiagramConfig

PATCHES = [(4, 4, 4), (8, 8, 8), (16, 16, 16), (4, 8, 16)]
NARROW = TokenDecoderConfig(dim=12, depth=1, heads=2)
WHOLE = TermSettings(
    topology=TopologyLossConfig(pool=1, diagram=DiagramConfig()), critical=CriticalVoxelLossConfig(pool=1)
)
"""Diagrams of whole tiny crops, with all of their points."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_encoder(patch: tuple[int, int, int] = (4, 4, 4), tokens: tuple[int, int, int] = (1, 2, 3)) -> ViTConfig:
    """An encoder whose crop has unequal edges whatever the patch."""
    crop = (patch[0] * tokens[0], patch[1] * tokens[1], patch[2] * tokens[2])
    return ViTConfig(crop=crop, patch=patch, dim=12, depth=1, heads=2)


def make_task(name: str, kernel: AttentionKernel | None = None, patch: tuple[int, int, int] = (4, 4, 4)):
    """A tiny task of a method with the weights of seed 0, at the end of its run: every term counts in full."""
    method = replace(METHODS[name], hidden_ratio=0.6)
    encoder = tiny_encoder(patch, (2, 2, 3))
    # UNETR++ halves three times after its stem.
    unetrpp = None
    if "unetrpp" in method.branches:
        encoder = replace(encoder, crop=(8, 16, 16))
        unetrpp = UNETRPPShape(preset="tiny", stem=(1, 2, 1)).config(encoder.crop, encoder.windows_hu)
    make = partial(
        PretrainTask, method, Shapes(vit=encoder, decoder=NARROW, unetrpp=unetrpp), seed=0, steps=1, settings=WHOLE
    )
    torch.manual_seed(0)
    task = make(AttentionKernel())
    if kernel is None:
        return task
    other = make(kernel)
    other.load_state_dict(task.state_dict())
    return other


def make_batch(task: PretrainTask) -> Batch:
    draw = torch.Generator().manual_seed(derived_seed(0, "contract") % 2**63)
    images = 400 * torch.randn(3, 1, *task.shapes.vit.crop, generator=draw)
    places = CropPlaces(points=torch.rand(3, 9, 3, generator=draw), extent_mm=torch.full((3, 3), 100.0))
    return Batch(case_ids=("a", "b", "c"), images_hu=images, places=places)


def total(task: PretrainTask, batch: Batch, step: int = 1) -> torch.Tensor:
    torch.manual_seed(step)  # as the loop does: dropout is part of a step
    return torch.stack(list(task.losses(batch, step).values())).sum()


@pytest.mark.parametrize("patch", [(4, 4, 4), (2, 4, 8)])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_with_all_it_has(name, patch):
    task = make_task(name, patch=patch)
    total(task, make_batch(task)).backward()
    for parameter_name, parameter in task.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_loss_falls_on_one_batch(name):
    task = make_task(name)
    batch = make_batch(task)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = total(task, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_same_loss_at_the_same_seed_and_step(name):
    losses = [total(make_task(name), make_batch(make_task(name)), step) for step in (1, 1, 2)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


@pytest.mark.parametrize("kernel", [AttentionKernel(head_multiple=16), AttentionKernel(in_fp32=True)])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_computes_the_same_however_attention_is_computed(name, kernel):
    plain, other = make_task(name), make_task(name, kernel)
    batch = make_batch(plain)
    for task in (plain, other):
        optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            total(task, batch).backward()
            optimizer.step()
    torch.testing.assert_close(total(other, batch), total(plain, batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_made_of_known_terms_and_says_where_it_comes_from(name):
    method = METHODS[name]
    assert set(method.branches) <= set(BRANCHES)
    assert {term for weights in method.branches.values() for term in weights} <= set(TERMS)
    assert set(method.between) <= set(BETWEEN)
    assert all(weight.value > 0 for _, weight in method.weights())
    assert 0 < method.hidden_ratio < 1
    assert "20" in method.paper


@pytest.mark.parametrize("name", MODELS)
def test_a_model_fits_both_presets_and_every_patch(name):
    size = MODELS[name]
    for crop in ((16, 48, 48), (32, 96, 96), (64, 64, 64)):
        for patch in PATCHES:
            encoder = size.encoder(crop=crop, patch=patch)
            assert (encoder.crop, encoder.patch, encoder.dim) == (crop, patch, size.dim)
    assert size.decoder.dim < size.dim


@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes(name):
    """With one block of its depth: the others are like it."""
    size = replace(MODELS[name], depth=1)
    encoder = size.encoder(crop=(4, 8, 12), patch=(4, 4, 4)).build()
    assert encoder(encoder.patches_of(torch.zeros(2, 1, 4, 8, 12))).shape == (2, 6, size.dim)


RECIPES: dict[str, Callable[[], Any]] = {
    f"{stage} {name}": recipe
    for stage, table in (
        ("pretrain", pretrain_recipes.RECIPES),
        ("segment", segment_recipes.RECIPES),
        ("prepare", prepare.RECIPES),
    )
    for name, recipe in table.items()
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_written_down_and_read_back_equal(name):
    config = RECIPES[name]()
    assert config == RECIPES[name](), "a recipe returns the same every time"
    assert load(type(config), dump(config)) == config
    assert load(type(config), yaml.safe_load(yaml.safe_dump(dump(config)))) == config
    assert override(config, []) == config


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("prepare")])
def test_what_a_recipe_names_is_in_the_tables(name):
    config = RECIPES[name]()
    assert config.model in MODELS
    assert config.device == "auto"
    assert config.precision is None, "a recipe must not carry what one machine measured"
    assert getattr(config, "method", "mae") in METHODS
    if hasattr(config, "decoder"):
        assert config.decoder.name in DECODERS
    crop = config.crop or (16, 48, 48)
    encoder = MODELS[config.model].encoder(crop=crop, patch=config.patch, windows_hu=config.windows_hu)
    assert encoder.num_tokens > 1


def test_a_recipe_documents_itself():
    assert all(recipe.__doc__ for recipe in RECIPES.values())
