"""Synthetic CT volumes with labels, and the ways of keeping them on disk that are compared.

Noise is what decides how well a CT can be compressed, so there is as much of it as on thin slices: 12 HU in the body,
6 HU in the air around it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int16, UInt8

from apatite.core.rng import generator
from apatite.io.manifest import Case, Manifest, manifest_digest, to_csv
from apatite.io.store import FORMAT, Prepared, write_volume_group

LABEL_NAMES = {1: "sphere", 2: "rod", 3: "plate"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """One synthetic scan: `depth height width`, HU and label values."""

    image_hu: Int16[np.ndarray, "depth height width"]
    labels: UInt8[np.ndarray, "depth height width"]


def make_volume(number: int, shape: tuple[int, int, int]) -> Volume:
    """A body of soft tissue in air, with three labelled organs that take about 1 % of the volume."""
    draw = generator(0, "volume", number)
    z, y, x = (np.linspace(-1, 1, edge, dtype=np.float32) for edge in shape)
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    is_body = np.broadcast_to((x / 0.8) ** 2 + (y / 0.7) ** 2 < 1, shape)
    image = np.where(is_body, 40 + 30 * np.sin(9 * x + number) * np.sin(7 * y) * np.sin(5 * z), np.float32(-1000))
    labels = np.zeros(shape, np.uint8)
    # One draw of noise, shifted from slice to slice: the bytes look random to a codec, and are made quickly.
    noise = draw.standard_normal(shape[1] * shape[2] + shape[0] * 997, dtype=np.float32)
    for label, edges in ((1, (0.2, 0.15, 0.15)), (2, (0.9, 0.06, 0.06)), (3, (0.08, 0.2, 0.3))):
        centre = draw.uniform(-0.3, 0.3, 3)
        distance = sum(((axis - c) / edge) ** 2 for axis, c, edge in zip((z, y, x), centre, edges, strict=True))
        labels[np.broadcast_to(distance < 1, shape)] = label
    for k in range(shape[0]):
        slice_noise = noise[k * 997 : k * 997 + shape[1] * shape[2]].reshape(shape[1:])
        image[k] += np.where(is_body[k], 12, 6) * slice_noise + 60 * labels[k]
    return Volume(image_hu=np.rint(image).astype(np.int16), labels=labels)


def write_prepared(folder: Path, volumes: list[Volume]) -> Prepared:
    """As `apatite prepare --recipe volume` leaves them."""
    cases = []
    (folder / "volumes").mkdir(parents=True)
    for number, volume in enumerate(volumes):
        case = Case(case_id=f"c{number}", patient_id=f"p{number}", image="none", label="none", split="finetune")
        write_volume_group(folder / "volumes" / case.case_id, volume.image_hu, volume.labels)
        cases.append(case)
    manifest = Manifest(root=folder, cases=tuple(cases), label_names=LABEL_NAMES)
    np.save(folder / "grids.npy", np.tile(np.eye(4), (len(cases), 1, 1)))
    (folder / "cases.csv").write_text(to_csv(manifest.cases))
    about = {
        "format": FORMAT,
        "kind": "volume",
        "root": str(folder),
        "manifest_sha256": manifest_digest(manifest),
        "label_names": {str(value): name for value, name in LABEL_NAMES.items()},
    }
    (folder / "prepared.json").write_text(json.dumps(about))
    return Prepared.open(folder)


def write_memmaps(folder: Path, volumes: list[Volume]) -> list[np.ndarray]:
    """One `.npy` file per volume, opened as a memory map."""
    folder.mkdir(parents=True)
    for number, volume in enumerate(volumes):
        np.save(folder / f"c{number}.npy", volume.image_hu)
    return [np.load(folder / f"c{number}.npy", mmap_mode="r") for number in range(len(volumes))]


def write_zarr(folder: Path, volumes: list[Volume], chunk: int) -> list:
    """Plain Zarr v3 arrays with one file per chunk and the default codec."""
    import zarr

    folder.mkdir(parents=True)
    for number, volume in enumerate(volumes):
        zarr.create_array(store=folder / f"c{number}", data=volume.image_hu, chunks=(chunk,) * 3, zarr_format=3)
    return [zarr.open_array(folder / f"c{number}", mode="r") for number in range(len(volumes))]


def write_nnunet(folder: Path, volumes: list[Volume], crop: int, dtype: type[np.generic]):
    """As nnU-Net's preprocessor writes them: its own block and chunk sizes for this crop, LZ4HC, class locations."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    folder.mkdir(parents=True)
    for number, volume in enumerate(volumes):
        image, labels = volume.image_hu[None].astype(dtype), volume.labels[None].astype(np.int16)
        places = DefaultPreprocessor._sample_foreground_locations(labels, list(LABEL_NAMES))
        shapes = [comp_blosc2_params(part.shape, (crop,) * 3, part.itemsize) for part in (image, labels)]
        (blocks, chunks), (blocks_seg, chunks_seg) = shapes
        nnUNetDatasetBlosc2.save_case(
            image,
            labels,
            {"class_locations": places},
            str(folder / f"c{number}"),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=chunks_seg,
            blocks_seg=blocks_seg,
        )
    return nnUNetDatasetBlosc2(str(folder))


def crop_places(volumes: int, shape: tuple[int, int, int], crop: int, count: int) -> list[tuple[int, tuple]]:
    """Which volume and where, for crops anywhere."""
    draw = generator(0, "places")
    starts = [[int(draw.integers(0, edge - crop + 1)) for edge in shape] for _ in range(count)]
    return [(n % volumes, tuple(slice(s, s + crop) for s in start)) for n, start in enumerate(starts)]


def mean_hu(batch: Float[np.ndarray, "..."]) -> float:
    """What proves that sides read the same crops."""
    return float(np.mean(batch, dtype=np.float64))
