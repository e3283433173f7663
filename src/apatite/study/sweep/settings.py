"""From a row to the configuration of its run: the recipe, the changes of grid and block, then the axes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apatite.core.config import dump, override
from apatite.core.registry import choose
from apatite.core.types import Edges
from apatite.engine.optim import OptimConfig
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.models import model_size, vit_size
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.methods import METHODS
from apatite.pretrain.recipes import RECIPES as PRETRAIN
from apatite.pretrain.teaching import TeachingChanges
from apatite.segment.config import FinetuneConfig
from apatite.segment.recipes import RECIPES as FINETUNE
from apatite.study.nnunet.config import NnunetConfig
from apatite.study.sweep.grid import Grid
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import ALL, EQUAL_TIME, PACE, PACE_SHARE, SweepRow, Value, is_swin, method_of, patch_edges

_OF_THE_RUN = ("num_labelled", "draw", "seed", "steps", "epochs", "take", "check_every", "check_epochs", "hold_out")
"""Settings that change nothing about how fast a network computes."""
_FROM_THE_START: Mapping[type, frozenset[str]] = {
    PretrainConfig: frozenset((
        "method", "model", "patch", "crop", "windows_hu", "stem", "hidden_ratio", "target_floor_hu", "epochs", "batch",
        "flip_probability", "hold_out", "seed", "optim", "check_epochs", "save_every_s", "feed", "device", "precision",
    )),
    FinetuneConfig: frozenset((
        "model", "patch", "crop", "windows_hu", "stem", "decoder", "drop_path", "steps", "batch", "drop_empty_cases",
        "num_labelled", "draw", "hold_out", "augment", "take", "min_coverage", "seed", "optim", "check_every",
        "save_every_s", "feed", "device", "precision",
    )),
    OptimConfig: frozenset(("lr", "betas", "weight_decay", "layer_decay", "warmup_fraction", "clip_norm")),
}  # fmt: skip
"""Settings that there were when the first rows were done. All that came later are no part of a digest where they are at
their default, so that those rows are still known."""


def pretrain_config(grid: Grid, row: SweepRow, done: Mapping[str, Record] | None = None) -> PretrainConfig:
    """The pre-training of a row.

    Args:
        grid: Its grid.
        row: A row of the kind `pretrain`.
        done: Records of what it needs, by name: one that is as long as another reads its epochs from their seconds.

    Raises:
        ConfigError: the recipe, or a key that is changed, is unknown.
    """
    config = override(choose(PRETRAIN, grid.pretrain.recipe, "recipe")(), grid.pretrain.change)
    init = str(row.axes["init"])
    method, reference = method_of(init)
    config = replace(
        config,
        method=method,
        model=str(row.axes["model"]),
        patch=None if row.axes["patch"] is None else patch_edges(row.axes["patch"]),
        seed=_number(row, "seed"),
    )
    config = override(_without_what_it_lacks(config), row.pretrain)
    if reference:
        of_time, pace = ((done or {})[name] for name in row.needs)
        return _of_epochs(config, epochs_as_long_as(of_time, pace))
    return _of_epochs(config, max(1, round(PACE_SHARE * config.epochs))) if init.endswith(PACE) else config


def _without_what_it_lacks(config: PretrainConfig) -> PretrainConfig:
    """What the methods of a grid share says nothing of a teacher, local views or a parent to those that have none."""
    method = choose(METHODS, config.method, "method")
    return replace(
        config,
        teaching=config.teaching if method.teaching else TeachingChanges(),
        local_views=config.local_views if method.views.local_count else None,
        hidden_ratio=None if method.hiding.ratio is None else config.hidden_ratio,
        parent=None if method.views.is_whole else config.parent,
    )


def epochs_as_long_as(reference: Record, pace: Record) -> int:
    """Epochs of a method that take the seconds of another's whole run, its look at the end included.

    Args:
        reference: The whole run of the other method.
        pace: A short run of this one.
    """
    look_s = pace.seconds["pretrain"] - pace.steps * pace.step_s
    steps = (reference.seconds["pretrain"] - look_s) / pace.step_s
    return max(1, round(steps * pace.config["epochs"] / pace.steps))


def _of_epochs(config: PretrainConfig, epochs: int) -> PretrainConfig:
    """Another length, with as many looks."""
    looks = max(1, round(config.check_epochs * epochs / config.epochs))
    return replace(config, epochs=epochs, check_epochs=looks)


def finetune_config(grid: Grid, row: SweepRow, done: Mapping[str, Record] | None = None) -> FinetuneConfig:
    """The fine-tuning of a row.

    Args:
        grid: Its grid.
        row: A row of the kind `vit`.
        done: Records of what it needs, by name: one that has an equal time reads its steps from their seconds.

    Raises:
        ConfigError: as `pretrain_config`.
    """
    config = override(choose(FINETUNE, grid.finetune.recipe, "recipe")(), (*grid.finetune.change, *row.finetune))
    axes = row.axes
    config = replace(
        config,
        network=axes["network"],
        model=str(axes["model"] or config.model),
        patch=_patch(config, row),
        seed=_number(row, "seed"),
        num_labelled=None if axes["labels"] == ALL else _number(row, "labels"),
        draw=_number(row, "draw"),
        take=axes["take"] or config.take,
    )
    config = config if axes["decoder"] is None else replace(config, decoder=_decoder(config, axes))
    return _as_long_as(config, row, done or {}) if axes["init"] == EQUAL_TIME else config


def _patch(config: FinetuneConfig, row: SweepRow) -> Edges | None:
    """Of a row that names none: a Swin's own; in UNETR++, which has no patches, whatever the recipe says."""
    if is_swin(row.axes["model"]):
        return None
    return config.patch if row.axes["patch"] is None else patch_edges(row.axes["patch"])


def _decoder(config: FinetuneConfig, axes: Mapping[str, Value]) -> DecoderConfig:
    decoder = replace(config.decoder, name=str(axes["decoder"]), mae=vit_size(str(axes["model"])).decoder)
    return decoder if axes["upsampling"] is None else replace(decoder, upsampling=axes["upsampling"])


def nnunet_config(grid: Grid, row: SweepRow) -> NnunetConfig:
    """The run of nnU-Net of a row.

    Raises:
        ConfigError: a key that is changed is unknown.
    """
    config = override(NnunetConfig(minutes=grid.nnunet.minutes), grid.nnunet.change)
    labels = None if row.axes["labels"] == ALL else _number(row, "labels")
    return replace(config, num_labelled=labels, draw=_number(row, "draw"), seed=_number(row, "seed"))


def row_config(
    grid: Grid, row: SweepRow, done: Mapping[str, Record] | None = None
) -> PretrainConfig | FinetuneConfig | NnunetConfig:
    """The configuration of a row of any kind.

    Raises:
        ConfigError: as `pretrain_config`.
    """
    if row.kind == "pretrain":
        return pretrain_config(grid, row, done)
    return finetune_config(grid, row, done) if row.kind == "vit" else nnunet_config(grid, row)


def row_digest(grid: Grid, row: SweepRow, done: Mapping[str, Record] | None = None) -> str:
    """Names the settings of a row."""
    return settings_digest(row_config(grid, row, done))


def settings_digest(config: Any) -> str:
    """Names a configuration, whatever number format its network computes in."""
    return _digest(_counted(config, "precision"))


def network_key(config: PretrainConfig | FinetuneConfig) -> str:
    """Networks with one key compute alike, so that twins can share what was measured for the first of them."""
    kept = _counted(config, *_OF_THE_RUN, "precision", "optim")
    return f"{'pretrain' if isinstance(config, PretrainConfig) else 'finetune'}-{_digest(kept)[:16]}"


def _counted(config: Any, *left_out: str) -> dict[str, Any]:
    """The settings that tell configurations from each other."""
    values = {key: value for key, value in dump(config).items() if key not in left_out}
    if isinstance(config, NnunetConfig):
        return values
    standard = dump(type(config)())
    _leave_out_later(values, standard, _FROM_THE_START[type(config)])
    _leave_out_later(values.get("optim", {}), standard["optim"], _FROM_THE_START[OptimConfig])
    # Where no patch was chosen it is the model's, and the same run as with that one.
    return values | {"patch": values["patch"] or model_size(config.model).encoder().patch}


def _leave_out_later(values: dict[str, Any], standard: Mapping[str, Any], first: frozenset[str]) -> None:
    for key in [key for key in values if key not in first and values[key] == standard[key]]:
        del values[key]


def _as_long_as(config: FinetuneConfig, row: SweepRow, done: Mapping[str, Record]) -> FinetuneConfig:
    """As many more steps as the time of pre-training allows at the pace of the run from scratch; as many looks."""
    encoder, scratch = (done[name] for name in row.needs)
    pace_s = scratch.seconds["finetune"] / scratch.steps
    more = round(encoder.seconds["pretrain"] / pace_s)
    steps = config.steps + more
    return replace(config, steps=steps, check_every=max(1, round(config.check_every * steps / config.steps)))


def _number(row: SweepRow, axis: str) -> int:
    value = row.axes[axis]
    assert isinstance(value, int)
    return value


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
