"""A method's losses are its weighted terms; what is hidden does not reach the encoder."""

from dataclasses import replace

import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.data.batches import Batch
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.patches import take_tokens
from apatite.pretrain.methods import METHODS, PretrainTask


def test_the_papers_ratio():
    assert METHODS["mae"].hidden_ratio == 0.9
    assert METHODS["mae"].terms == {"reconstruct_hidden": 1.0}


def test_losses_are_weighted(task, batch):
    plain = task.losses(batch, 3)["reconstruct_hidden"]
    task.method = replace(task.method, terms={"reconstruct_hidden": 2.5})
    torch.testing.assert_close(task.losses(batch, 3)["reconstruct_hidden"], 2.5 * plain)


def test_visible_and_hidden_follow_the_ratio_and_make_a_whole(task, batch):
    seen = task.look(batch, 0)
    assert seen.visible.shape == (3, 3)  # int(8 · 0.4)
    assert seen.hidden.shape == (3, 5)
    assert torch.equal(torch.cat([seen.visible, seen.hidden], 1).sort(1).values, torch.arange(8).expand(3, -1))
    assert seen.tokens.shape == (3, 3, 12)


def test_what_is_hidden_depends_on_seed_and_step_alone(task, batch):
    first = task.look(batch, 5).visible
    assert torch.equal(task.look(replace(batch, images_hu=batch.images_hu + 1), 5).visible, first)
    assert not all(torch.equal(task.look(batch, step).visible, first) for step in range(6, 10))
    task.seed = 2
    assert not all(torch.equal(task.look(batch, step).visible, first) for step in (5,))


def test_the_share_of_a_process_hides_what_the_whole_batch_hides_there(task, batch):
    whole = task.look(batch, 5)
    share = Batch(case_ids=batch.case_ids[1:], images_hu=batch.images_hu[1:], first_sample=1)
    assert torch.equal(task.look(share, 5).hidden, whole.hidden[1:])


def test_the_encoder_never_sees_hidden_voxels(task, batch):
    seen = task.look(batch, 0)
    is_hidden = torch.zeros(3, 8, dtype=torch.bool).scatter(1, seen.hidden, True)
    voxels = is_hidden.view(3, 1, 2, 2, 2)
    for axis, edge in enumerate(task.encoder.config.patch):
        voxels = voxels.repeat_interleave(edge, dim=2 + axis)
    spoiled = Batch(case_ids=batch.case_ids, images_hu=torch.where(voxels, 777.0, batch.images_hu))
    other = task.look(spoiled, 0)
    assert torch.equal(other.tokens, seen.tokens)
    assert not torch.equal(take_tokens(other.patches, seen.hidden), take_tokens(seen.patches, seen.hidden))


def test_everything_that_learns_is_in_the_module(task):
    assert {name.split(".")[0] for name, _ in task.module.named_parameters()} == {"encoder", "terms"}


@pytest.mark.parametrize("ratio", [0.0, 0.95, 1.0, -1.0])
def test_an_impossible_ratio_is_refused_before_any_step(encoder, ratio):
    method = replace(METHODS["mae"], hidden_ratio=ratio)
    with pytest.raises(ConfigError):
        PretrainTask(method, encoder, TokenDecoderConfig(dim=12, depth=1, heads=2), AttentionKernel(), 0)
