"""Random crops of 64³ voxels out of volumes of 128×512×512: the package's source against nnU-Net's blosc2 data set.

Two ways of ours: volumes held in memory, as training does (`Batches` over `open_source`), and crops read straight from
the Zarr store. `plain` crops are unlabelled and lie anywhere; `labelled` ones hold a label in 70 % of the draws and
come with targets (ours: one plane of fractions per label; nnU-Net: one map of values). All sides hand over fp32
batches. Files are in the page cache, so this measures decoding and copying, not a disk. nnU-Net stores fp32, as its
preprocessor does; a second row gives it int16. The limit is a copy: 2 bytes read and 4 written per voxel, at the
bandwidth of this run.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import torch

from apatite.data.batches import Batches
from apatite.data.sources import open_source
from apatite.io.store import Prepared
from harness import Benchmark, compare, median, ratio_of
from stores import (
    LABEL_NAMES,
    Volume,
    crop_places,
    make_volume,
    write_memmaps,
    write_nnunet,
    write_prepared,
    write_zarr,
)

SHAPE = (128, 512, 512)
CROP = 64
BATCH = 8
FOREGROUND = 0.7
BYTES_PER_CROP = CROP**3 * (2 + 4)
Side = Callable[[], object]


def main(arguments: list[str] | None = None) -> None:
    bench = Benchmark.start(__doc__, __file__, packages=("nnunetv2", "blosc2", "zarr", "numpy"), arguments=arguments)
    # A third of the slices, when quick: making and compressing a whole volume takes a second each.
    shape = (64, 320, 320) if bench.quick else SHAPE
    batches = 2 if bench.quick else 16
    with TemporaryDirectory() as name:
        folder = Path(name)
        volumes = [make_volume(number, shape) for number in range(2 if bench.quick else 16)]
        prepared = write_prepared(folder / "ours", volumes)
        report(bench, "plain", plain_sides(bench, folder, prepared, volumes, batches), batches)
        report(bench, "labelled", labelled_sides(bench, folder, prepared, volumes, batches), batches)
    bench.facts |= {"volumes": len(volumes), "shape": list(shape), "crops_per_round": batches * BATCH}
    bench.finish()


def report(bench: Benchmark, kind: str, sides: dict[str, Side], batches: int) -> None:
    """Time all sides in turn; one row each."""
    seconds = compare(sides, repeats=3 if bench.quick else 7)
    for side, times in seconds.items():
        rate = batches * BATCH / median(times)
        ratio = ratio_of(seconds, side)
        bench.row(
            crops=kind,
            side=side,
            crops_per_s=rate,
            time_over_ours=ratio,
            limit_fraction=rate * BYTES_PER_CROP / bench.limits.stream,
        )
        if side != "ours":
            bench.ratio(f"{kind}_{side}", ratio)


def plain_sides(
    bench: Benchmark, folder: Path, prepared: Prepared, volumes: list[Volume], batches: int
) -> dict[str, Side]:
    """Everyone reads the same places, except `ours`, which draws its own as it does in training."""
    shape = volumes[0].image_hu.shape
    places = crop_places(len(volumes), shape, CROP, batches * BATCH)
    stored = [prepared.volume(case.case_id).image for case in prepared.cases]
    memmaps = write_memmaps(folder / "memmap", volumes)
    zarrs = write_zarr(folder / "zarr", volumes, CROP)
    sides: dict[str, Side] = {
        "ours": drawn_batches(prepared, batches, labelled=False),
        "ours_from_disk": lambda: gather(lambda n, place: stored[n][place], places),
        "memmap": lambda: gather(lambda n, place: memmaps[n][place], places),
        "zarr_64": lambda: gather(lambda n, place: zarrs[n][place], places),
    }
    expected = gather(lambda n, place: volumes[n].image_hu[place], places)
    for dtype in (np.float32, np.int16):
        data = nnunet_data(bench, folder, volumes, dtype)
        if data is not None:
            sides[f"nnunet_{np.dtype(dtype).name}"] = lambda data=data: gather(
                lambda n, place: data.load_case(f"c{n}")[0][(slice(None), *place)][0], places
            )
    for name, side in sides.items():
        if name != "ours" and not torch.equal(side(), expected):
            raise RuntimeError(f"{name} read other voxels")
    return sides


def labelled_sides(
    bench: Benchmark, folder: Path, prepared: Prepared, volumes: list[Volume], batches: int
) -> dict[str, Side]:
    """Each side's own way to draw a crop around a label."""
    sides: dict[str, Side] = {"ours": drawn_batches(prepared, batches, labelled=True)}
    for dtype in (np.float32, np.int16):
        data = nnunet_data(bench, folder, volumes, dtype)
        if data is not None:
            sides[f"nnunet_{np.dtype(dtype).name}"] = nnunet_batches(data, batches)
    return sides


def drawn_batches(prepared: Prepared, batches: int, *, labelled: bool) -> Side:
    """What a training run asks for, step after step; a new step each time."""
    rows = list(range(len(prepared.cases)))
    draw = Batches(open_source(prepared, rows, (CROP,) * 3), BATCH, seed=0, labelled=labelled)
    steps = iter(range(10**9))
    return lambda: [draw(next(steps)) for _ in range(batches)]


def gather(read: Callable[[int, tuple], np.ndarray], places: list[tuple[int, tuple]]) -> torch.Tensor:
    """All places as one fp32 tensor, written in place."""
    crops = torch.empty((len(places), CROP, CROP, CROP))
    for row, (number, place) in zip(crops, places, strict=True):
        row.copy_(torch.from_numpy(np.ascontiguousarray(read(number, place))))
    return crops


def nnunet_data(bench: Benchmark, folder: Path, volumes: list[Volume], dtype: type[np.generic]):
    """The volumes as an nnU-Net data set, written once; `None` where nnU-Net is not installed."""
    place = folder / f"nnunet_{np.dtype(dtype).name}"
    try:
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    except ImportError:
        bench.skip("nnunetv2", "not installed")
        return None
    return nnUNetDatasetBlosc2(str(place)) if place.exists() else write_nnunet(place, volumes, CROP, dtype)


def nnunet_batches(data, batches: int) -> Side:
    """nnU-Net's own loader, without augmentation, in this process as ours is."""
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

    labels = SimpleNamespace(all_labels=list(LABEL_NAMES), has_ignore_label=False)
    edges = (CROP,) * 3
    loader = nnUNetDataLoader(
        data, BATCH, edges, edges, labels, oversample_foreground_percent=FOREGROUND, probabilistic_oversampling=True
    )
    return lambda: [loader.generate_train_batch() for _ in range(batches)]


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the peers' own
    main()
