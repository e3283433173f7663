"""What a decoder's maps look like, scale by scale, and how much of them is a checkerboard.

One crop of one case goes through each model. Of every map between tokens and logits, and of the logits, one slice is
kept to look at and the powers at the upsampling's frequencies are measured (`metrics.checkerboard`). Periods run up to
the patch: that of a level coarser than the patch is not among them, so that all decoders are measured alike.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from apatite.core.commit import commit_json, commit_text
from apatite.core.errors import ConfigError, DataError
from apatite.core.types import Edges
from apatite.core.watch import Watch, unwatched
from apatite.io.model_card import ModelCard
from apatite.io.store import Prepared
from apatite.metrics.checkerboard import AXES, FEWEST_TOKENS, PeriodicPower, mean_ratio, periodic_powers
from apatite.nn.decoders.decoder import Decoder
from apatite.report.figures.checkerboard import MapPanel, checkerboard_figure
from apatite.report.html import Section, Table, render_report
from apatite.report.numbers import Cell, json_number, number_text
from apatite.segment.model import Segmenter
from apatite.segment.predict import open_predictor
from apatite.study.contestants import contestant_names

LOGITS = "logits"
FEATURES = "features"


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaleFound:
    """One map of a decoder.

    Attributes:
        what: `features` or `logits`.
        stride: Voxels per element along depth, height, width.
        num_channels: Its channels, or the labels.
        powers: Per axis and period; empty where nothing was doubled or the map is too small.
        slice_shown: First principal component of the channels in the middle slice.
    """

    what: str
    stride: Edges
    num_channels: int
    powers: tuple[PeriodicPower, ...]
    slice_shown: Float[np.ndarray, "height width"]

    @property
    def ratio(self) -> float:
        """One number for the map; 1 without a checkerboard, NaN where nothing was measured."""
        return mean_ratio(self.powers)

    @property
    def title(self) -> str:
        """What it is called in tables and figures."""
        return LOGITS if self.what == LOGITS else f"stride {'×'.join(map(str, self.stride))}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values; periods in voxels as well."""
        along = dict(zip(AXES, self.stride, strict=True))
        return {
            "what": self.what,
            "stride": list(self.stride),
            "channels": self.num_channels,
            "ratio": json_number(self.ratio),
            "powers": [
                {**asdict(power), "period_voxels": power.period * along[power.axis], "ratio": json_number(power.ratio)}
                for power in self.powers
            ],
        }


@dataclass(frozen=True, kw_only=True)
class CheckerboardDrawn:
    """What was found and where it was written.

    Attributes:
        values: The content of `checkerboard.json`.
        tables: The main table, for the terminal.
        report: The page.
    """

    values: dict[str, Any]
    tables: list[Table]
    report: Path


def draw_checkerboard(
    models: Sequence[Path], prepared: Prepared, out: Path, case_id: str | None = None, watch: Watch = unwatched
) -> CheckerboardDrawn:
    """Send one case through each model and write `checkerboard.json` and `report.html`.

    Args:
        models: Segmenter packages, or the runs that hold one.
        prepared: Made as the models want it.
        out: Folder for both files; older ones are replaced.
        case_id: Which case; the first labelled one of development (else of fine-tuning) where none is named.
        watch: Shows progress.

    Raises:
        ConfigError: no such case, one of the test split, data of another grid than a model's, or a model of another
            network than `vit`.
        DataError: there is no labelled case to choose (`EMPTY_SPLIT`).
        ModelError: a folder holds no segmenter.
    """
    names = contestant_names(models)
    row = chosen_row(prepared, case_id)
    found: dict[str, list[ScaleFound]] = {}
    about: dict[str, dict[str, Any]] = {}
    for name, path in watch(list(zip(names, models, strict=True)), "looking at maps", len(names)):
        predictor = open_predictor(path)
        refuse_other_grid(predictor.card, prepared, row, path)
        refuse_without_maps(predictor.network, path)
        image_hu = crop_around_labels(prepared, row, predictor.network.config.crop)
        found[name] = look_at(predictor.network, torch.from_numpy(image_hu)[None, None].to(predictor.device))
        about[name] = {**_about(predictor.network), "model_digest": predictor.digest}
    case = prepared.cases[row]
    values = {
        "case_id": case.case_id,
        "models": {name: {**about[name], "scales": [s.to_dict() for s in scales]} for name, scales in found.items()},
    }
    table = ratio_table(found)
    commit_json(out / "checkerboard.json", values)
    commit_text(out / "report.html", _page(found, table, about, case.case_id, case.domain))
    return CheckerboardDrawn(values=values, tables=[table], report=out / "report.html")


@torch.inference_mode()
def look_at(network: Segmenter, image_hu: Float[torch.Tensor, "1 1 depth height width"]) -> list[ScaleFound]:
    """The maps of one crop, the coarsest first and the logits last."""
    encoded, decoder = network.encode(image_hu), network.decoder
    assert isinstance(decoder, Decoder), "refuse_without_maps looked"
    patch = decoder.patch
    scales = [_scale(FEATURES, found.stride, patch, found.values) for found in decoder.feature_maps(encoded)]
    return [*scales, _scale(LOGITS, (1, 1, 1), patch, decoder(encoded))]


def chosen_row(prepared: Prepared, case_id: str | None) -> int:
    """The place of the case to look at."""
    rows = {case.case_id: row for row, case in enumerate(prepared.cases)}
    if case_id is None:
        for split in ("development", "finetune"):
            labelled = [case for case in prepared.manifest.of_split(split) if case.label]
            if labelled:
                return rows[labelled[0].case_id]
        raise DataError(
            "holds no labelled case outside test",
            where=str(prepared.folder),
            fix="name a case with --case",
            code="EMPTY_SPLIT",
        )
    if case_id not in rows:
        raise ConfigError(
            f"there is no case {case_id!r}", where=str(prepared.folder), fix="name one from its cases.csv"
        )
    if prepared.cases[rows[case_id]].split == "test":
        raise ConfigError(
            f"{case_id} belongs to the test split, on which no decoder should be chosen",
            where=str(prepared.folder),
            fix="name a case of another split",
        )
    return rows[case_id]


def refuse_other_grid(card: ModelCard, prepared: Prepared, row: int, model: Path) -> None:
    """The voxels must be those that the model was made for.

    Raises:
        ConfigError: they are not.
    """
    wanted, grid = card.input, prepared.grid(row)
    if wanted.intensity != prepared.intensity:
        raise ConfigError(
            f"counts in intensity={wanted.intensity}, {prepared.folder} in {prepared.intensity}",
            where=str(model),
            fix="give the prepared folder that it was trained on, or one prepared alike",
        )
    is_same = wanted.kind == prepared.kind and np.allclose(wanted.spacing_mm, grid.spacing_mm, rtol=1e-3)
    if not is_same or (wanted.kind == "region" and tuple(wanted.shape) != grid.shape):
        raise ConfigError(
            f"was made for another grid than {prepared.folder}: a {wanted.kind} of {tuple(wanted.shape)} voxels of "
            f"{tuple(wanted.spacing_mm)} mm",
            where=str(model),
            fix="give the prepared folder that it was trained on, or one prepared alike",
        )


def refuse_without_maps(network: Segmenter, model: Path) -> None:
    """A network must have a decoder that goes from tokens to voxels, scale by scale.

    Raises:
        ConfigError: it has UNETR++ instead, whose maps are not those of a patch that was doubled.
    """
    if not isinstance(network.decoder, Decoder):
        raise ConfigError(
            f"is of the network {network.config.network}, which has no decoder from patches to voxels to look into",
            where=str(model),
            fix="give models that were fine-tuned with network=vit",
        )


def crop_around_labels(prepared: Prepared, row: int, crop: Edges) -> Float[np.ndarray, "depth height width"]:
    """HU of a region, or of a crop of a whole volume around the middle of what is labelled in it."""
    if prepared.kind == "region":
        return np.asarray(prepared.images[row], dtype=np.float32)
    volume = prepared.volume(prepared.cases[row].case_id)
    shape = volume.grid.shape
    middle = np.array(shape) / 2
    if volume.labels is not None and (is_labelled := np.asarray(volume.labels[:]) > 0).any():
        middle = np.argwhere(is_labelled).mean(axis=0)
    if any(edge > have for edge, have in zip(crop, shape, strict=True)):
        raise ConfigError(
            f"the volume {shape} is smaller than the crop {crop}",
            where=prepared.cases[row].case_id,
            fix="name another case, or prepare with a larger least_shape",
        )
    starts = np.clip(np.round(middle - np.array(crop) / 2).astype(int), 0, np.array(shape) - np.array(crop))
    place = tuple(slice(int(start), int(start) + edge) for start, edge in zip(starts, crop, strict=True))
    return np.asarray(volume.image[place], dtype=np.float32)


def ratio_table(found: dict[str, list[ScaleFound]]) -> Table:
    """One row per model and map."""
    rows = []
    for name, scales in found.items():
        for scale in scales:
            cells: list[Cell] = [None] * 4
            if scale.powers:
                worst = max(scale.powers, key=lambda power: power.ratio)
                period = worst.period * scale.stride[AXES.index(worst.axis)]
                cells = [worst.ratio, worst.axis, period, 100 * worst.share]
            rows.append([name, scale.title, scale.ratio, *cells])
    return Table(
        columns=("model", "map", "ratio", "largest", "axis", "period (voxels)", "share (%)"),
        rows=rows,
        caption=(
            "Power at the frequencies of the upsampling over what their neighbours let expect: mean over axes and "
            "periods up to the patch, then the largest, where it is, and which share of the power it has. 1 without a "
            f"checkerboard; axes of fewer than {FEWEST_TOKENS} tokens are not measured."
        ),
    )


def _scale(what: str, stride: Edges, patch: Edges, values: torch.Tensor) -> ScaleFound:
    channels = values[0].float().cpu().numpy()
    depth, height, width = (max(edge // step, 1) for edge, step in zip(patch, stride, strict=True))
    return ScaleFound(
        what=what,
        stride=stride,
        num_channels=len(channels),
        powers=tuple(periodic_powers(channels, (depth, height, width))),
        slice_shown=first_component(channels)[channels.shape[1] // 2],
    )


def first_component(
    values: Float[np.ndarray, "channels depth height width"],
) -> Float[np.ndarray, "depth height width"]:
    """What the channels have most in common: their projection on the first principal axis, the mean channel upwards."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    centred = flat - flat.mean(axis=1, keepdims=True)
    axis = np.linalg.eigh(centred @ centred.T)[1][:, -1]
    projected = axis @ centred
    is_upside_down = projected @ centred.mean(axis=0) < 0
    return (-projected if is_upside_down else projected).reshape(values.shape[1:])


def _about(network: Segmenter) -> dict[str, Any]:
    decoder, shape = network.config.decoder, network.config.encoder
    assert shape is not None, "refuse_without_maps looked"
    upsampling = None if decoder.name == "mae" else decoder.upsampling
    return {"decoder": decoder.name, "upsampling": upsampling, "patch": list(shape.patch)}


def _page(
    found: dict[str, list[ScaleFound]], table: Table, about: dict[str, dict[str, Any]], case_id: str, domain: str
) -> str:
    panels = {}
    for name, scales in found.items():
        panels[f"{name}\n({about[name]['decoder']}, {about[name]['upsampling'] or 'no doubling'})"] = [
            MapPanel(title=f"{scale.title}, ratio {number_text(scale.ratio)}", values=scale.slice_shown)
            for scale in scales
        ]
    picture = checkerboard_figure(
        panels, caption=f"Middle slice of {case_id}: first principal component of each map, and the logits."
    )
    section = Section(title="Maps from tokens to logits", tables=[table], figures=[picture])
    digests = {f"model {name}": values["model_digest"][:16] for name, values in about.items()}
    return render_report("Checkerboard", [section], {"case": case_id, **digests}, domains=[domain])
