"""A fine-tuning run: what it leaves, what it takes over from an encoder, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from apatite.core.config import load, read_yaml
from apatite.core.errors import ModelError
from apatite.data.augment import IDENTITY
from apatite.engine.checkpoint import load_state
from apatite.engine.optim import OptimConfig
from apatite.engine.precision import Precision
from apatite.io.model_package import read_package
from apatite.io.run_folder import RunFolder
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import finetune
from apatite.segment.predict import open_predictor
from apatite.segment.validate import Validation


def rows_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_from_scratch(head_study, tiny, tuned):
    run = RunFolder(path=tuned)
    assert load(FinetuneConfig, read_yaml(run.config)) == tiny
    scores = {row["step"]: row["score"] for row in rows_of(tuned) if "score" in row}
    assert list(scores) == [2, 5, 7]
    package = read_package(run.model)
    card = package.card
    assert card.label_names == {1: "calcium"}
    assert (card.input.shape, card.input.spacing_mm) == ((8, 16, 24), pytest.approx((1.0, 1.25, 2.5)))
    assert card.domains == {"pretraining": [], "training": ["phantom"], "calibration": [], "reference": []}
    assert card.provenance.data_digest == head_study.open().about["manifest_sha256"]
    best, values = load_state(run.best)
    assert values["score"] == max(scores.values())
    assert scores[values["step"] - 1] == values["score"]
    for name, weight in package.weights.items():
        np.testing.assert_array_equal(weight, best[f"model.{name}"])


def test_the_same_seed_the_same_weights(head_study, tiny, tuned, tmp_path):
    finetune(tiny, head_study.prepared, tmp_path / "again")
    finetune(replace(tiny, seed=1), head_study.prepared, tmp_path / "other")
    digests = [read_package(folder / "model").card.provenance.seed for folder in (tuned, tmp_path / "other")]
    assert digests == [0, 1]
    first, again, other = (
        read_package(folder / "model").weights for folder in (tuned, tmp_path / "again", tmp_path / "other")
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_best_not_last_is_kept(head_study, tiny, tmp_path, monkeypatch):
    """The second check is the best one: its weights are packed, and the journal goes on to the end."""
    seen = {}
    scores = iter([0.2, 0.9, 0.4])

    def check(validation, done):
        seen[done] = {name: t.clone() for name, t in validation.segmenter.state_dict().items()}
        return {"score": next(scores)}

    monkeypatch.setattr(Validation, "check", check)
    made = finetune(tiny, head_study.prepared, tmp_path / "run")
    assert (made.best_score, list(seen)) == (0.9, [3, 6, 8])
    packed = read_package(made.package).weights
    assert all(np.array_equal(packed[name], tensor.numpy()) for name, tensor in seen[6].items())
    assert any(not np.array_equal(packed[name], tensor.numpy()) for name, tensor in seen[8].items())
    last, values = load_state(tmp_path / "run" / "checkpoints" / "last")
    assert (values["step"], values["best_score"]) == (8, 0.9)
    assert torch.equal(last["model.encoder.embed.weight"], seen[8]["encoder.embed.weight"])


def test_without_development_the_last_weights_are_kept(head_study, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Validation, "check", lambda *_: {})
    made = finetune(tiny, head_study.prepared, tmp_path / "run")
    last, _ = load_state(tmp_path / "run" / "checkpoints" / "last")
    packed = read_package(made.package).weights
    assert made.best_score == float("-inf")
    assert all(np.array_equal(packed[name], last[f"model.{name}"]) for name in packed)


def test_it_learns(head_study, tiny, tmp_path):
    optim = OptimConfig(lr=4e-3, warmup_fraction=0.1)
    config = replace(tiny, steps=60, check_every=20, augment=IDENTITY, optim=optim)
    finetune(config, head_study.prepared, tmp_path / "run")
    losses = [row["loss"] for row in rows_of(tmp_path / "run")]
    scores = [row["score"] for row in rows_of(tmp_path / "run") if "score" in row]
    assert losses[-1] < 0.8 * losses[0]
    assert scores[-1] > 1.5 * scores[0]


@pytest.mark.parametrize("multiple", [1, 16])
def test_an_encoder_is_taken_over_whole(head_study, tiny, make_encoder, tmp_path, multiple, monkeypatch):
    encoder = make_encoder()
    before = {}
    monkeypatch.setattr(
        "apatite.segment.finetune.build_optimizer",
        lambda module, config, depth: before.update(module.state_dict()) or stop(),
    )
    config = replace(tiny, precision=Precision(threads=1, head_multiple=multiple))
    with pytest.raises(Stop):
        finetune(config, head_study.prepared, tmp_path / "run", init_from=encoder)
    weights = read_package(encoder).weights
    assert {name.removeprefix("encoder.") for name in before if name.startswith("encoder.")} == set(weights)
    assert all(np.array_equal(before[f"encoder.{name}"], weight) for name, weight in weights.items())


class Stop(Exception):
    """Ends a run where the test has seen enough."""


def stop() -> None:
    raise Stop


def test_the_table_and_the_domains_of_an_encoder(head_study, tiny, make_encoder, tmp_path):
    made = finetune(tiny, head_study.prepared, tmp_path / "run", init_from=make_encoder())
    assert made.coverage is not None
    assert made.coverage.ratio == 1.0
    assert made.coverage.unused == ()
    assert all(row.target == f"encoder.{row.source}" for row in made.coverage.rows)
    domains = read_package(made.package).card.domains
    assert (domains["pretraining"], domains["training"]) == (["phantom", "real"], ["phantom"])


def test_the_embedding_alone_may_be_taken_over(head_study, tiny, make_encoder, tmp_path, monkeypatch):
    encoder, begun = make_encoder(), []
    monkeypatch.setattr(
        "apatite.segment.finetune.build_optimizer",
        lambda module, config, depth: begun.append(dict(module.state_dict())) or stop(),
    )
    for name, init_from in (("scratch", None), ("embedding", encoder)):
        with pytest.raises(Stop):
            finetune(replace(tiny, take="embedding"), head_study.prepared, tmp_path / name, init_from=init_from)
    scratch, tuned = begun
    changed = {name for name in scratch if not torch.equal(scratch[name], tuned[name])}
    assert changed == {"encoder.embed.weight"}  # its bias is zero in both
    assert np.array_equal(tuned["encoder.embed.weight"], read_package(encoder).weights["embed.weight"])


def test_a_run_with_a_conv_stem_is_packed_and_read_again(head_study, tiny, make_encoder, tmp_path):
    config = replace(tiny, stem="conv", steps=2)
    made = finetune(config, head_study.prepared, tmp_path / "run")
    assert read_package(made.package).card.architecture["encoder"]["stem"] == "conv"
    predictor = open_predictor(tmp_path / "run", "cpu")
    assert "embed.stages.0.0.weight" in predictor.network.encoder.state_dict()
    with pytest.raises(ModelError, match="only"):
        finetune(config, head_study.prepared, tmp_path / "other", init_from=make_encoder())


def test_weights_before_training_differ_only_where_pretrained(head_study, tiny, make_encoder, tmp_path, monkeypatch):
    """From scratch and from an encoder begin with the same decoder: only what was pre-trained is compared."""
    begun = []
    monkeypatch.setattr(
        "apatite.segment.finetune.build_optimizer",
        lambda module, config, depth: begun.append(dict(module.state_dict())) or stop(),
    )
    for number, init_from in enumerate((None, make_encoder())):
        with pytest.raises(Stop):
            finetune(tiny, head_study.prepared, tmp_path / f"run{number}", init_from=init_from)
    scratch, tuned = begun
    assert all(torch.equal(scratch[name], tuned[name]) for name in scratch if name.startswith("decoder."))
    assert not torch.equal(scratch["encoder.embed.weight"], tuned["encoder.embed.weight"])


@pytest.mark.parametrize("other", [{"patch": (8, 8, 8)}, {"model": "vitiac-s"}], ids=["patch", "width"])
def test_another_architecture_is_refused_and_nothing_is_written(head_study, tiny, make_encoder, tmp_path, other):
    with pytest.raises(ModelError) as caught:
        finetune(
            replace(tiny, min_coverage=1.0), head_study.prepared, tmp_path / "run", init_from=make_encoder(**other)
        )
    assert caught.value.code == "MODEL_SHAPE"
    assert "shape differs" in caught.value.what
    assert list(tmp_path.iterdir()) == []


def test_a_segmenter_is_no_encoder(head_study, tiny, tuned, tmp_path):
    with pytest.raises(ModelError, match="not an encoder"):
        finetune(tiny, head_study.prepared, tmp_path / "run", init_from=tuned)
    assert list(tmp_path.iterdir()) == []
