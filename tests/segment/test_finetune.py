"""A fine-tuning run: what it leaves, what it takes over from an encoder, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from apatite.core.config import load, read_yaml
from apatite.core.errors import ConfigError, DataError, ModelError
from apatite.data.augment import IDENTITY, AugmentConfig
from apatite.engine.checkpoint import load_state
from apatite.engine.optim import OptimConfig
from apatite.engine.precision import Precision
from apatite.io.model_package import read_package
from apatite.io.run_folder import RunFolder
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import augment_config, finetune, labelled_rows, segmenter_config
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


def test_which_cases_are_learned_from(head_study, body_study, tiny):
    prepared = head_study.open()
    kept = labelled_rows(prepared, tiny)
    dropped = labelled_rows(prepared, replace(tiny, drop_empty_cases=True))
    assert [prepared.cases[row].split for row in kept] == ["finetune"] * 5
    assert [prepared.cases[row].case_id for row in set(kept) - set(dropped)] == ["head-04"]
    bodies = body_study.open()
    assert len(labelled_rows(bodies, replace(tiny, drop_empty_cases=True))) == 4
    bodies.is_annotated[:2] = False
    assert [bodies.cases[row].case_id for row in labelled_rows(bodies, tiny)] == ["body-2", "body-3"]


def test_no_case_or_no_label_to_learn_from(head_study, tiny, tmp_path, monkeypatch):
    prepared = head_study.open()
    prepared.is_annotated[:] = False
    with pytest.raises(DataError) as caught:
        labelled_rows(prepared, tiny)
    assert caught.value.code == "EMPTY_SPLIT"
    monkeypatch.setattr("apatite.segment.finetune._has_label", lambda *_: False)
    with pytest.raises(DataError) as caught:
        finetune(tiny, head_study.prepared, tmp_path / "run")
    assert (caught.value.code, list(tmp_path.iterdir())) == ("BAD_LABEL", [])


def test_whole_volumes_with_partly_annotated_organs(body_study, tiny, tmp_path):
    config = replace(tiny, crop=(8, 16, 24), augment=AugmentConfig(mirror_pairs=((2, 5),)), steps=4)
    made = finetune(config, body_study.prepared, tmp_path / "run")
    card = read_package(made.package).card
    assert (card.input.kind, card.input.shape, card.input.spacing_mm) == ("volume", (8, 16, 24), (3.0, 3.0, 3.0))
    assert card.label_names == {2: "left organ", 5: "right organ"}
    assert card.domains["training"] == ["real"]
    with pytest.raises(ConfigError, match="need a crop"):
        finetune(replace(config, crop=None), body_study.prepared, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_mirror_pairs_are_label_values(body_study, tiny):
    """The values 2 and 5 are the first and the second plane."""
    prepared = body_study.open()
    config = replace(tiny, augment=AugmentConfig(mirror_pairs=((2, 5),)))
    made = augment_config(config, prepared)
    assert (made.mirror_pairs, made.spacing_mm) == (((1, 2),), (3.0, 3.0, 3.0))
    with pytest.raises(ConfigError) as caught:
        augment_config(replace(tiny, augment=AugmentConfig(mirror_pairs=((1, 2),))), prepared)
    assert caught.value.where == "augment.mirror_pairs"


def test_the_choice_of_precision_is_measured_once_and_kept(head_study, tiny, tmp_path, monkeypatch):
    chosen = Precision(threads=1, head_multiple=16)
    asked = []

    def measure(device, make_step):
        asked.append(device)
        make_step(chosen)()
        return chosen, {"fp32, heads x16": 0.1}

    monkeypatch.setattr("apatite.engine.run.measure_precision", measure)
    config = replace(tiny, precision=None, steps=2, device="cpu")
    made = finetune(config, head_study.prepared, tmp_path / "run")
    assert (made.seconds_per_step, len(asked)) == ({"fp32, heads x16": 0.1}, 1)
    assert load(FinetuneConfig, read_yaml(tmp_path / "run" / "config.yaml")).precision == chosen
    # Weights leave without the padding of this machine.
    shapes = {
        name: tuple(t.shape) for name, t in segmenter_config(tiny, head_study.open()).build().state_dict().items()
    }
    assert {name: weight.shape for name, weight in read_package(made.package).weights.items()} == shapes


class Killed(Exception):
    """What ends a run midway."""


def killed_after(steps):
    def watch(items, stage, total=None):
        for number, item in enumerate(items, start=1):
            yield item
            if number == steps:
                raise Killed

    return watch


def test_a_resumed_run_ends_as_if_it_had_not_stopped(head_study, tiny, make_encoder, tmp_path):
    encoder, config = make_encoder(), replace(tiny, save_every_s=0.0)
    whole = finetune(config, head_study.prepared, tmp_path / "whole", init_from=encoder)
    with pytest.raises(Killed):
        finetune(config, head_study.prepared, tmp_path / "run", init_from=encoder, watch=killed_after(5))
    # What is asked for when resuming does not count: the run has its own configuration, and knows its encoder.
    made = finetune(replace(config, steps=99, seed=4), head_study.prepared, tmp_path / "run", resume=True)
    assert made.best_score == whole.best_score
    one, other = read_package(whole.package), read_package(made.package)
    assert other.digest == one.digest
    assert [(row["step"], row["loss"]) for row in rows_of(tmp_path / "run") if "score" in row] == [
        (row["step"], row["loss"]) for row in rows_of(tmp_path / "whole") if "score" in row
    ]


def test_killed_before_the_first_commit_it_still_begins_with_its_encoder(head_study, tiny, make_encoder, tmp_path):
    encoder = make_encoder()
    whole = finetune(tiny, head_study.prepared, tmp_path / "whole", init_from=encoder)
    with pytest.raises(Killed):
        finetune(tiny, head_study.prepared, tmp_path / "run", init_from=encoder, watch=killed_after(1))
    assert not (tmp_path / "run" / "checkpoints" / "last").exists()
    made = finetune(tiny, head_study.prepared, tmp_path / "run", resume=True)
    assert read_package(made.package).digest == read_package(whole.package).digest


def test_resuming_with_another_beginning_is_refused(head_study, body_study, tiny, make_encoder, tuned):
    with pytest.raises(ConfigError, match="another encoder"):
        finetune(tiny, head_study.prepared, tuned, init_from=make_encoder(), resume=True)
    with pytest.raises(ConfigError, match="another data"):
        finetune(tiny, body_study.prepared, tuned, resume=True)


def test_a_finished_run_can_be_resumed_and_a_folder_is_never_overwritten(head_study, tiny, tuned):
    digest = read_package(tuned / "model").digest
    made = finetune(tiny, head_study.prepared, tuned, resume=True)
    assert (made.last_row, read_package(made.package).digest) == (rows_of(tuned)[-1], digest)
    with pytest.raises(DataError, match="holds a run already"):
        finetune(tiny, head_study.prepared, tuned)
