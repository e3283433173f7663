"""Prepared cases as an nnU-Net data set: what the network is given, on the very grid that it is given.

    imagesTr, labelsTr    cases to learn from, and those of development for nnU-Net's own validation
    splits_final.json     one fold: learn from the first, look at the second
    imagesTs              cases of the test split
    dataset.json          nnU-Net's description; under `apatite` what leads a prediction back to the original slices

Labels are hard here: a voxel of a region has the label that covers at least half of it. nnU-Net's ignore label is per
voxel, so in a case in which some label was not looked for, all that is unlabelled is ignored.

Source: the data set format of nnU-Net v2 (Isensee et al. 2021); two channels after the data set builder of the group
of Jin et al. 2025, [-1024, 3071] and [0, 300] HU.
Differs: the second channel is mapped to -1 ... 1 here and left so (`noNorm`). How that group had it normalised is not
known; nnU-Net's `CT` would clip it to the intensities of the labels, and nothing but calcium would be seen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int16, Shaped, UInt8

from apatite.core.commit import commit_json, committed_folder
from apatite.core.errors import ConfigError, DataError
from apatite.core.watch import Watch, unwatched
from apatite.io.nifti_file import write_nifti
from apatite.io.store import Prepared
from apatite.segment.config import FinetuneConfig
from apatite.segment.labelled import labelled_rows
from apatite.study.nnunet.config import NnunetConfig

DATASET = "Dataset501_Apatite"
DATASET_ID = 501
HALF = 128
"""Of 255: at least half of the voxel."""
FULL_HU = (-1024, 3071)
WINDOW_HU = (0, 300)
ABOUT = "apatite"
"""The key of `dataset.json` that is ours; nnU-Net copies it to every folder of results."""

_RESERVED = ("background", "ignore")


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was written.

    Attributes:
        folder: The data set.
        train: Cases to learn from.
        development: Labelled development cases.
        test: Labelled test cases.
        about: What stands under `apatite` in `dataset.json`.
    """

    folder: Path
    train: tuple[str, ...]
    development: tuple[str, ...]
    test: tuple[str, ...]
    about: dict[str, Any]


def export_dataset(prepared: Prepared, config: NnunetConfig, raw: Path, watch: Watch = unwatched) -> Export:
    """Write the data set `raw/Dataset501_Apatite`, whole or not at all.

    Args:
        prepared: Regions or whole volumes.
        config: Which cases to learn from, and how many channels.
        raw: nnU-Net's folder of data sets.
        watch: Shows progress.

    Raises:
        ConfigError: two channels of data without HU.
        DataError: no case to learn from or to develop on (`EMPTY_SPLIT`), or the data set is there already.
    """
    if config.windows and prepared.intensity != "hu":
        raise ConfigError(
            "the second channel is a window of HU, which these data do not have",
            where=str(prepared.folder),
            fix="give --one-channel",
        )
    rows = {"train": _train_rows(prepared, config)}
    rows |= {split: _labelled(prepared, split) for split in ("development", "test")}
    if not rows["development"]:
        raise DataError(
            "the development split holds no labelled case, which nnU-Net needs to look at",
            where=str(prepared.folder),
            fix="index with a development split",
            code="EMPTY_SPLIT",
        )
    learnt = [*rows["train"], *rows["development"]]
    with_ignore = any(not prepared.is_annotated[row].all() for row in learnt)
    about = about_of(prepared, [*learnt, *rows["test"]])
    with committed_folder(raw / DATASET) as part:
        for row in watch(learnt, "exporting for nnU-Net", len(learnt)):
            _write_image(prepared, row, part / "imagesTr", windows=config.windows)
            write_nifti(part / "labelsTr" / _file(prepared, row), _label(prepared, row), _affine(prepared, row))
        for row in watch(rows["test"], "exporting test cases", len(rows["test"])):
            _write_image(prepared, row, part / "imagesTs", windows=config.windows)
        names = {split: tuple(prepared.cases[row].case_id for row in chosen) for split, chosen in rows.items()}
        description = {
            # nnU-Net clips and scales "CT" by the labelled voxels of all cases, and anything else image by image.
            "channel_names": {"0": "CT" if prepared.intensity == "hu" else "MR"}
            | ({"1": "noNorm"} if config.windows else {}),
            "labels": _label_numbers(prepared, with_ignore=with_ignore),
            "numTraining": len(learnt),
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "SimpleITKIO",
            ABOUT: about,
        }
        commit_json(part / "dataset.json", description)
        split = {"train": list(names["train"]), "val": list(names["development"])}
        commit_json(part / "splits_final.json", [split])
    return Export(folder=raw / DATASET, about=about, **names)


def about_of(prepared: Prepared, rows: Sequence[int]) -> dict[str, Any]:
    """What has to be known of the data to read predictions of them.

    Args:
        prepared: The data.
        rows: Of the cases that are predicted.

    Returns:
        Their kind, the value and name of each label, and each case's grid: a NIfTI rounds it, and a pixel on the edge
        of a region would change sides.
    """
    names = prepared.manifest.label_names
    return {
        "kind": prepared.kind,
        "label_values": list(prepared.label_values),
        "label_names": {str(value): names[value] for value in prepared.label_values},
        "manifest_sha256": prepared.about["manifest_sha256"],
        "grids": {prepared.cases[row].case_id: _affine(prepared, row).ravel().tolist() for row in rows},
    }


def channels_of(image_hu: Int16[np.ndarray, "depth height width"], *, windows: bool) -> list[Shaped[np.ndarray, "..."]]:
    """The channels: all of HU as int16, and with `windows` 0 to 300 HU as -1 to 1."""
    full = np.clip(image_hu, *FULL_HU)
    if not windows:
        return [full]
    low, high = WINDOW_HU
    window = np.clip(image_hu, low, high).astype(np.float32)
    return [full, (window - low) / (high - low) * 2 - 1]


def hard_labels(
    fractions: UInt8[np.ndarray, "labels depth height width"],
) -> UInt8[np.ndarray, "depth height width"]:
    """1 + the place of the label that covers most of a voxel, where that is at least half of it; 0 elsewhere."""
    most = fractions.max(axis=0)
    return np.where(most >= HALF, fractions.argmax(axis=0) + 1, 0).astype(np.uint8)


def ignored_background(
    label: UInt8[np.ndarray, "depth height width"], is_annotated: Sequence[bool]
) -> UInt8[np.ndarray, "depth height width"]:
    """A label map in which what is unlabelled is ignored, if any label was not looked for."""
    if all(is_annotated):
        return label
    number = len(is_annotated)
    unknown = [place + 1 for place, was_sought in enumerate(is_annotated) if not was_sought]
    return np.where((label == 0) | np.isin(label, unknown), number + 1, label).astype(np.uint8)


def _train_rows(prepared: Prepared, config: NnunetConfig) -> list[int]:
    wanted = FinetuneConfig(num_labelled=config.num_labelled, draw=config.draw, hold_out=config.hold_out)
    return labelled_rows(prepared, wanted)


def _labelled(prepared: Prepared, split: str) -> list[int]:
    return [row for row in prepared.case_index(split).tolist() if prepared.is_annotated[row].any()]


def _image(prepared: Prepared, row: int) -> Int16[np.ndarray, "depth height width"]:
    if prepared.kind == "region":
        return np.array(prepared.images[row])
    return np.asarray(prepared.volume(prepared.cases[row].case_id).image[:])


def _label(prepared: Prepared, row: int) -> UInt8[np.ndarray, "depth height width"]:
    is_annotated = prepared.is_annotated[row].tolist()
    if prepared.kind == "region":
        return ignored_background(hard_labels(np.array(prepared.fractions[row])), is_annotated)
    labels = prepared.volume(prepared.cases[row].case_id).labels
    if labels is None:
        raise DataError("has no label map", where=prepared.cases[row].case_id, fix="prepare anew", code="BAD_LABEL")
    return ignored_background(np.asarray(labels[:]), is_annotated)


def _write_image(prepared: Prepared, row: int, folder: Path, *, windows: bool) -> None:
    for number, channel in enumerate(channels_of(_image(prepared, row), windows=windows)):
        write_nifti(folder / _file(prepared, row, f"_{number:04d}"), channel, _affine(prepared, row))


def _affine(prepared: Prepared, row: int) -> Float[np.ndarray, "4 4"]:
    return np.array(prepared.grids[row])


def _file(prepared: Prepared, row: int, channel: str = "") -> str:
    return f"{prepared.cases[row].case_id}{channel}.nii.gz"


def _label_numbers(prepared: Prepared, *, with_ignore: bool) -> dict[str, int]:
    """nnU-Net's numbers, consecutive from 0, by name."""
    numbers = {"background": 0} | dict(_unlike(prepared.manifest.label_names, prepared.label_values))
    return numbers | ({"ignore": len(numbers)} if with_ignore else {})


def _unlike(names: dict[int, str], values: Iterable[int]) -> Iterable[tuple[str, int]]:
    """Each label's name and number; its value joins a name that is taken."""
    taken: set[str] = set(_RESERVED)
    for number, value in enumerate(values, start=1):
        name = names[value] if names[value] not in taken else f"{names[value]} {value}"
        taken.add(name)
        yield name, number
