"""What an nnU-Net said of cases, as a contestant: a run of this package, or somebody's finished folder of results.

They are carried back to the original slices as those of every other model are, and judged there.

    nnunet.json      in our runs: where the predictions lie, and what they are of
    dataset.json     in nnU-Net's own folders, with `plans.json`: beside the predictions, or in the two folders above
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool

from apatite.calibrate.calibration import Calibration, calibration_of
from apatite.core.errors import DataError, ModelError
from apatite.core.scan import Scan, SliceStack
from apatite.core.volume import Grid, Volume
from apatite.ct.region import carry_back, is_inside_region
from apatite.io.case import Case
from apatite.io.nifti import viewer_grid
from apatite.io.regular_file import read_regular
from apatite.io.strict_json import parse_json
from apatite.segment.predict import NativePrediction
from apatite.study.nnunet.export import ABOUT
from apatite.study.nnunet.probabilities import case_of, read_probabilities

INDEX, CALIBRATION = "nnunet.json", "calibration.json"
DESCRIPTION, PLANS = "dataset.json", "plans.json"
FORMAT = 1
MAX_JSON_BYTES: Final = 2**25
"""Two hundred bytes per case."""
_ABOVE = 2
"""From a folder of predictions up to nnU-Net's description: validation, fold, trainer."""
_KNOWN_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True, kw_only=True)
class Results:
    """A folder of results that was recognised.

    Attributes:
        files: Case → label map.
        kind: `region`, `volume`, or empty where it is not ours.
        label_values: The value of nnU-Net's label 1, 2, …
        label_names: By value.
        grids: Case → from voxel index to RAS mm, exactly; of others' data it is what the label map says.
        regions: Case → region of the study, where predictions of others reach beyond it.
        calibration: Of these very predictions, or none.
    """

    files: dict[str, Path]
    kind: str
    label_values: tuple[int, ...]
    label_names: dict[int, str]
    grids: dict[str, np.ndarray]
    regions: dict[str, Grid]
    calibration: Calibration | None

    def digest(self) -> str:
        """SHA-256 over all predictions, so that others are told apart."""
        digest = hashlib.sha256()
        for case_id, path in sorted(self.files.items()):
            archive = path.with_name(f"{case_id}.npz")
            for file in (path, archive) if archive.exists() else (path,):
                digest.update(file.name.encode() + b"\0")
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


class NnunetPredictions:
    """Predictions that lie on disk.

    Args:
        results: Where, and what they are of.
    """

    def __init__(self, results: Results) -> None:
        self._results = results

    @property
    def label_values(self) -> tuple[int, ...]:
        """The label value of each plane."""
        return self._results.label_values

    def refuse_missing(self, cases: Sequence[Case]) -> None:
        """All of the cases must have been predicted.

        Raises:
            DataError: some were not; they are named (`MISSING_FILE`).
        """
        missing = [case.case_id for case in cases if case.case_id not in self._results.files]
        if missing:
            shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
            raise DataError(
                f"nnU-Net predicted {len(self._results.files)} cases, and not {shown}",
                fix="predict these cases too, with --save_probabilities",
                code="MISSING_FILE",
            )

    def predict_case(self, case: Case, scan: Scan) -> NativePrediction:
        """Read a case and carry it back to the original slices.

        Raises:
            DataError: it was not predicted (`MISSING_FILE`), or what was written does not fit.
        """
        self.refuse_missing([case])
        on_grid = read_probabilities(self._results.files[case.case_id], len(self.label_values), case.case_id)
        grid, stack = self._grid(case.case_id, on_grid.grid), scan.stack
        saw_slices = self._results.kind == "" and grid.matches(viewer_grid(stack))
        planes = on_grid.planes
        if not saw_slices:
            planes = np.stack([carry_back(Volume(voxels=plane, grid=grid), stack) for plane in planes])
        seen = self._results.regions.get(case.case_id, None if saw_slices else grid)
        is_counted = self._is_counted(stack, seen)
        return NativePrediction(probability=planes * is_counted, is_counted=is_counted, label_values=self.label_values)

    def _grid(self, case_id: str, written: Grid) -> Grid:
        """The grid that was exported, of which a label map holds a rounded copy."""
        exported = self._results.grids.get(case_id)
        grid = written if exported is None else Grid(shape=written.shape, ijk_to_ras=exported)
        if not grid.matches(written):
            raise DataError(
                "nnU-Net's prediction lies on another grid than the case that was exported",
                where=case_id,
                fix="predict the exported images",
                code="GRID_MISMATCH",
            )
        return grid

    def _is_counted(self, stack: SliceStack, seen: Grid | None) -> Bool[np.ndarray, "slices rows columns"]:
        """Inside a region; a whole volume is counted everywhere, as for every other model."""
        if self._results.kind == "volume" or seen is None:
            return np.ones(stack.shape, dtype=bool)
        return is_inside_region(stack, seen)


def is_nnunet(folder: Path) -> bool:
    """Whether a folder holds results of nnU-Net, ours or anybody's."""
    return (folder / INDEX).is_file() or (_description_above(folder) is not None and bool(_found(folder)))


def read_results(folder: Path) -> Results:
    """Recognise a folder.

    Args:
        folder: Our run; or a folder of predictions, `fold_0/validation`, a fold, or the trainer's folder.

    Raises:
        DataError: it holds no predictions, or two of one case.
        ModelError: its description cannot be read (`MODEL_VERSION`).
    """
    index = folder / INDEX
    if index.is_file():
        values, source = _read_json(index), index
        listed = values.get("predictions") or []
        if values.get("format", FORMAT) != FORMAT or not isinstance(listed, list):
            raise _unreadable(index)
        folders = [folder / str(part) for part in listed]
        about, calibration = values.get(ABOUT), folder / str(values.get("calibration"))
    else:
        description = _description_above(folder)
        if description is None:
            raise DataError("holds no results of nnU-Net", where=str(folder), fix="give the folder of a finished one")
        source, folders = description, [folder]
        about, calibration = _about_of(description), folder / CALIBRATION
    files, stored = _files(folders, folder), _read_calibration(calibration)
    try:
        return _results(files, about, stored)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _unreadable(source) from error


def _results(files: dict[str, Path], about: Any, calibration: Calibration | None) -> Results:
    """What a description says, or the error of its not being one."""
    names = {int(value): str(name) for value, name in about["label_names"].items()}
    label_values = tuple(int(value) for value in about["label_values"])
    grids, regions = _affines(about["grids"]), _affines(about.get("regions", {}))
    depth, height, width = about.get("region_shape", (0, 0, 0))
    if about["kind"] not in ("region", "volume", "") or sorted(label_values) != sorted(names) or not names:
        raise ValueError("no such kind, or labels without names")
    return Results(
        files=files,
        kind=about["kind"],
        label_values=label_values,
        label_names=names,
        grids=grids,
        regions={case: Grid(shape=(depth, height, width), ijk_to_ras=affine) for case, affine in regions.items()},
        calibration=calibration,
    )


def _affines(listed: dict[str, list[float]]) -> dict[str, np.ndarray]:
    return {str(case): np.array(numbers, dtype=np.float64).reshape(4, 4) for case, numbers in listed.items()}


def _files(folders: Iterable[Path], where: Path) -> dict[str, Path]:
    """Every case's label map; a case may be in one folder only."""
    files: dict[str, Path] = {}
    for folder in folders:
        for case_id, path in _found(folder):
            if case_id in files:
                raise DataError(
                    f"{files[case_id].parent} and {path.parent} both hold it",
                    where=case_id,
                    fix="give one fold, or a folder of predictions",
                    code="CASES_DIFFER",
                )
            files[case_id] = path
    if not files:
        raise DataError("holds no predictions", where=str(where), fix="predict first", code="NO_CASES")
    return files


def _found(folder: Path) -> list[tuple[str, Path]]:
    """Label maps in a folder; else in its `validation`; else in those of its folds."""
    for pattern in ("*", "validation/*", "fold_*/validation/*"):
        found = [path for path in sorted(folder.glob(pattern)) if path.name.endswith(_KNOWN_ENDINGS)]
        if found:
            return [(case_of(path), path) for path in found]
    return []


def _description_above(folder: Path) -> Path | None:
    """nnU-Net's `dataset.json`, here or above; it has the plans beside it, unlike that of the labels to learn from."""
    place = folder.resolve()
    above = (place, *place.parents[:_ABOVE])
    return next((at / DESCRIPTION for at in above if (at / DESCRIPTION).is_file() and (at / PLANS).is_file()), None)


def _about_of(description: Path) -> dict[str, Any]:
    """What is ours in the description; for another's data set, its own labels."""
    values = _read_json(description)
    if isinstance(values.get(ABOUT), dict):
        return values[ABOUT]
    labels = values.get("labels")
    if not isinstance(labels, dict) or any(not isinstance(number, int) for number in labels.values()):
        raise ModelError(
            "describes no plain labels; overlapping regions are not read",
            where=str(description),
            fix="train on labels",
            code="MODEL_VERSION",
        )
    numbers = {number: name for name, number in labels.items() if number != 0 and name != "ignore"}
    return {
        "kind": "",
        "label_values": sorted(numbers),
        "label_names": {str(number): name for number, name in numbers.items()},
        "grids": {},
    }


def _read_calibration(path: Path) -> Calibration | None:
    if not path.is_file():
        return None
    values = _read_json(path)
    domains = values.get("domains")
    if not isinstance(domains, list):
        raise _unreadable(path)
    return calibration_of(values.get("calibration"), values.get("burden"), [str(domain) for domain in domains])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(read_regular(path, MAX_JSON_BYTES))
    except ValueError as error:
        raise _unreadable(path) from error
    if not isinstance(values, dict):
        raise _unreadable(path)
    return values


def _unreadable(path: Path) -> ModelError:
    return ModelError(
        "cannot be read as results of nnU-Net", where=str(path), fix="make the folder again", code="MODEL_VERSION"
    )
