"""The pre-training stage: prepared scans in, an encoder package out."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from apatite.core.commit import commit_bytes
from apatite.core.config import dump, load, read_yaml, write_yaml
from apatite.core.errors import DataError
from apatite.core.registry import choose
from apatite.core.rng import derived_seed
from apatite.core.watch import Watch, unwatched
from apatite.data.augment import IDENTITY
from apatite.data.augmented import Augmented
from apatite.data.batches import Batch, Batches
from apatite.data.sources import crop_of, open_source
from apatite.engine.fit import FitPlan
from apatite.engine.optim import build_optimizer
from apatite.engine.precision import Precision, choose_device, measure_precision
from apatite.engine.run import Pace, TrainingRun
from apatite.engine.weights import weights_of
from apatite.io.model_card import InputSpec, ModelCard, Provenance
from apatite.io.model_package import write_package
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.nn.models import model_size
from apatite.nn.vit import ViTConfig
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.methods import METHODS, Method, PretrainTask
from apatite.pretrain.panel import HealthPanel

SPLITS = ("pretrain", "finetune")
"""What may be learned from without labels. Development and test are never looked at."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What a finished run leaves.

    Attributes:
        package: Folder of the encoder package.
        steps: Optimiser steps.
        cases: Cases it learned from.
        last_row: The last row of the journal, with the health panel.
        seconds_per_step: Of every mix of formats that was timed; empty when the precision was given.
    """

    package: Path
    steps: int
    cases: int
    last_row: dict[str, float]
    seconds_per_step: dict[str, float]


def pretrain(config: PretrainConfig, data: Path, out: Path, *, resume: bool = False, watch: Watch = unwatched) -> Pretrained:
    """Learn an encoder.

    Args:
        config: The run.
        data: A prepared folder.
        out: The run folder; must not exist, unless `resume`.
        resume: Go on in an interrupted run, with the configuration that it was started with.
        watch: Shows progress.

    Raises:
        ConfigError, DataError, ModelError, TrainingError, StorageError: see `core.errors`.
    """
    folder = RunFolder(path=out)
    if resume:
        config = load(PretrainConfig, read_yaml(folder.config), str(folder.config))
    prepared = Prepared.open(data)
    rows = prepared.case_index(*SPLITS)
    if len(rows) == 0:
        raise DataError(
            "no case is marked for pre-training", where=str(data), fix="index with a split, then prepare again", code="EMPTY_SPLIT"
        )
    encoder = encoder_config(config, prepared)
    source = open_source(prepared, rows.tolist(), config.crop)
    draw = Batches(source, range(len(rows)), config.batch, config.seed, labelled=False)
    batches = Augmented(draw, replace(IDENTITY, flip_probability=config.flip_probability), config.seed)
    seconds: dict[str, float] = {}
    if config.precision is None:
        precision, seconds = _measure(config, encoder, batches(0))
        config = replace(config, precision=precision)
    assert config.precision is not None
    config.precision.apply_threads()
    if not resume:
        folder = RunFolder.create(out)
        write_yaml(folder.config, config)
    steps = math.ceil(config.epochs * len(rows) / config.batch)
    task = _task(config, encoder, config.precision)
    optimizer = build_optimizer(task, config.optim)
    plan = FitPlan(steps=steps, seed=config.seed, optim=config.optim, precision=config.precision)
    check_every = max(1, config.check_epochs * len(rows) // config.batch)
    run = TrainingRun(folder, task, optimizer, plan, Pace(save_every_s=config.save_every_s, check_every=check_every))
    panel = HealthPanel(task, prepared, config)
    first = run.resume() if resume else 0
    last: dict[str, float] = {}
    for last in watch(run.rows(batches, panel.check, first), "pre-training", steps - first):
        pass
    commit_bytes(folder.path / "reconstructions.safetensors", panel.pictures())
    _write_encoder(folder.model, config, task, prepared)
    return Pretrained(package=folder.model, steps=steps, cases=len(rows), last_row=last, seconds_per_step=seconds)


def encoder_config(config: PretrainConfig, prepared: Prepared) -> ViTConfig:
    """The encoder of a run on a prepared folder."""
    return model_size(config.model).encoder(crop=crop_of(prepared, config.crop), patch=config.patch, windows_hu=config.windows_hu)


def _method(config: PretrainConfig) -> Method:
    method = choose(METHODS, config.method, "method")
    return method if config.hidden_ratio is None else replace(method, hidden_ratio=config.hidden_ratio)


def _task(config: PretrainConfig, encoder: ViTConfig, precision: Precision) -> PretrainTask:
    torch.manual_seed(derived_seed(config.seed, "weights") % 2**63)
    task = PretrainTask(_method(config), encoder, model_size(config.model).decoder, precision.kernel, config.seed)
    return task.to(precision.device)


def _measure(config: PretrainConfig, encoder: ViTConfig, batch: Batch) -> tuple[Precision, dict[str, float]]:
    """Time a step of this very run in each mix of formats."""

    def make_step(precision: Precision) -> Callable[[], None]:
        task = _task(config, encoder, precision)
        moved = batch.to(precision.device)

        def step() -> None:
            with precision.autocast():
                losses = task.losses(moved, 0)
            torch.stack(list(losses.values())).sum().backward()

        return step

    return measure_precision(choose_device(config.device), make_step)


def _write_encoder(folder: Path, config: PretrainConfig, task: PretrainTask, prepared: Prepared) -> None:
    domains = sorted({prepared.cases[row].domain for row in prepared.case_index(*SPLITS)})
    card = ModelCard(
        kind="encoder",
        architecture=dump(task.encoder.config),
        recipe=config.method,
        input=input_spec(prepared, task.encoder.config),
        label_names={},
        domains={"pretraining": domains, "training": [], "calibration": [], "reference": []},
        provenance=Provenance(
            apatite_version=version("apatite"), seed=config.seed, data_digest=prepared.about["manifest_sha256"], citation=task.method.paper
        ),
    )
    write_package(folder, card, weights_of(task.encoder))


def input_spec(prepared: Prepared, encoder: ViTConfig) -> InputSpec:
    """What a network trained on a prepared folder must be given."""
    spacing = prepared.grid(0).spacing_mm
    return InputSpec(shape=encoder.crop, spacing_mm=spacing, windows_hu=encoder.windows_hu, kind=prepared.kind)
