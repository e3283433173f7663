"""The fine-tuning stage: prepared scans with labels in, a segmenter package out."""

from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apatite.core.config import dump, load, read_yaml, write_yaml
from apatite.core.errors import ConfigError
from apatite.core.rng import derived_seed
from apatite.core.watch import Watch, unwatched
from apatite.data.augment import AugmentConfig
from apatite.data.augmented import Augmented
from apatite.data.batches import Batches
from apatite.data.feed import fed, held_on
from apatite.data.sources import open_source
from apatite.engine.fit import FitPlan
from apatite.engine.optim import build_optimizer
from apatite.engine.place import Place, Resume, occupy
from apatite.engine.precision import Precision, carried_over, choose_device
from apatite.engine.run import Pace, TrainingRun, measure_run
from apatite.engine.weights import weights_of
from apatite.io.model_card import InputSpec, ModelCard, Provenance
from apatite.io.model_package import Package, write_package
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.losses.overlap import Sum, as_it_is
from apatite.segment.beginning import (
    Beginning,
    about_beginning,
    began_from,
    read_pretrained,
    refuse_another_beginning,
    refuse_another_intensity,
    refuse_another_swin,
    refuse_another_unetrpp,
    refuse_other_windows,
    rules_for,
)
from apatite.segment.config import FinetuneConfig
from apatite.segment.labelled import labelled_rows
from apatite.segment.model import SegmenterConfig, SegmentTask
from apatite.segment.networks import network_of
from apatite.segment.shape import segmenter_config
from apatite.segment.transfer import Coverage, transfer
from apatite.segment.validate import Validation


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """What a finished run leaves.

    Attributes:
        package: Folder of the segmenter package, with the weights that did best on development.
        cases: Labelled cases it learned from.
        coverage: The table of the weight transfer; `None` from scratch.
        last_row: The last row of the journal.
        best_score: Best soft Dice on development.
        seconds_per_step: Of every mix of formats that was timed; empty when the precision was given.
        is_first: Of the processes that shared the run, the one that wrote it.
    """

    package: Path
    cases: int
    coverage: Coverage | None
    last_row: dict[str, float]
    best_score: float
    seconds_per_step: dict[str, float]
    is_first: bool = True


def finetune(
    config: FinetuneConfig,
    data: Path,
    out: Path,
    *,
    init_from: Path | None = None,
    resume: Resume = False,
    watch: Watch = unwatched,
) -> Finetuned:
    """Learn to segment.

    Several processes started by `torchrun` do one run together; the first of them writes.

    Args:
        config: The run.
        data: A prepared folder with labels.
        out: The run folder; must not hold a run, unless `resume`.
        init_from: A package of what was pre-trained, or a pre-training run folder; from scratch without it. A resumed
            run knows where it began; give it again only if that folder was moved.
        resume: Go on in an interrupted run, with the configuration that it was started with; begin it where there is
            none. `"inexact"` goes on even where this machine rounds differently from the one where it began.
        watch: Shows progress.

    Raises:
        ConfigError, DataError, ModelError, TrainingError, StorageError: see `core.errors`.
        BusyError: another process holds the folder.
        StoppedError: a signal stopped the run; its state is committed.
    """
    with occupy(out, "finetune", resume=resume) as place:
        if place.is_resumed:
            config = load(FinetuneConfig, read_yaml(place.folder.config), str(out))
            init_from = init_from or began_from(out)
        prepared = Prepared.open(data)
        package = None if init_from is None else read_pretrained(init_from)
        if not config.crosses_units:
            refuse_another_intensity(prepared, package)
        about = about_beginning(prepared, init_from, package)
        if place.is_resumed:
            refuse_another_beginning(out, about)
        return _finetune(config, prepared, place, Beginning(package=package, about=about), watch)


def _finetune(config: FinetuneConfig, prepared: Prepared, place: Place, began: Beginning, watch: Watch) -> Finetuned:
    rows = labelled_rows(prepared, config)
    shape = segmenter_config(config, prepared)
    if shape.transformer is not None:
        config = replace(config, patch=shape.transformer.patch)  # the model's own is written down
    if not place.is_resumed:  # a run that was begun goes on as it began
        refuse_other_windows(began.package, shape.windows_hu, crosses_units=config.crosses_units)
        refuse_another_unetrpp(shape.unetrpp, began.package)
        refuse_another_swin(shape.swin, began.package, config.take)
    source = open_source(prepared, rows, config.crop, held_on(config.feed, choose_device(config.device).type))
    draw = Batches(source, config.batch, config.seed, labelled=True, share=place.world.share)
    batches = Augmented(draw, augment_config(config, prepared), config.seed)
    seconds: dict[str, float] = {}
    if config.precision is None:
        precision, seconds = measure_run(config.device, partial(_fresh_task, config, shape), batches(0))
        config = replace(config, precision=place.agree_on(precision))
    elif place.is_inexact and place.is_resumed:
        precision = carried_over(config.precision, choose_device(config.device))
        config = replace(config, precision=place.agree_on(precision))
    assert config.precision is not None
    config.precision.apply_threads()
    task, coverage = _task(config, shape, config.precision, began.package, place.world.sum)
    if place.world.is_first:
        _begin(place, config, began.about)
    optimizer = build_optimizer(task.module, config.optim, shape.encoder_depth)
    plan = FitPlan(steps=config.steps, seed=config.seed, optim=config.optim, precision=config.precision)
    run = TrainingRun(
        place, task, optimizer, plan, Pace(save_every_s=config.save_every_s, check_every=config.check_every)
    )
    check = Validation(task.module, prepared, config, config.precision).check if place.world.is_first else None
    first = run.resume() if place.is_resumed else 0
    trained = run.rows(fed(batches, config.feed, config.steps), check, first)
    for _ in place.watched(watch)(trained, "fine-tuning", config.steps - first):
        pass
    if place.world.is_first:
        run.load_best()
        if not place.folder.model.exists():  # it does when a finished run is resumed
            card = _card(config, shape, prepared, rows, began.package)
            write_package(place.folder.model, card, weights_of(task.module))
    return Finetuned(
        package=place.folder.model,
        cases=len(rows),
        coverage=coverage,
        last_row=run.last_row(),
        best_score=run.best_score,
        seconds_per_step=seconds,
        is_first=place.world.is_first,
    )


def _begin(place: Place, config: FinetuneConfig, about: dict[str, Any]) -> None:
    """What is needed to do the run again; a run exists once its config.yaml does."""
    if not place.is_resumed:
        RunFolder.create(place.folder.path, about)
    if not place.is_resumed or place.is_inexact:
        write_yaml(place.folder.config, config)


def augment_config(config: FinetuneConfig, prepared: Prepared) -> AugmentConfig:
    """The run's augmentation on these voxels; mirror pairs of label values become places among the labels.

    Raises:
        ConfigError: a mirror pair names a label that the data do not have.
    """
    values = prepared.label_values
    pairs = []
    for pair in config.augment.mirror_pairs:
        if not set(pair) <= set(values):
            raise ConfigError(
                f"mirror pair {pair}, but the labels are {values}",
                where="augment.mirror_pairs",
                fix="use label values of the data",
            )
        pairs.append((values.index(pair[0]) + 1, values.index(pair[1]) + 1))
    return replace(config.augment, spacing_mm=prepared.grid(0).spacing_mm, mirror_pairs=tuple(pairs))


def _task(
    config: FinetuneConfig,
    shape: SegmenterConfig,
    precision: Precision,
    package: Package | None,
    add_up: Sum = as_it_is,
) -> tuple[SegmentTask, Coverage | None]:
    """The task with the weights of the seed, whatever the precision: they are drawn without stored padding."""
    torch.manual_seed(derived_seed(config.seed, "weights") % 2**63)
    drawn = shape.build()
    coverage = None
    if package is not None:
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in package.weights.items()}
        coverage = transfer(tensors, drawn, rules_for(package, config.network, config.take), config.min_coverage)
    segmenter = shape.build(precision.kernel)
    segmenter.load_state_dict(drawn.state_dict(), strict=True)
    return SegmentTask(segmenter.to(precision.device), add_up), coverage


def _fresh_task(config: FinetuneConfig, shape: SegmenterConfig, precision: Precision) -> SegmentTask:
    """The task from scratch, to be timed."""
    return _task(config, shape, precision, None)[0]


def _card(
    config: FinetuneConfig, shape: SegmenterConfig, prepared: Prepared, rows: list[int], package: Package | None
) -> ModelCard:
    held_out = set(config.hold_out)
    if package is not None:
        held_out &= set(package.card.held_out)
    return ModelCard(
        kind="segmenter",
        architecture=dump(shape),
        recipe=_recipe(config),
        input=InputSpec(
            shape=shape.crop,
            spacing_mm=prepared.grid(0).spacing_mm,
            windows_hu=shape.windows_hu,
            kind=prepared.kind,
            intensity=prepared.intensity,
        ),
        label_names=dict(prepared.manifest.label_names),
        domains={
            "pretraining": package.card.domains["pretraining"] if package is not None else [],
            "training": sorted({prepared.cases[row].domain for row in rows}),
            "calibration": [],
            "reference": [],
        },
        # What was begun from keeps its licence, its citation and what may be done with it.
        provenance=replace(
            Provenance(apatite_version="", seed=0) if package is None else package.card.provenance,
            apatite_version=version("apatite"),
            seed=config.seed,
            data_digest=prepared.about["manifest_sha256"],
        ),
        held_out=sorted(held_out),
    )


def _recipe(config: FinetuneConfig) -> str:
    """What the network is, in a few words."""
    network = network_of(config.network)
    if network.has_swin:
        return f"{config.model}, decoder of Swin UNETR"
    if network.unetrpp is None:
        return f"{config.model}, {config.decoder.name} decoder"
    vit = f", {config.model}" if network.has_encoder else ""
    return f"{config.network}, UNETR++ {config.unetrpp.preset}{vit}"
