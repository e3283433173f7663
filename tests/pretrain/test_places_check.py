"""Held-out scans alone are asked about, always at the same places, and the guess is what was learned from."""

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from apatite.core.errors import DataError
from apatite.data.batches import Batch
from apatite.data.prepare import PrepareConfig, prepare
from apatite.data.sources import open_source
from apatite.io.manifest import Case, Manifest
from apatite.io.store import Prepared
from apatite.pretrain.places_check import CROPS_PER_SCAN, HeldOutPlaces, held_out_places, held_out_point_error_mm

CROP = (5, 6, 8)
SPLITS = ("pretrain", "development", "finetune", "development", "test", "pretrain")
LEARNED = [0, 2, 5]
HELD_OUT = {"c1", "c3"}


def scan(number: int) -> np.ndarray:
    """HU that say where a voxel lies, in a volume of its own size: 100 times its slice, 10 times its row."""
    i, j, k = np.ogrid[: 14 + number, : 12 + number, : 9 + number]
    return np.broadcast_to(i + 10 * j + 200 * k, (14 + number, 12 + number, 9 + number)).astype(np.int16)


def make(folder: Path, splits=SPLITS) -> Prepared:
    (folder / "raw").mkdir(parents=True)
    cases = []
    for number, split in enumerate(splits):
        nib.save(nib.Nifti1Image(scan(number), np.diag([0.5, 1.0, 2.0, 1.0])), folder / "raw" / f"i{number}.nii.gz")
        cases.append(
            Case(
                case_id=f"c{number}",
                patient_id=f"p{number}",
                image=f"i{number}.nii.gz",
                # Where fine-tuning would want labels there are none: nothing here looks at them.
                split="pretrain" if split == "finetune" else split,
                vendor="GE" if number == 3 else "B",
            )
        )
    manifest = Manifest(root=folder / "raw", cases=tuple(cases), label_names={})
    config = PrepareConfig(kind="volume", spacing_mm=(0.5, 1.0, 2.0), least_shape=(5, 6, 8))
    assert prepare(manifest, folder / "out", config).failures == ()
    return Prepared.open(folder / "out")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    return make(tmp_path_factory.mktemp("volumes"))


@pytest.fixture
def held_out(prepared) -> HeldOutPlaces:
    found = held_out_places(prepared, LEARNED, CROP, seed=4)
    assert found is not None
    return found


def truth(batch: Batch) -> torch.Tensor:
    assert batch.places is not None
    return batch.places.points


def test_only_development_scans_are_asked_about_and_each_as_often(held_out):
    asked = [crop.case_ids[0] for crop in held_out.crops]
    assert set(asked) == HELD_OUT
    assert all(asked.count(name) == CROPS_PER_SCAN for name in HELD_OUT)
    assert [crop.first_sample for crop in held_out.crops] == list(range(2 * CROPS_PER_SCAN))
    assert all(crop.images_hu.shape == (1, 1, *CROP) for crop in held_out.crops)


def test_the_same_crops_at_every_call_and_others_with_another_seed(prepared, held_out):
    again, other = (held_out_places(prepared, LEARNED, CROP, seed=seed) for seed in (4, 5))
    assert again is not None
    assert other is not None
    pairs = zip(held_out.crops, again.crops, strict=True)
    assert all(torch.equal(one.images_hu, same.images_hu) for one, same in pairs)
    pairs = zip(held_out.crops, other.crops, strict=True)
    assert not all(torch.equal(one.images_hu, same.images_hu) for one, same in pairs)


def test_cases_that_must_not_be_seen_are_not_looked_at_either(prepared):
    found = held_out_places(prepared, LEARNED, CROP, seed=4, hold_out=("vendor=ge",))
    assert found is not None
    assert {crop.case_ids[0] for crop in found.crops} == {"c1"}


def test_the_guess_is_the_mean_of_the_points_of_all_crops_that_are_learned_from(prepared, held_out):
    sizes = open_source(prepared, LEARNED, CROP).sizes
    assert sizes is not None
    means = []
    for case, edges in enumerate(sizes.edges):
        starts = [(d, h, w) for d, h, w in np.ndindex(*(edges - CROP + 1))]
        means.append(sizes.places([case] * len(starts), starts, CROP).points.mean(dim=0, keepdim=True))
    torch.testing.assert_close(held_out.guess, torch.cat(means).mean(dim=0, keepdim=True))
    # Not that of the scans that are asked about.
    asked = torch.cat([truth(crop) for crop in held_out.crops]).mean(dim=0, keepdim=True)
    assert (held_out.guess - asked).abs().max() > 0.02


def test_an_error_of_known_size_is_found(prepared, held_out):
    def off(batch: Batch) -> torch.Tensor:
        """All points a tenth of the width too far, or a fifth in the smaller scan."""
        return truth(batch) + torch.tensor([0.0, 0.0, 0.2 if batch.case_ids == ("c1",) else 0.1])

    row = held_out_point_error_mm({"vit": off, "unetrpp": truth}, held_out)
    assert set(row) == {
        f"{name}_point_error{which}_mm" for name in ("vit", "unetrpp", "guess") for which in ("", "_median")
    }
    widths_mm = {case: 0.5 * prepared.grid(case).shape[2] for case in (1, 3)}
    wanted = (0.2 * widths_mm[1], 0.1 * widths_mm[3])
    assert row["vit_point_error_mm"] == pytest.approx(sum(wanted) / 2, rel=1e-4)
    assert row["vit_point_error_median_mm"] == pytest.approx(sum(wanted) / 2, rel=1e-4)
    assert row["unetrpp_point_error_mm"] == row["unetrpp_point_error_median_mm"] == 0


def test_the_error_of_the_guess_is_that_of_always_saying_it(held_out):
    row = held_out_point_error_mm({"same": lambda batch: held_out.guess}, held_out)
    assert row["guess_point_error_mm"] == row["same_point_error_mm"]
    assert row["guess_point_error_median_mm"] == row["same_point_error_median_mm"]
    distances = []
    for crop in held_out.crops:
        assert crop.places is not None
        apart = (held_out.guess - crop.places.points)[0].double() * crop.places.extent_mm[0].double()
        distances.append(sum(math.dist(point.tolist(), (0, 0, 0)) for point in apart) / 9)
    assert row["guess_point_error_mm"] == pytest.approx(np.mean(distances), rel=1e-5)
    assert row["guess_point_error_median_mm"] == pytest.approx(np.median(distances), rel=1e-5)


def test_whoever_reads_the_places_off_the_image_beats_the_guess(prepared, held_out):
    """The HU say the first voxel; the volume's size is the mean of those learned from."""
    edges = torch.tensor([prepared.grid(row).shape for row in LEARNED]).float().mean(dim=0)

    def read(batch: Batch) -> torch.Tensor:
        first = batch.images_hu[:, 0, 0, 0, 0]
        start = torch.stack([first // 200, first % 200 // 10, first % 10], dim=-1)
        crop = torch.tensor(CROP)
        signs = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        corners = start[:, None] + signs * crop
        return torch.cat([(start + crop / 2)[:, None], corners], dim=1) / edges

    row = held_out_point_error_mm({"reader": read}, held_out)
    assert row["reader_point_error_mm"] < row["guess_point_error_mm"]


def test_nothing_is_learned_by_looking(held_out):
    weight = torch.nn.Parameter(torch.ones(1))
    seen = []

    def ask(batch: Batch) -> torch.Tensor:
        seen.append((weight * truth(batch)).requires_grad)
        return weight * truth(batch)

    drawn_before = torch.random.get_rng_state()
    held_out_point_error_mm({"vit": ask}, held_out)
    assert torch.equal(drawn_before, torch.random.get_rng_state())
    assert set(seen) == {False}


def test_where_there_is_nothing_to_find_nothing_is_said(prepared, prepared_folder, tmp_path):
    assert held_out_point_error_mm({"vit": truth}, None) == {}
    assert held_out_places(prepared, [], CROP, seed=0) is None
    assert held_out_places(prepared, LEARNED, CROP, 0, ("vendor=GE", "vendor=B")) is None
    assert held_out_places(Prepared.open(prepared_folder), [0, 1], None, seed=0) is None
    alone = make(tmp_path, splits=("pretrain", "pretrain"))
    assert held_out_places(alone, [0, 1], CROP, seed=0) is None


def test_a_crop_that_is_all_of_every_scan_has_no_place(tmp_path):
    whole = make(tmp_path, splits=("pretrain", "development"))
    depth, height, width = whole.grid(1).shape
    assert held_out_places(whole, [0], (depth, height, width), seed=0) is None


def test_a_scan_smaller_than_the_crop_is_named(prepared):
    with pytest.raises(DataError, match="c1: the volume"):
        held_out_places(prepared, LEARNED, (5, 6, 60), seed=0)
