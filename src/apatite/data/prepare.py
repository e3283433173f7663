"""From a manifest to a prepared folder: each case is read once, cut or resampled, and stored as training wants it.

A case that is bad is named and left out, and the batch goes on. Annotation travels as the fraction of each voxel that
is annotated on the original slices, so nothing is lost to a nearest neighbour.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apatite.core.commit import commit_json, commit_text, committed_folder
from apatite.core.config import dump
from apatite.core.errors import ConfigError, DataError
from apatite.core.watch import Watch, unwatched
from apatite.ct.region import REGIONS, RegionConfig
from apatite.data.prepare_case import PreparedCase, prepare_region, prepare_volume
from apatite.data.prepare_pool import run_each
from apatite.io.leaks import SIDES, refuse_leaks
from apatite.io.manifest import Case, Manifest, manifest_digest, to_csv
from apatite.io.run_folder import environment
from apatite.io.store import FORMAT, ArrayWriter, write_volume_group


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What to make of each case.

    Attributes:
        kind: `region` cuts one equal region per case, `volume` keeps the whole body.
        region: Size of the region.
        spacing_mm: Of whole volumes, along i, j, k.
        least_shape: Whole volumes are padded with air to at least this, depth height width: the training crop.
        body_hu: Whole volumes are cropped to the largest body above this.
    """

    kind: Literal["region", "volume"] = "region"
    region: RegionConfig = REGIONS["small"]
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    least_shape: tuple[int, int, int] = (32, 48, 48)
    body_hu: float = -500.0

    def __post_init__(self) -> None:
        if min(self.spacing_mm) <= 0 or min(self.least_shape) < 1:
            raise ConfigError("spacing_mm and least_shape must be positive", fix="correct those values")


def region_small() -> PrepareConfig:
    """Regions of 48×48×16 voxels, for two cores."""
    return PrepareConfig(kind="region", region=REGIONS["small"])


def region_paper() -> PrepareConfig:
    """Regions of 96×96×32 voxels, as Jin et al. 2025."""
    return PrepareConfig(kind="region", region=REGIONS["paper"])


def volume() -> PrepareConfig:
    """Whole volumes at 3 mm, cropped to the body."""
    return PrepareConfig(kind="volume")


RECIPES: dict[str, Callable[[], PrepareConfig]] = {
    "region-small": region_small,
    "region-paper": region_paper,
    "volume": volume,
}


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """What became of the cases.

    Attributes:
        folder: The prepared folder.
        counts: Prepared cases by split.
        failures: One per case that was left out: case_id, what, where, fix, code.
    """

    folder: Path
    counts: dict[str, int]
    failures: tuple[dict[str, Any], ...]


def prepare(
    manifest: Manifest, folder: Path, config: PrepareConfig, workers: int = 1, watch: Watch = unwatched
) -> PrepareResult:
    """Prepare every case that has a split; those that are `unused` are left out.

    Args:
        manifest: The cases, already split.
        folder: To be made; must not exist.
        config: What to make.
        workers: Processes; the result does not depend on it.
        watch: Shows the progress.

    Raises:
        DataError: no case has a split, a leak, the folder exists, or not one case is good.
        StorageError: as `core.commit.committed_folder`.
    """
    cases = _cases_with_split(manifest)
    refuse_leaks(cases, {})
    task = Task(manifest=manifest, config=config)
    failures: list[dict[str, Any]] = []
    good: list[Case] = []
    digests: dict[str, str] = {}
    with committed_folder(folder) as part, _sink(part, manifest, config, len(cases)) as sink:
        outcomes = run_each(task, cases, workers)
        for case, outcome in watch(zip(cases, outcomes, strict=True), "preparing cases", len(cases)):
            if isinstance(outcome, DataError):
                failures.append({"case_id": case.case_id, **outcome.to_dict()})
                continue
            sink.add(case, outcome)
            digests[case.case_id] = outcome.image_digest
            good.append(case)
        if not good:
            first = failures[0]
            raise DataError(
                f"no case is good; the first: {first['what']}",
                where=first["where"],
                fix=first["fix"],
                code=first["code"],
            )
        refuse_leaks(good, digests)
        sink.finish()
        counts = {split: sum(case.split == split for case in good) for split in SIDES}
        _describe(part, replace(manifest, cases=tuple(good)), config, counts, failures)
    return PrepareResult(folder=folder, counts=counts, failures=tuple(failures))


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker does with one case; plain values, so that it can be sent to another process."""

    manifest: Manifest
    config: PrepareConfig

    def __call__(self, case: Case) -> PreparedCase:
        """Read and resample one case."""
        if self.config.kind == "region":
            return prepare_region(self.manifest, case, self.config.region)
        return prepare_volume(self.manifest, case, self.config.spacing_mm, self.config.least_shape, self.config.body_hu)


class _Sink:
    """Collects prepared cases into the files of a folder; nothing holds before `finish`."""

    def __init__(self, folder: Path, manifest: Manifest, config: PrepareConfig, most_rows: int) -> None:
        self._writers = {"grid": ArrayWriter(folder / "grids.npy", (4, 4), np.float64, most_rows)}
        self._volumes = folder / "volumes" if config.kind == "volume" else None
        if self._volumes is not None:
            self._volumes.mkdir()
            return
        shape = config.region.shape
        planes = (len(manifest.label_names), *shape)
        self._writers["image"] = ArrayWriter(folder / "images.npy", shape, np.int16, most_rows)
        self._writers["labels"] = ArrayWriter(folder / "fractions.npy", planes, np.uint8, most_rows)

    def add(self, case: Case, prepared: PreparedCase) -> None:
        """Append one case."""
        self._writers["grid"].append(prepared.grid.ijk_to_ras)
        if self._volumes is not None:
            write_volume_group(self._volumes / case.case_id, prepared.image_hu, prepared.labels)
            return
        self._writers["image"].append(prepared.image_hu)
        self._writers["labels"].append(prepared.labels)

    def finish(self) -> None:
        """State how many cases there are."""
        for writer in self._writers.values():
            writer.finish()

    def close(self) -> None:
        """Let go of the files."""
        for writer in self._writers.values():
            writer.close()


@contextmanager
def _sink(folder: Path, manifest: Manifest, config: PrepareConfig, most_rows: int) -> Iterator[_Sink]:
    sink = _Sink(folder, manifest, config, most_rows)
    try:
        yield sink
    finally:
        sink.close()


def _cases_with_split(manifest: Manifest) -> tuple[Case, ...]:
    cases = manifest.of_split(*SIDES)
    if not cases:
        raise DataError(
            "no case has a split", where=str(manifest.root), fix="run `apatite index` first", code="EMPTY_SPLIT"
        )
    if any(case.label for case in cases) and not manifest.label_names:
        raise DataError(
            "there are label maps, but no label has a name",
            where=str(manifest.root),
            fix='write {"1": "calcium"} to the .labels.json file',
            code="BAD_LABEL",
        )
    return cases


def _describe(
    folder: Path, manifest: Manifest, config: PrepareConfig, counts: Mapping[str, int], failures: list[dict[str, Any]]
) -> None:
    """Write what was made of what; last, so that a folder with it is whole."""
    commit_text(folder / "cases.csv", to_csv(manifest.cases))
    about = {
        "format": FORMAT,
        "kind": config.kind,
        "config": dump(config),
        "root": str(manifest.root.resolve()),
        "manifest_sha256": manifest_digest(manifest),
        "label_names": {str(value): name for value, name in sorted(manifest.label_names.items())},
        "domains": sorted({case.domain for case in manifest.cases}),
        "counts": dict(counts),
        "failures": failures,
        "environment": environment(),
    }
    commit_json(folder / "prepared.json", about)
