"""Whose labels lie where: one prepared folder per reader, of the same cases, and one of them to be judged by."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apatite.core.commit import commit_json
from apatite.core.errors import ConfigError
from apatite.ct.region import REGIONS
from apatite.io.store import Prepared
from apatite.study.sweep.folder import SweepFolder, read_json
from apatite.study.sweep.grid import Grid

TRUTH = "perfect"
"""The reader by whom every row is judged, where there is one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepData:
    """The data of a sweep.

    Attributes:
        by_reader: Prepared folders by the name of their reader.
    """

    by_reader: Mapping[str, Prepared]

    @property
    def truth(self) -> Prepared:
        """What every row is judged by, whoever drew the labels that it learned from."""
        return self.by_reader.get(TRUTH) or next(iter(self.by_reader.values()))

    def learned_from(self, reader: str) -> Prepared:
        """The folder of a reader; pre-training, which sees no labels, takes any."""
        return self.by_reader[reader] if reader else self.truth

    @property
    def num_labelled(self) -> int:
        """Labelled cases that a row may ask for."""
        truth = self.truth
        return int(truth.is_annotated[truth.case_index("finetune")].any(axis=1).sum())

    @property
    def folders(self) -> dict[str, Path]:
        """Where they lie."""
        return {reader: prepared.folder for reader, prepared in self.by_reader.items()}


def open_data(given: Mapping[str, Path], readers: Iterable[str], grid: Grid) -> SweepData:
    """Open and compare the prepared folders.

    Args:
        given: Folders by reader; one under the name "" serves the only reader there is.
        readers: Those that the rows name.
        grid: Says what the data have to be.

    Raises:
        ConfigError: a reader's folder is missing, or the folders are not of the same cases, or not of the tier.
        DataError: a folder is no prepared folder.
    """
    wanted = sorted(set(readers)) or [TRUTH]
    folders = dict(given)
    if "" in folders:
        if len(folders) > 1 or len(wanted) > 1:
            raise ConfigError("it is not said whose labels lie where", fix=_how(wanted))
        folders = {wanted[0]: folders[""]}
    missing = [reader for reader in wanted if reader not in folders]
    if missing:
        raise ConfigError(f"no data of the {missing[0]} labels", fix=_how(wanted))
    data = SweepData(by_reader={reader: Prepared.open(folder) for reader, folder in sorted(folders.items())})
    for prepared in data.by_reader.values():
        _refuse_other_cases(data.truth, prepared)
        _refuse_other_tier(prepared, grid)
    return data


def remember(folder: SweepFolder, data: SweepData) -> None:
    """Write down which data a sweep works on; later calls may add readers, and change nothing.

    Raises:
        ConfigError: it began with other data.
    """
    began = read_json(folder.data)
    now = {
        reader: {
            "folder": os.path.relpath(prepared.folder.resolve(), folder.path.resolve()),
            "digest": str(prepared.about["manifest_sha256"]),
        }
        for reader, prepared in data.by_reader.items()
    }
    for reader in now.keys() & began.keys():
        if now[reader]["digest"] != began[reader]["digest"]:
            raise ConfigError(
                f"the sweep began with other {reader} data",
                where=str(now[reader]["folder"]),
                fix="give the prepared folder it began with, or name a new folder with -o",
            )
    judge = began.get(TRUTH) or next(iter(began.values()), None)
    if judge is not None and judge["digest"] != str(data.truth.about["manifest_sha256"]):
        raise ConfigError(
            "the sweep began with other labels to judge its rows by",
            where=str(data.truth.folder),
            fix="give the folders of all readers it began with, or name a new folder with -o",
        )
    if began | now != began:
        commit_json(folder.data, began | now)


def remembered(folder: SweepFolder) -> dict[str, Path]:
    """The data that a sweep began with; empty for a new one."""
    return {reader: folder.path / str(entry["folder"]) for reader, entry in read_json(folder.data).items()}


def _how(readers: Iterable[str]) -> str:
    return "give " + " ".join(f"-d {reader}=PREPARED" for reader in readers)


def _refuse_other_cases(truth: Prepared, prepared: Prepared) -> None:
    """The labels may differ, and nothing else."""
    if prepared is truth:
        return

    def cases(found: Prepared) -> list[tuple[str, str]]:
        return [(case.case_id, case.split) for case in found.cases]

    where = str(prepared.folder)
    if cases(truth) != cases(prepared) or not np.array_equal(truth.grids, prepared.grids):
        raise ConfigError(
            "holds other cases, splits or places than the other reader's folder",
            where=where,
            fix="index both cohorts with the same options and seed, and prepare them alike",
        )
    if truth.about["manifest_sha256"] == prepared.about["manifest_sha256"]:
        raise ConfigError("is the folder of the other reader, too", where=where, fix="prepare that reader's labels")


def _refuse_other_tier(prepared: Prepared, grid: Grid) -> None:
    if grid.tier == "own":
        return
    region = REGIONS[grid.tier]
    found = prepared.grid(0)
    is_same = found.shape == region.shape and np.allclose(found.spacing_mm, region.spacing_mm, atol=1e-6)
    if prepared.kind != "region" or not is_same:
        raise ConfigError(
            f"the grid {grid.name} is for {grid.tier} regions, {region.shape} voxels of {region.spacing_mm} mm",
            where=str(prepared.folder),
            fix=f"prepare with --recipe region-{grid.tier}, or choose another grid",
        )
