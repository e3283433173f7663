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
from apatite.nn.contrast_head import ContrastConfig
from apatite.nn.decoders.registry import DECODERS
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.models import MODELS, VITS
from apatite.nn.projection import ProjectionConfig
from apatite.nn.swin.config import SwinConfig
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.nn.vit import ViTConfig
from apatite.pretrain import recipes as pretrain_recipes
from apatite.pretrain.between import BETWEEN
from apatite.pretrain.branches import BRANCHES, Shapes
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask
from apatite.pretrain.term import TermSettings
from apatite.pretrain.terms import TERMS
from apatite.segment import recipes as segment_recipes
from apatite.topology.diagrams import DiagramConfig

PATCHES = [(4, 4, 4), (8, 8, 8), (16, 16, 16), (4, 8, 16)]
NARROW = TokenDecoderConfig(dim=12, depth=1, heads=2)
FEW_PROTOTYPES = ProjectionConfig(prototypes=12, hidden=10, dim=6)
FEW_CHANNELS = ContrastConfig(hidden=10, dim=6)
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


SOME = ("smit", "simmim", "dino")
STUDENTS = [name for name, method in METHODS.items() if "student" in method.branches]
TASKS = [*((name, "vit") for name in METHODS), *((name, "swin") for name in STUDENTS)]
"""Every method with a ViT, and those that can with a Swin as well."""


def make_task(
    name: str,
    kernel: AttentionKernel | None = None,
    patch: tuple[int, int, int] = (4, 4, 4),
    network: str = "vit",
):
    """A tiny task of a method with the weights of seed 0, at the end of its run: every term counts in full."""
    method = METHODS[name]
    if method.hiding.ratio is not None:
        method = replace(method, hiding=replace(method.hiding, ratio=0.6))
    # A method that turns its views needs equal edges in the plane.
    tokens = (2, 3, 3) if method.views.turns else (2, 2, 3)
    encoder: ViTConfig | SwinConfig = tiny_encoder(patch, tokens)
    if method.views.turns:
        patch = (patch[0], 4, 4)
        encoder = tiny_encoder(patch, tokens)
    if network == "swin":
        crop = (8 * tokens[0], 8 * tokens[1], 8 * tokens[2])
        encoder = SwinConfig(
            crop=crop,
            patch=(1, 1, 1),
            dim=4,
            depths=(1, 1, 2, 1),
            heads=(2, 2, 2, 2),
            window=(2, 2, 2),
            windows_hu=encoder.windows_hu,
        )
    # UNETR++ halves three times after its stem.
    unetrpp = None
    if "unetrpp" in method.branches:
        encoder = replace(encoder, crop=(8, 16, 16))
        unetrpp = UNETRPPShape(preset="tiny", stem=(1, 2, 1)).config(encoder.crop, encoder.windows_hu)
    make = partial(
        PretrainTask,
        method,
        Shapes(encoder=encoder, decoder=NARROW, unetrpp=unetrpp, projection=FEW_PROTOTYPES, contrast=FEW_CHANNELS),
        seed=0,
        steps=1,
        settings=WHOLE,
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
    encoder, plan = task.shapes.encoder, task.method.views
    images = 400 * torch.randn(3, 1, *plan.parent_of(encoder.crop, encoder.cell), generator=draw)
    places = CropPlaces(points=torch.rand(3, 9, 3, generator=draw), extent_mm=torch.full((3, 3), 100.0))
    return Batch(case_ids=("a", "b", "c"), images_hu=images, places=places)


def total(task: PretrainTask, batch: Batch, step: int = 1) -> torch.Tensor:
    torch.manual_seed(step)  # as the loop does: dropout is part of a step
    return torch.stack(list(task.losses(batch, step).values())).sum()


def learning(task: PretrainTask) -> list[torch.nn.Parameter]:
    return [parameter for parameter in task.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("patch", [(4, 4, 4), (2, 4, 8)])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_with_all_it_has(name, patch):
    learns_with_all_it_has(make_task(name, patch=patch))


@pytest.mark.parametrize("name", STUDENTS)
def test_a_method_learns_with_all_that_a_swin_has(name):
    learns_with_all_it_has(make_task(name, network="swin"))


def learns_with_all_it_has(task: PretrainTask):
    """Every weight has a gradient, but those of a teacher, and those that come after the last thing a term reads."""
    total(task, make_batch(task)).backward()
    for name, parameter in task.named_parameters():
        if name.startswith("teacher."):
            assert parameter.grad is None, name
        elif not is_after_the_last_tap(task, name):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def is_after_the_last_tap(task: PretrainTask, name: str) -> bool:
    """A Swin's norms towards a decoder; and where nothing is reconstructed, what only makes the deepest tokens."""
    encoder = task.shapes.encoder
    reads_deep = "mip" in task.method.branches.get("student", ())
    deepest = (".encoder.transformer.norm.", f".encoder.blocks.{encoder.depth - 1}.merge.")
    is_deepest = "student" in task.branches and not reads_deep and any(part in name for part in deepest)
    return is_deepest or (isinstance(encoder, SwinConfig) and ".encoder.norms." in name)


UNSCALED = [
    (name, network) for name, network in TASKS if not METHODS[name].balances and (network == "vit" or name in SOME)
]
"""Where terms pull alike by scaling, their sum says nothing; a Swin takes time, so that some methods stand for all."""


@pytest.mark.parametrize(("name", "network"), UNSCALED)
def test_a_methods_loss_falls_on_one_batch(name, network):
    task = make_task(name, network=network)
    batch = make_batch(task)
    optimizer = torch.optim.AdamW(learning(task), lr=1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = total(task, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(("name", "network"), TASKS)
def test_a_method_has_the_same_loss_at_the_same_seed_and_step(name, network):
    tasks = [make_task(name, network=network) for _ in range(3)]
    losses = [total(task, make_batch(task), step) for task, step in zip(tasks, (1, 1, 2), strict=True)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


@pytest.mark.parametrize("kernel", [AttentionKernel(head_multiple=16), AttentionKernel(in_fp32=True)])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_computes_the_same_however_attention_is_computed(name, kernel):
    plain, other = make_task(name), make_task(name, kernel)
    batch = make_batch(plain)
    for task in (plain, other):
        optimizer = torch.optim.AdamW(learning(task), lr=1e-3)
        for step in range(3):
            optimizer.zero_grad()
            total(task, batch).backward()
            optimizer.step()
            task.after(step)
    # Batch norms over three samples make rounding larger.
    atol = 2e-4 if "contrast" in METHODS[name].branches.get("student", ()) else 1e-5
    torch.testing.assert_close(total(other, batch), total(plain, batch), rtol=0, atol=atol)


@pytest.mark.parametrize(("name", "network"), [task for task in TASKS if METHODS[task[0]].hiding.ratio is not None])
def test_what_is_hidden_does_not_leak_into_what_a_branch_makes(name, network):
    task = make_task(name, network=network)
    task.eval()
    view = task.view(make_batch(task), 1)
    other = torch.where(view.is_hidden[..., None], torch.randn_like(view.patches), view.patches)
    assert not torch.equal(other, view.patches)
    for branch in task.branches:
        one, two = (task.branch(branch).look(shown) for shown in (view, replace(view, patches=other)))
        assert torch.equal(one.features, two.features)
        for made in ("reconstruction", "image", "points", "tokens"):
            if getattr(one, made) is not None:
                assert torch.equal(getattr(one, made), getattr(two, made)), made


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_made_of_known_terms_and_says_where_it_comes_from(name):
    method = METHODS[name]
    assert set(method.branches) <= set(BRANCHES)
    assert {term for weights in method.branches.values() for term in weights} <= set(TERMS)
    assert set(method.between) <= set(BETWEEN)
    assert all(weight.value > 0 for _, weight in method.weights())
    assert method.hiding.ratio is None or 0 < method.hiding.ratio < 1
    assert "20" in method.paper


@pytest.mark.parametrize("name", VITS)
def test_a_model_fits_both_presets_and_every_patch(name):
    size = VITS[name]
    for crop in ((16, 48, 48), (32, 96, 96), (64, 64, 64)):
        for patch in PATCHES:
            encoder = size.encoder(crop=crop, patch=patch)
            assert (encoder.crop, encoder.patch, encoder.dim) == (crop, patch, size.dim)
    assert size.decoder.dim < size.dim


@pytest.mark.parametrize("name", VITS)
def test_a_model_computes(name):
    """With one block of its depth: the others are like it."""
    size = replace(VITS[name], depth=1)
    encoder = size.encoder(crop=(4, 8, 12), patch=(4, 4, 4)).build()
    assert encoder(encoder.patches_of(torch.zeros(2, 1, 4, 8, 12))).shape == (2, 6, size.dim)


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(VITS)))
def test_a_swin_fits_whole_cells_and_takes_its_own_patch(name):
    for crop in ((32, 48, 64), (96, 96, 96)):
        encoder = MODELS[name].encoder(crop=crop)
        assert (encoder.crop, encoder.patch, encoder.cell) == (crop, (2, 2, 2), (16, 16, 16))
        assert encoder.tokens == tuple(edge // 16 for edge in crop)


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
