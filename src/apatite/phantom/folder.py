"""A cohort on disk: scans, labels and truth, made by any number of workers, the same bytes from each.

    manifest.csv  manifest.labels.json  cohort.json
    scans/<case>.nii.gz   labels/<case>.nii.gz   truth/<case>.json   truth/<case>.nii.gz

Labels are the perfect reader's; or, in `labels-reader/` instead, the first imperfect reader's, as a hospital has them.
Nothing else differs then, so the truth stays at hand.

A truth map adds bits: 1 artery, 2 bone, 4 plaque (adds at least 45 HU), 8 the first reader, 16 the second reader.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Literal

import numpy as np
from jaxtyping import UInt8

from apatite.core.commit import commit_json, committed_folder
from apatite.core.errors import ConfigError, DataError
from apatite.core.watch import Watch, unwatched
from apatite.io.manifest import Case, Manifest, write_manifest
from apatite.io.nifti import write_label, write_scan
from apatite.phantom.cohort import VERSION, CohortConfig, Series, make_patient, truth_of
from apatite.phantom.reader import IsMarked, circle_plaques

ARTERY_BIT, BONE_BIT, PLAQUE_BIT, FIRST_READER_BIT, SECOND_READER_BIT = 1, 2, 4, 8, 16
LABEL_NAMES = {1: "calcium"}
Labels = Literal["perfect", "reader"]
"""Whose labels are written: the perfect reader's, or the first imperfect reader's."""
LABEL_FOLDERS: Final[dict[Labels, str]] = {"perfect": "labels", "reader": "labels-reader"}
"""Two folders, so that manifests of the same scans tell whose labels they name."""


def write_cohort(
    config: CohortConfig, folder: Path, workers: int = 1, watch: Watch = unwatched, labels: Labels = "perfect"
) -> Manifest:
    """Make a cohort and write it, whole or not at all.

    Args:
        config: Which cohort.
        folder: New or empty folder.
        workers: Processes; the bytes do not depend on it.
        watch: Shows progress, one step per patient.
        labels: Whose labels; the scans do not depend on it.

    Returns:
        The manifest, as read from `folder/manifest.csv`. No split is assigned.

    Raises:
        DataError: the folder holds something already.
        StorageError: as `core.commit.committed_folder`.
    """
    if workers < 1:
        raise ConfigError(f"{workers} workers cannot work", fix="use at least 1")
    clear_the_way(folder)
    with committed_folder(folder) as part:
        cases = [
            case
            for made in watch(_made(config, part, workers, labels), "making patients", config.patients)
            for case in made
        ]
        manifest = Manifest(root=part, cases=tuple(cases), label_names=dict(LABEL_NAMES))
        write_manifest(part / "manifest.csv", manifest)
        about = {"version": VERSION, "config": asdict(config), "cases": len(cases), "labels": labels}
        commit_json(part / "cohort.json", about)
    return Manifest(root=folder, cases=tuple(cases), label_names=dict(LABEL_NAMES))


def clear_the_way(folder: Path) -> None:
    """Remove an empty folder, so that a whole one can take its name.

    Raises:
        DataError: it holds something already.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise DataError(
            "holds something already", where=str(folder), fix="name a new folder with -o, or empty this one"
        )
    if folder.is_dir():
        folder.rmdir()


def write_patient(config: CohortConfig, number: int, folder: Path, labels: Labels = "perfect") -> list[Case]:
    """Make one patient and write all series.

    Args:
        config: Which cohort.
        number: Which patient.
        folder: The cohort's folder.
        labels: Whose labels.
    """
    return [_write_series(series, folder, labels) for series in make_patient(config, number)]


def truth_map(series: Series) -> UInt8[np.ndarray, "slices rows columns"]:
    """Artery, bone, plaque and both readers as bits (see the constants of this file)."""
    acquisition = series.acquisition
    bits = {
        ARTERY_BIT: acquisition.artery >= 0.5,
        BONE_BIT: acquisition.bone >= 0.5,
        PLAQUE_BIT: circle_plaques(acquisition),
        FIRST_READER_BIT: series.readers[0],
        SECOND_READER_BIT: series.readers[1],
    }
    result = np.zeros(acquisition.artery.shape, dtype=np.uint8)
    for bit, is_marked in bits.items():
        result |= is_marked.astype(np.uint8) * np.uint8(bit)
    return result


def _made(config: CohortConfig, folder: Path, workers: int, labels: Labels) -> Iterator[list[Case]]:
    """The cases of every patient, in order."""
    if workers == 1:
        for number in config.numbers:
            yield write_patient(config, number, folder, labels)
        return
    # A fresh process per worker: forking would copy threads' locks, and the platforms would differ.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write_patient, repeat(config), config.numbers, repeat(folder), repeat(labels))


def _write_series(series: Series, folder: Path, labels: Labels) -> Case:
    stack, name = series.acquisition.scan.stack, series.case_id
    label = f"{LABEL_FOLDERS[labels]}/{name}.nii.gz"
    is_labelled: IsMarked = series.is_calcium if labels == "perfect" else series.readers[0]
    write_scan(folder / "scans" / f"{name}.nii.gz", series.acquisition.scan)
    write_label(folder / label, is_labelled.astype(np.uint8), stack)
    write_label(folder / "truth" / f"{name}.nii.gz", truth_map(series), stack)
    commit_json(folder / "truth" / f"{name}.json", truth_of(series))
    centre = series.region.centre_ras_mm
    return Case(
        case_id=name,
        patient_id=series.patient.patient_id,
        image=f"scans/{name}.nii.gz",
        label=label,
        annotated_labels=tuple(LABEL_NAMES),
        domain="phantom",
        vendor=series.protocol.vendor,
        scanner_model=series.protocol.scanner_model,
        kernel=series.protocol.kernel,
        kernel_class=series.protocol.kernel_class,
        slice_thickness_mm=series.protocol.thickness_mm,
        age=series.patient.age,
        sex=series.patient.sex,
        region_centre_ras_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
        truth=f"truth/{name}.json",
    )
