"""A method's losses are its weighted terms; what is hidden does not reach the encoder."""

from dataclasses import replace

import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.data.batches import Batch
from apatite.data.hiding import HidingLaw
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS, Method, Weight
from apatite.pretrain.task import PretrainTask


def test_the_papers_ratio():
    assert METHODS["mae"].hiding.ratio == 0.9
    assert dict(METHODS["mae"].weights()) == {"reconstruct_hidden": Weight()}


def test_losses_are_weighted(task, batch):
    plain = task.losses(batch, 3)["reconstruct_hidden"]
    task.method = task.method.reweighted({"reconstruct_hidden": 2.5})
    torch.testing.assert_close(task.losses(batch, 3)["reconstruct_hidden"], 2.5 * plain)


def test_visible_and_hidden_follow_the_ratio_and_make_a_whole(task, batch):
    seen = task.view(batch, 0)
    assert seen.visible.shape == (3, 3)  # int(8 · 0.4)
    assert seen.hidden.shape == (3, 5)
    assert torch.equal(torch.cat([seen.visible, seen.hidden], 1).sort(1).values, torch.arange(8).expand(3, -1))
    assert task.look(batch, 0)["vit"].features.shape == (3, 3, 12)


def test_what_is_hidden_depends_on_seed_and_step_alone(task, batch):
    first = task.view(batch, 5).visible
    assert torch.equal(task.view(replace(batch, images_hu=batch.images_hu + 1), 5).visible, first)
    assert not all(torch.equal(task.view(batch, step).visible, first) for step in range(6, 10))
    task.showing = replace(task.showing, seed=2)
    assert not torch.equal(task.view(batch, 5).visible, first)


def test_the_share_of_a_process_hides_what_the_whole_batch_hides_there(task, batch):
    whole = task.view(batch, 5)
    share = Batch(case_ids=batch.case_ids[1:], images_hu=batch.images_hu[1:], first_sample=1)
    assert torch.equal(task.view(share, 5).hidden, whole.hidden[1:])


def test_the_encoder_never_sees_hidden_voxels(task, batch):
    seen = task.look(batch, 0)["vit"]
    view = seen.view
    is_hidden = torch.zeros(3, 8, dtype=torch.bool).scatter(1, view.hidden, True)
    voxels = is_hidden.view(3, 1, 2, 2, 2)
    for axis, edge in enumerate(task.encoder.config.patch):
        voxels = voxels.repeat_interleave(edge, dim=2 + axis)
    spoiled = Batch(case_ids=batch.case_ids, images_hu=torch.where(voxels, 777.0, batch.images_hu))
    other = task.look(spoiled, 0)["vit"]
    assert torch.equal(other.features, seen.features)
    assert not torch.equal(other.view.hidden_patches(), view.hidden_patches())


def test_everything_that_learns_is_in_the_module(task):
    assert {name.split(".")[0] for name, _ in task.module.named_parameters()} == {"branches"}


def make_task(method: Method, encoder: ViTConfig) -> PretrainTask:
    shapes = Shapes(encoder=encoder, decoder=TokenDecoderConfig(dim=12, depth=1, heads=2))
    return PretrainTask(method, shapes, AttentionKernel(), 0, steps=10)


@pytest.mark.parametrize("ratio", [0.0, 0.95, 1.0, -1.0])
def test_an_impossible_ratio_is_refused_before_any_step(encoder, ratio):
    with pytest.raises(ConfigError):
        make_task(replace(METHODS["mae"], hiding=HidingLaw(ratio=ratio)), encoder)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (Weight(value=2.0), [2.0] * 10),
        (Weight(value=2.0, begin=0.3), [0, 0, 0, 2, 2, 2, 2, 2, 2, 2]),
        (Weight(value=2.0, begin=0.2, ramp=0.4), [0, 0, 0, 0.5, 1, 1.5, 2, 2, 2, 2]),
        (Weight(value=3.0, every=4), [3, 0, 0, 0, 3, 0, 0, 0, 3, 0]),
        (Weight(value=3.0, begin=0.5, every=4), [0, 0, 0, 0, 0, 0, 0, 0, 3, 0]),
    ],
)
def test_a_weight_begins_rises_and_rests(weight, expected):
    assert [weight.at(step, 10) for step in range(10)] == pytest.approx(expected)


@pytest.mark.parametrize(
    "wrong",
    [{"value": -1.0}, {"value": float("nan")}, {"value": float("inf")}, {"begin": 1.0}, {"ramp": 2.0}, {"every": 0}],
)
def test_an_impossible_weight_is_refused(wrong):
    with pytest.raises(ConfigError, match="weights"):
        Weight(**wrong)


def test_other_weights_by_term_and_by_branch():
    changed = METHODS["topo_mae_hybrid"].reweighted(
        {"topology": 0.3, "unetrpp.topology": 0.7, "position_consistency": 0.0}
    )
    weights = dict(changed.weights())
    before = dict(METHODS["topo_mae_hybrid"].weights())
    assert weights["vit.topology"] == replace(before["vit.topology"], value=0.3)
    assert weights["unetrpp.topology"] == replace(before["unetrpp.topology"], value=0.7)
    assert weights["position_consistency"].value == 0
    assert weights["vit.position"] == before["vit.position"]
    assert METHODS["topo_mae_hybrid"].reweighted({}) == METHODS["topo_mae_hybrid"]


@pytest.mark.parametrize("name", ["topolgy", "vitt.topology", "unetrpp.topology"])
def test_a_weight_of_no_term_is_refused(name):
    with pytest.raises(ConfigError, match="has no term"):
        METHODS["topo_mae"].reweighted({name: 1.0})


def test_a_method_says_in_one_line_what_it_is():
    assert METHODS["ibot"].summary.startswith(
        "student: mpd 1, itd 1; 10% to 50% hidden in blocks in 50% of the views; 2 views, 4 local views; read at "
    )
    assert METHODS["smit_twins"].summary.split("; ")[1:3] == ["70% hidden", "2 views, whole cells apart"]
    assert METHODS["dino"].summary.split("; ")[1] == "nothing hidden"
    assert METHODS["rotation"].summary.split("; ")[2] == "turned"
    # No two entries look the same, so that one can be told from the other.
    assert len({method.summary for method in METHODS.values()}) == len(METHODS)
