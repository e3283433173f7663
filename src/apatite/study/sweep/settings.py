"""From a row to the configuration of its run: the recipe, the changes of grid and block, then the axes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apatite.core.config import dump, override
from apatite.core.registry import choose
from apatite.nn.models import model_size
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.recipes import RECIPES as PRETRAIN
from apatite.segment.config import FinetuneConfig
from apatite.segment.recipes import RECIPES as FINETUNE
from apatite.study.nnunet.config import NnunetConfig
from apatite.study.sweep.grid import Grid
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import ALL, EQUAL_TIME, SweepRow, patch_edges

_OF_THE_RUN = ("num_labelled", "draw", "seed", "steps", "epochs", "take", "check_every", "check_epochs", "hold_out")
"""Settings that change nothing about how fast a network computes."""


def pretrain_config(grid: Grid, row: SweepRow) -> PretrainConfig:
    """The pre-training of a row.

    Raises:
        ConfigError: the recipe, or a key that is changed, is unknown.
    """
    config = override(choose(PRETRAIN, grid.pretrain.recipe, "recipe")(), (*grid.pretrain.change, *row.pretrain))
    return replace(
        config,
        method=str(row.axes["init"]),
        model=str(row.axes["model"]),
        patch=patch_edges(row.axes["patch"]),
        seed=_number(row, "seed"),
    )


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
    axes, model = row.axes, model_size(str(row.axes["model"]))
    decoder = replace(config.decoder, name=str(axes["decoder"]), mae=model.decoder)
    if axes["upsampling"] is not None:
        decoder = replace(decoder, upsampling=axes["upsampling"])
    config = replace(
        config,
        model=str(axes["model"]),
        patch=patch_edges(axes["patch"]),
        decoder=decoder,
        seed=_number(row, "seed"),
        num_labelled=None if axes["labels"] == ALL else _number(row, "labels"),
        draw=_number(row, "draw"),
        take=axes["take"] or config.take,
    )
    return _as_long_as(config, row, done or {}) if axes["init"] == EQUAL_TIME else config


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
        return pretrain_config(grid, row)
    return finetune_config(grid, row, done) if row.kind == "vit" else nnunet_config(grid, row)


def row_digest(grid: Grid, row: SweepRow, done: Mapping[str, Record] | None = None) -> str:
    """Names the settings of a row."""
    return settings_digest(row_config(grid, row, done))


def settings_digest(config: Any) -> str:
    """Names a configuration, whatever number format its network computes in."""
    return _digest({key: value for key, value in dump(config).items() if key != "precision"})


def network_key(config: PretrainConfig | FinetuneConfig) -> str:
    """Networks with one key compute alike, so that twins can share what was measured for the first of them."""
    kept = {key: value for key, value in dump(config).items() if key not in (*_OF_THE_RUN, "precision", "optim")}
    return f"{'pretrain' if isinstance(config, PretrainConfig) else 'finetune'}-{_digest(kept)[:16]}"


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
