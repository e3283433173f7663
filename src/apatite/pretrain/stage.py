"""The pre-training stage: prepared scans in, a package of the networks out."""

import math
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch

from apatite.core.commit import commit_bytes
from apatite.core.config import load, read_yaml, write_yaml
from apatite.core.errors import ConfigError, DataError
from apatite.core.rng import derived_seed
from apatite.core.share import Share
from apatite.core.watch import Watch, unwatched
from apatite.data.augment import IDENTITY
from apatite.data.augmented import Augmented
from apatite.data.batches import Batches
from apatite.data.feed import fed, held_on
from apatite.data.sources import open_source
from apatite.engine.distributed import ALONE, World, unshared
from apatite.engine.fit import FitPlan
from apatite.engine.optim import build_optimizer
from apatite.engine.place import Place, Resume, occupy
from apatite.engine.precision import Precision, carried_over, choose_device
from apatite.engine.run import Pace, TrainingRun, measure_run
from apatite.io.model_card import InputSpec, ModelCard, Provenance
from apatite.io.model_package import write_package
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.nn.attention import AttentionKernel
from apatite.nn.swin.config import SwinConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.branches import Shapes
from apatite.pretrain.collapse import collapse_warning
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.learned import learned_rows
from apatite.pretrain.packaged import packaged
from apatite.pretrain.panel import HealthPanel
from apatite.pretrain.shapes import method_of, parent_edges, shapes_of
from apatite.pretrain.task import STUDENT, PretrainTask
from apatite.pretrain.teaching import Teaching
from apatite.pretrain.term import TermSettings
from apatite.topology.backends import settled

_RENAMED: Final = (
    ("model.encoder.", "model.branches.vit.encoder."),
    ("model.terms.reconstruct_hidden.head.", "model.branches.vit.reconstruct."),
)


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What a finished run leaves.

    Attributes:
        package: Folder of the model package, of kind `encoder`, `swin` or `hybrid`.
        steps: Optimiser steps.
        cases: Cases it learned from.
        last_row: The last row of the journal, with the health panel.
        seconds_per_step: Of every mix of formats that was timed; empty when the precision was given.
        is_first: Of the processes that shared the run, the one that wrote it.
        warning: Why what was learned is of no use; `None` where nothing says so.
    """

    package: Path
    steps: int
    cases: int
    last_row: dict[str, float]
    seconds_per_step: dict[str, float]
    is_first: bool = True
    warning: str | None = None


def pretrain(
    config: PretrainConfig,
    data: Path,
    out: Path,
    *,
    resume: Resume = False,
    watch: Watch = unwatched,
) -> Pretrained:
    """Learn an encoder.

    Several processes started by `torchrun` do one run together; the first of them writes.

    Args:
        config: The run.
        data: A prepared folder.
        out: The run folder; must not hold a run, unless `resume`.
        resume: Go on in an interrupted run, with the configuration that it was started with; begin it where there is
            none. `"inexact"` goes on even where this machine rounds differently from the one where it began.
        watch: Shows progress.

    Raises:
        ConfigError, DataError, ModelError, TrainingError, StorageError: see `core.errors`.
        BusyError: another process holds the folder.
        StoppedError: a signal stopped the run; its state is committed.
    """
    with occupy(out, "pretrain", resume=resume) as place:
        prepared = Prepared.open(data)
        if place.is_resumed:
            config = _resumed_config(place.folder, prepared)
        return _pretrain(config, prepared, place, watch)


def _pretrain(config: PretrainConfig, prepared: Prepared, place: Place, watch: Watch) -> Pretrained:
    if not place.is_resumed:
        config = _with_backends(config, place)
    shapes = shapes_of(config, prepared)
    config = replace(config, patch=shapes.encoder.patch)  # the model's own is written down
    seconds: dict[str, float] = {}
    batches, cases = _batches(config, prepared, place.world.share)
    make_task = partial(_task, config, shapes, num_steps(config, cases))
    if config.precision is None:
        # Each process for itself: what is timed is not repeated equally often.
        precision, seconds = measure_run(config.device, partial(make_task, ALONE), batches(0))
        config = replace(config, precision=place.agree_on(precision))
    elif place.is_inexact and place.is_resumed:
        precision = carried_over(config.precision, choose_device(config.device))
        config = replace(config, precision=place.agree_on(precision))
    assert config.precision is not None
    config.precision.apply_threads()
    task = make_task(place.world, config.precision)
    panel = HealthPanel(task, prepared, config) if place.world.is_first else None
    if place.world.is_first:
        _begin(place, config, prepared)
    run = _run(place, task, config, cases)
    first = run.resume() if place.is_resumed else 0
    rows = run.rows(fed(batches, config.feed, run.plan.steps), panel.check if panel else None, first)
    for _ in place.watched(watch)(rows, "pre-training", run.plan.steps - first):
        pass
    if panel is not None:
        with unshared():
            commit_bytes(place.folder.path / "reconstructions.safetensors", panel.pictures())
        if not place.folder.model.exists():  # it does when a finished run is resumed
            _write_package(place.folder.model, config, task, prepared)
    return Pretrained(
        package=place.folder.model,
        steps=run.plan.steps,
        cases=cases,
        last_row=run.last_row(),
        seconds_per_step=seconds,
        is_first=place.world.is_first,
        warning=collapse_warning(run.journal.rows(), config.projection.prototypes) if place.world.is_first else None,
    )


def _with_backends(config: PretrainConfig, place: Place) -> PretrainConfig:
    """`auto` becomes the library that is installed: where values tie, another one gives gradients to other voxels."""
    here = place.world.agree(settled("auto"))
    parts = {"topology": config.topology, "critical": config.critical}
    return replace(
        config,
        **{
            name: replace(part, diagram=replace(part.diagram, backend=here))
            for name, part in parts.items()
            if part.diagram.backend == "auto"
        },
    )


def _resumed_config(folder: RunFolder, prepared: Prepared) -> PretrainConfig:
    """The configuration with which the run was started, once its data are known to be the same.

    Raises:
        DataError: it was started on other data.
    """
    started_on = read_yaml(folder.manifest).get("data_sha256")  # JSON is YAML
    if started_on != prepared.about["manifest_sha256"]:
        raise DataError(
            "was prepared from other cases than those the run was started on",
            where=str(prepared.folder),
            fix="give the prepared folder of the run, or start a new run",
        )
    return load(PretrainConfig, read_yaml(folder.config), str(folder.config))


def _batches(config: PretrainConfig, prepared: Prepared, share: Share) -> tuple[Augmented, int]:
    """The batch of a step, and the number of cases.

    Raises:
        DataError: no case may be learned from (`EMPTY_SPLIT`).
        ConfigError: places are asked for, but every crop is all of its volume.
    """
    rows = learned_rows(config, prepared)
    if not rows:
        raise DataError(
            "no case is marked for pre-training",
            where=str(prepared.folder),
            fix="index with a split, then prepare again, and hold fewer out",
            code="EMPTY_SPLIT",
        )
    where = held_on(config.feed, choose_device(config.device).type)
    source = open_source(prepared, rows, parent_edges(config, prepared), where)
    if source.shows_whole_volumes and any("position" in terms for terms in method_of(config).branches.values()):
        raise ConfigError(
            "asks where crops lie, but every crop is all of its volume: the answer is always the same",
            where=f"method {config.method}",
            fix="use a method without the term position, or whole volumes with a crop",
        )
    draw = Batches(source, config.batch, config.seed, labelled=False, share=share)
    return Augmented(draw, replace(IDENTITY, flip_probability=config.flip_probability), config.seed), len(rows)


def _begin(place: Place, config: PretrainConfig, prepared: Prepared) -> None:
    """What is needed to do the run again; a run exists once its config.yaml does."""
    if not place.is_resumed:
        about = {"verb": "pretrain", "seed": config.seed, "data_sha256": prepared.about["manifest_sha256"]}
        RunFolder.create(place.folder.path, about)
    if not place.is_resumed or place.is_inexact:
        write_yaml(place.folder.config, config)


def num_steps(config: PretrainConfig, cases: int) -> int:
    """Optimiser steps of a run over so many cases."""
    return math.ceil(config.epochs * cases / config.batch)


def _run(place: Place, task: PretrainTask, config: PretrainConfig, cases: int) -> TrainingRun:
    """The run, its epochs counted in steps."""
    assert config.precision is not None
    plan = FitPlan(steps=task.steps, seed=config.seed, optim=config.optim, precision=config.precision)
    pace = Pace(save_every_s=config.save_every_s, check_every=max(1, config.check_epochs * cases // config.batch))
    encoder = "branches.student.encoder" if STUDENT in task.branches else "branches.vit.encoder"
    optimizer = build_optimizer(task, config.optim, task.shapes.encoder.depth, encoder=encoder)
    return TrainingRun(place, task, optimizer, plan, pace, _since_branches)


def _since_branches(name: str) -> str:
    """Before methods had branches, the one network was called otherwise; runs begun then go on."""
    for before, now in _RENAMED:
        if name.startswith(before):
            return now + name.removeprefix(before)
    return name


def _task(config: PretrainConfig, shapes: Shapes, steps: int, world: World, precision: Precision) -> PretrainTask:
    """The task with the weights of the seed, whatever the precision: they are drawn without stored padding."""
    method = method_of(config)
    settings = TermSettings(
        target_floor_hu=config.target_floor_hu,
        topology=config.topology,
        euler=config.euler,
        critical=config.critical,
        contrast=config.contrast,
        student_temperature=(method.teaching or Teaching()).student_temperature,
        share=world.share,
        add_up=world.sum,
    )
    make = partial(
        PretrainTask,
        method,
        shapes,
        seed=config.seed,
        steps=steps,
        settings=settings,
        photometric=config.photometric,
    )
    torch.manual_seed(derived_seed(config.seed, "weights") % 2**63)
    drawn = make(kernel=AttentionKernel())
    task = make(kernel=precision.kernel)
    task.load_state_dict(drawn.state_dict(), strict=True)
    return task.to(precision.device)


def _write_package(folder: Path, config: PretrainConfig, task: PretrainTask, prepared: Prepared) -> None:
    domains = sorted({prepared.cases[row].domain for row in learned_rows(config, prepared)})
    kind, architecture, weights = packaged(task)
    card = ModelCard(
        kind=kind,
        architecture=architecture,
        recipe=config.method,
        input=input_spec(prepared, task.shapes.encoder),
        label_names={},
        domains={"pretraining": domains, "training": [], "calibration": [], "reference": []},
        provenance=Provenance(
            apatite_version=version("apatite"),
            seed=config.seed,
            data_digest=prepared.about["manifest_sha256"],
            citation=task.method.paper,
        ),
        held_out=sorted(set(config.hold_out)),
    )
    write_package(folder, card, weights)


def input_spec(prepared: Prepared, encoder: ViTConfig | SwinConfig) -> InputSpec:
    """What a network trained on a prepared folder must be given."""
    spacing = prepared.grid(0).spacing_mm
    return InputSpec(
        shape=encoder.crop,
        spacing_mm=spacing,
        windows_hu=encoder.windows_hu,
        kind=prepared.kind,
        intensity=prepared.intensity,
    )
