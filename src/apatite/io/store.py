"""A prepared folder: the cases of a study as arrays that training can read at memory speed.

    prepared.json   configuration, manifest digest, label names, counts, versions, and where the original files lie
    cases.csv       one row per prepared case, in the order of the arrays; paths start from `root` in prepared.json
    grids.npy       float64, cases × 4 × 4: from voxel index to RAS mm, so that predictions find their way back
    images.npy      regions: int16 HU, cases × depth × height × width
    fractions.npy   regions: uint8, cases × labels × depth × height × width; 255 × the annotated part of each voxel
    volumes/        whole volumes: one Zarr v3 group per case, `image` (int16 HU) and, where labelled, `labels`

Labels are numbered by their place in the ascending list of label values: plane 0 of `fractions` and index 1 of
`labels` are the first. Which of them were looked for in a case is in `is_annotated`. Images without Hounsfield units
are counted in what `Prepared.intensity` says.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import zarr
from jaxtyping import Bool, Float64, Int, Int16, UInt8

from apatite.core.errors import DataError
from apatite.core.intensity import Intensity
from apatite.core.volume import Grid
from apatite.io.manifest import Case, Manifest, read_manifest

FORMAT = 1
"""Version of the layout above."""
CHUNK = 32
"""Edge of the bricks in which a whole volume is stored; a shard holds all of a volume in one file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedVolume:
    """One whole volume, read lazily: slice the arrays to read a crop.

    Attributes:
        image: Int16 HU, depth height width.
        labels: Uint8 label index, same shape; `None` without a label map.
        grid: Where the voxels lie.
    """

    image: zarr.Array
    labels: zarr.Array | None
    grid: Grid


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A prepared folder that was opened.

    Attributes:
        folder: Where it lies.
        kind: `region` (equal arrays) or `volume` (one group per case).
        manifest: The prepared cases in array order; its root is where the original files lie.
        about: All of prepared.json.
    """

    folder: Path
    kind: Literal["region", "volume"]
    manifest: Manifest
    about: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Prepared":
        """Open a prepared folder.

        Raises:
            DataError: it is not one, or its parts do not fit each other.
        """
        try:
            about = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
            kind, root = about["kind"], Path(about["root"])
            is_known = about["format"] == FORMAT and kind in ("region", "volume")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                "is not a prepared folder", where=str(folder), fix="make one with `apatite prepare`"
            ) from error
        if not is_known:
            raise DataError("was prepared by another version", where=str(folder), fix="prepare it anew")
        listed = read_manifest(folder / "cases.csv")
        names = {int(value): str(name) for value, name in about["label_names"].items()}
        manifest = Manifest(root=root, cases=listed.cases, label_names=names)
        prepared = cls(folder=folder, kind=kind, manifest=manifest, about=about)
        prepared._refuse_misfit()
        return prepared

    @property
    def cases(self) -> tuple[Case, ...]:
        """The prepared cases, in the order of the arrays."""
        return self.manifest.cases

    @property
    def intensity(self) -> Intensity:
        """What the images are counted in; a folder that was prepared before there was a choice holds HU.

        Raises:
            DataError: it is counted in something that is not known here.
        """
        found = self.about.get("config", {}).get("intensity", "hu")
        if found not in get_args(Intensity):
            raise DataError(f"is counted in {found!r}", where=str(self.folder), fix="prepare it anew")
        return found

    @property
    def label_values(self) -> tuple[int, ...]:
        """The label values, ascending: the order of the planes of `fractions`."""
        return tuple(sorted(self.manifest.label_names))

    @cached_property
    def images(self) -> Int16[np.ndarray, "cases depth height width"]:
        """All regions, memory-mapped and read-only."""
        return self._array("images.npy", "region")

    @cached_property
    def fractions(self) -> UInt8[np.ndarray, "cases labels depth height width"]:
        """For each label, 255 × the part of the voxel that is annotated on the original slices; 0 without labels."""
        return self._array("fractions.npy", "region")

    @cached_property
    def grids(self) -> Float64[np.ndarray, "cases 4 4"]:
        """From voxel index (i, j, k) to RAS mm, per case."""
        return self._array("grids.npy", self.kind)

    @cached_property
    def is_annotated(self) -> Bool[np.ndarray, "cases labels"]:
        """True where a label was looked for in a case."""
        values = self.label_values
        rows = [[value in self.manifest.annotated(case) for value in values] for case in self.cases]
        return np.array(rows, dtype=bool).reshape(len(self.cases), len(values))

    def case_index(self, *splits: str) -> Int[np.ndarray, "chosen"]:
        """Rows of the cases of one or several splits, ascending."""
        return np.array([row for row, case in enumerate(self.cases) if case.split in splits], dtype=np.int64)

    def grid(self, row: int) -> Grid:
        """Where the voxels of a row lie."""
        shape = self.images.shape[1:] if self.kind == "region" else self.volume(self.cases[row].case_id).grid.shape
        return Grid(shape=cast(tuple[int, int, int], shape), ijk_to_ras=np.array(self.grids[row]))

    def volume(self, case_id: str) -> PreparedVolume:
        """One whole volume.

        Raises:
            DataError: no such case, or a folder of regions.
        """
        row = next((row for row, case in enumerate(self.cases) if case.case_id == case_id), None)
        if row is None or self.kind != "volume":
            raise DataError(
                f"holds no whole volume {case_id!r}", where=str(self.folder), fix="prepare with --recipe volume"
            )
        group = zarr.open_group(self.folder / "volumes" / case_id, mode="r")
        image = cast(zarr.Array, group["image"])
        labels = cast(zarr.Array, group["labels"]) if "labels" in group else None
        grid = Grid(shape=cast(tuple[int, int, int], image.shape), ijk_to_ras=np.array(self.grids[row]))
        return PreparedVolume(image=image, labels=labels, grid=grid)

    def _array(self, name: str, kind: str) -> Any:
        if self.kind != kind:
            raise DataError(
                f"holds no {name}: it was prepared as {self.kind}",
                where=str(self.folder),
                fix="prepare with another --recipe",
            )
        try:
            return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{name} cannot be read", where=str(self.folder), fix="prepare it anew", code="TRUNCATED"
            ) from error

    def _refuse_misfit(self) -> None:
        count, num_labels = len(self.cases), len(self.label_values)
        expected: dict[str, tuple[int, ...]] = {"grids.npy": (count, 4, 4)}
        if self.kind == "region":
            edges = self._array("images.npy", "region").shape[1:]
            expected |= {"images.npy": (count, *edges), "fractions.npy": (count, num_labels, *edges)}
        for name, shape in expected.items():
            found = self._array(name, self.kind).shape
            if found != shape:
                raise DataError(
                    f"{name} has the shape {found}, not {shape}", where=str(self.folder), fix="prepare it anew"
                )


class ArrayWriter:
    """Append equal arrays to one `.npy` file whose number of rows is known only at the end.

    Bytes are written, not mapped: a full disk then raises an error instead of killing the process.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type[np.generic], most_rows: int) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._rows = 0
        self._file = path.open("wb")
        self._write_header(most_rows)
        self._start = self._file.tell()

    def append(self, row: np.ndarray | None) -> None:
        """Add one row; `None` stands for zeros, which take no room on disk."""
        if row is None:
            self._file.seek(int(np.prod(self._shape)) * self._dtype.itemsize, 1)
        else:
            self._file.write(np.ascontiguousarray(row.reshape(self._shape), dtype=self._dtype).tobytes())
        self._rows += 1

    def finish(self) -> None:
        """State the number of rows, and close."""
        self._file.truncate(self._file.tell())
        self._file.seek(0)
        self._write_header(self._rows)
        if self._file.tell() != self._start:
            raise RuntimeError("the array header changed its length")
        self.close()

    def close(self) -> None:
        """Let go of the file; without `finish` it is not to be read."""
        self._file.close()

    def _write_header(self, rows: int) -> None:
        # NumPy pads the header so that the first axis can change without moving the data.
        description = {"descr": self._dtype.str, "fortran_order": False, "shape": (rows, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, description)


def write_volume_group(
    folder: Path,
    image_hu: Int16[np.ndarray, "depth height width"],
    labels: UInt8[np.ndarray, "depth height width"] | None,
) -> None:
    """Write one whole volume as a Zarr v3 group, in bricks inside one shard."""
    group = zarr.create_group(store=folder, zarr_format=3)
    shard = tuple(-(-length // CHUNK) * CHUNK for length in image_hu.shape)
    for name, array in (("image", image_hu), ("labels", labels)):
        if array is not None:
            group.create_array(name, data=array, chunks=(CHUNK,) * 3, shards=shard)
