"""Two tasks of the Medical Segmentation Decathlon: `dataset.json`, `imagesTr`, `labelsTr`.

The images of `imagesTs` have no labels, and no published division uses them: they are not listed.

Source: Antonelli et al. 2022, "The Medical Segmentation Decathlon"; Task06 Lung and Task01 BrainTumour. An image of
Task01 has four channels, whose order `dataset.json` states.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from apatite.core.errors import DataError
from apatite.io.layouts.entries import Entry, label_names_of, manifest_of, nifti_files, read_json
from apatite.io.layouts.published import PUBLISHED, PublishedSplit, named
from apatite.io.manifest import Manifest
from apatite.io.nifti import stem

Pair = tuple[Path, Path]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What tells a task from the others.

    Attributes:
        folder: As it is distributed.
        channels: Of each image.
        label_values: Named in `dataset.json`.
    """

    folder: str
    channels: tuple[str, ...]
    label_values: tuple[int, ...]


LUNG: Final = Task(folder="Task06_Lung", channels=("CT",), label_values=(1,))
BRATS: Final = Task(folder="Task01_BrainTumour", channels=PUBLISHED["msd_brats"].channels, label_values=(1, 2, 3))


def from_msd(task: Task, split: PublishedSplit, path: Path, patient_pattern: str = "") -> Manifest:
    """Index the folder of a task.

    Args:
        task: Which one it should be.
        split: Which cases are held out.
        path: The folder with `dataset.json`.
        patient_pattern: Not used; every image is a patient.

    Raises:
        DataError: another task, or a `dataset.json` that disagrees with the files (`MISSING_FILE`, `SPLIT_DIFFERS`,
            `BAD_LABEL`).
    """
    del patient_pattern
    file = path / "dataset.json"
    if not file.exists():
        raise DataError(
            "has no dataset.json", where=str(path), fix=f"give the folder {task.folder}", code="MISSING_FILE"
        )
    about = read_json(file)
    channels = about.get("modality")
    if not isinstance(channels, dict) or tuple(str(channels[key]) for key in sorted(channels)) != task.channels:
        raise DataError(
            f"states the modalities {channels}, not {', '.join(task.channels)}",
            where=str(file),
            fix=f"give the folder {task.folder}",
            code="SPLIT_DIFFERS",
        )
    names = label_names_of(about.get("labels"), file)
    if tuple(names) != task.label_values:
        raise DataError(
            f"names the labels {sorted(names)}, not {list(task.label_values)}",
            where=str(file),
            fix=f"give the folder {task.folder}",
            code="BAD_LABEL",
        )
    pairs = _pairs(about, file)
    _refuse_unlisted(path, pairs)
    split.require(pairs, str(file))
    splits = split.splits()
    entries = [
        Entry(name=name, image=image, label=label, split=splits[name]) for name, (image, label) in sorted(pairs.items())
    ]
    return manifest_of(path, entries, names)


def _pairs(about: dict[str, Any], file: Path) -> dict[str, Pair]:
    """Image and label of each training case, by name; both are on disk."""
    listed = about.get("training")
    all_pairs = [_pair(item, file) for item in (listed if isinstance(listed, list) else [])]
    pairs = dict(all_pairs)
    if len(pairs) != len(all_pairs):
        raise DataError(
            "lists a training case twice",
            where=str(file),
            fix="take the dataset.json that was distributed",
            code="SPLIT_DIFFERS",
        )
    stated = about.get("numTraining", len(pairs))
    if len(pairs) != stated:
        raise DataError(
            f"says that there are {stated} training cases, and lists {len(pairs)}",
            where=str(file),
            fix="take the dataset.json that was distributed",
            code="SPLIT_DIFFERS",
        )
    return pairs


def _pair(item: Any, file: Path) -> tuple[str, Pair]:
    if not isinstance(item, dict) or not isinstance(item.get("image"), str) or not isinstance(item.get("label"), str):
        raise DataError(
            "an entry of 'training' does not name one image and one label",
            where=str(file),
            fix="take the dataset.json that was distributed",
        )
    image, label = file.parent / item["image"], file.parent / item["label"]
    if stem(image) != stem(label):
        raise DataError(
            f"gives {image.name} the label {label.name}", where=str(file), fix="take the file that was distributed"
        )
    for wanted in (image, label):
        if not wanted.exists():
            raise DataError(
                f"lists {wanted.parent.name}/{wanted.name}, which is not there",
                where=str(file),
                fix="unpack the task again",
                code="MISSING_FILE",
            )
    return stem(image), (image, label)


def _refuse_unlisted(path: Path, pairs: dict[str, Pair]) -> None:
    """A labelled case that dataset.json does not list would otherwise vanish."""
    there = {stem(file) for part in ("imagesTr", "labelsTr") for file in nifti_files(path / part)}
    if there - pairs.keys():
        raise DataError(
            f"holds {named(there - pairs.keys())}, which dataset.json does not list",
            where=str(path),
            fix="take the folder as it was distributed",
            code="SPLIT_DIFFERS",
        )
