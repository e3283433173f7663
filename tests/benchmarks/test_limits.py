"""The roofline against published counts and against tables computed apart from it."""

import pytest

from apatite.nn.attention import AttentionKernel
from apatite.nn.models import model_size
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask
from limits import Shape, bytes_saved, counts, floor_cpu, floor_gpu, flops_train, parameters, vitiac


@pytest.mark.parametrize(("size", "millions"), [("S", 10), ("M", 40), ("L", 157)])
def test_parameters_are_the_published_ones(size, millions):
    # Jin et al. 2025, at patches of 8 voxels; published without decimals.
    assert parameters(vitiac(size, 512)) / 1e6 == pytest.approx(millions, rel=0.025)


def test_parameters_are_those_of_our_network():
    size = model_size("vitiac-s")
    encoder = size.encoder(crop=(16, 24, 32), patch=(8, 8, 8), windows_hu=((0.0, 1.0),))
    task = PretrainTask(METHODS["mae"], Shapes(encoder=encoder, decoder=size.decoder), AttentionKernel(), 0, steps=1)
    assert parameters(vitiac("S", 512)) == sum(weight.numel() for weight in task.parameters())


def test_hiding_saves_what_was_published_for_video():
    # Feichtenhofer et al. 2022: ViT-L, 1568 tokens, a decoder of 4 blocks of width 512: 7.7 times fewer operations.
    shape = Shape(
        dim=1024, depth=24, heads=16, decoder_dim=512, decoder_depth=4, decoder_heads=16, patch_values=2 * 16 * 16 * 3
    )
    hidden, all_seen = counts(shape, 1568), counts(shape, 1568, hidden_ratio=0)
    assert all_seen.flops / hidden.flops == pytest.approx(7.7, rel=0.03)


@pytest.mark.parametrize(
    ("size", "tokens", "linear_and_scores", "train", "exps"),
    [
        ("S", 1024, (1.7 + 2.8, 0.1, 4.0), 26, 0.20),
        ("S", 4096, (6.8 + 11.3, 1.9, 64.4), 254, 3.27),
        ("M", 2048, None, None, 0.82),
        ("L", 8192, (217.4 + 362.4, 31.0, 1030.8), 4928, 13.08),
    ],
)
def test_operations_in_billions(size, tokens, linear_and_scores, train, exps):
    count = counts(vitiac(size), tokens)
    assert 2 * count.scores / 1e9 == pytest.approx(exps, rel=0.03)
    if linear_and_scores:
        linear, encoder, decoder = linear_and_scores
        assert count.linear / 1e9 == pytest.approx(linear, rel=0.03)
        assert count.encoder_attention / 1e9 == pytest.approx(encoder, rel=0.03, abs=0.05)
        assert count.decoder_attention / 1e9 == pytest.approx(decoder, rel=0.01)
        assert flops_train(count) / 1e9 == pytest.approx(train, rel=0.01)


@pytest.mark.parametrize(
    ("size", "tokens", "milliseconds"),
    [("S", 1024, 0.091), ("S", 4096, 1.00), ("S", 8192, 3.69), ("M", 4096, 1.15), ("L", 1024, 0.35), ("L", 8192, 6.91)],
)
def test_floor_of_a_gpu(size, tokens, milliseconds):
    assert 1e3 * floor_gpu(counts(vitiac(size), tokens)) == pytest.approx(milliseconds, rel=0.02)


def test_memory_with_and_without_the_scores():
    count = counts(vitiac("S"), 8192)
    assert bytes_saved(count, 2) / 2**30 == pytest.approx(0.65, abs=0.01)
    assert bytes_saved(count, 2, score_copies=1) / 2**30 == pytest.approx(12.8, abs=0.1)
    assert bytes_saved(count, 4, score_copies=2) / 2**30 == pytest.approx(50.0, abs=0.5)


def test_floor_of_a_cpu_by_hand():
    # One block everywhere, 10 tokens of which 4 are visible.
    shape = Shape(dim=12, depth=1, heads=2, decoder_dim=6, decoder_depth=1, decoder_heads=1, patch_values=8)
    count = counts(shape, 10, visible=4)
    linear = 24 * 4 * 144 + 24 * 10 * 36 + 2 * 4 * 8 * 12 + 2 * 4 * 12 * 6 + 2 * 6 * 6 * 8
    attention, scores = 4 * 16 * 12 + 4 * 100 * 6, 2 * 16 + 100
    assert (count.linear, count.attention, count.scores) == (linear, attention, scores)
    assert floor_cpu(count, 100, 1e9, 10) == pytest.approx(3 * linear / 100 + 3.5 * attention / 100 + 2 * scores / 10)
    slow_memory = 3 * 24 * 4 * (4 * 12 + 10 * 6) / 0.5
    assert floor_cpu(count, 1e12, 0.5, 1e12) == pytest.approx(slow_memory, rel=1e-6)
    assert floor_cpu(count, 100, 1e9, 10, train=False) == pytest.approx((linear + attention) / 100 + scores / 10)
