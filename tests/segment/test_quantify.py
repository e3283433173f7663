"""From whole simulated heads to volumes per side, with a stand-in for the network that knows where the calcium is."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from apatite.calcium.burden import BurdenCuts
from apatite.calcium.measure import volume_mm3
from apatite.calibrate.bounds import NOTHING
from apatite.calibrate.calibration import Calibration
from apatite.calibrate.interval import GroupFit, IntervalFit
from apatite.calibrate.thickness import THICKNESS_GROUPS
from apatite.core.errors import DataError, ModelError
from apatite.core.rng import generator
from apatite.core.scan import Scan
from apatite.core.volume import Volume
from apatite.ct.boxes import BOXES
from apatite.ct.cover import is_inside_box
from apatite.io.images import read_image
from apatite.io.manifest import read_manifest
from apatite.io.model_card import DOMAIN_STAGES, InputSpec, ModelCard, Provenance
from apatite.io.nifti import read_label
from apatite.phantom.cohort import CohortConfig
from apatite.phantom.dicom_series import SeriesSettings, write_series
from apatite.phantom.head import draw_head
from apatite.phantom.head_scan import HeadScan, scan_head
from apatite.phantom.head_slices import SliceLayout, lay_head_slices
from apatite.phantom.protocol import draw_protocol
from apatite.phantom.scanner import make_pose
from apatite.segment.predict import Predictor
from apatite.segment.quantify import About, Quantifier, QuantifyConfig
from apatite.segment.quantify_files import quantify_all
from apatite.segment.quantify_inputs import inputs_of
from apatite.segment.templates import templates_of
from apatite.segment.validity import SIMULATION_TRAINED

TENSOR = (32, 96, 96)
CUTS = BurdenCuts(definition="deployed", cuts_mm3=(1.0, 2.0, 3.0), none_below_mm3=0.5, source="four heads")
INTERVALS = IntervalFit(
    coverage=0.9,
    scale="log",
    groups={
        name: GroupFit(num_cases=12 if distance else 0, below=distance, above=distance, largest_mm3=1e4, joined=(name,))
        for name, distance in zip(THICKNESS_GROUPS, (None, math.log(2), math.log(2), None), strict=True)
    },
)
"""Half to twice the volume, for slices of 1.5 to 6 mm."""
CALIBRATION = Calibration(
    fits={}, burden={"gated": CUTS}, num_cases=4, domains=["phantom"], intervals={"gated": INTERVALS}
)


def card(domain: str = "phantom", **changes) -> ModelCard:
    values = {
        "kind": "segmenter",
        "architecture": {},
        "recipe": "none",
        "input": InputSpec(shape=TENSOR, spacing_mm=(0.44, 0.44, 1.0), windows_hu=((0.0, 100.0),)),
        "label_names": {1: "calcium"},
        "domains": {stage: [domain] for stage in DOMAIN_STAGES} | {"calibration": []},
        "provenance": Provenance(apatite_version="0", seed=0),
    }
    return ModelCard(**values | changes)


class KnowsTheCalcium(Predictor):
    """A network that is sure of every point whose nearest original pixel is marked, and of nothing else."""

    label_values = (1,)
    digest = "0" * 64

    def __init__(self, made: HeadScan, described: ModelCard) -> None:
        self.card = described
        self.stack, self.is_calcium = made.scan.stack, made.truth.is_calcium
        self.seen: list[Volume] = []

    def predict_on_grid(self, volume: Volume) -> np.ndarray:
        self.seen.append(volume)
        depth, height, width = volume.grid.shape
        k, j, i = np.meshgrid(np.arange(depth), np.arange(height), np.arange(width), indexing="ij")
        points = volume.grid.to_ras(np.stack([i, j, k], axis=-1).astype(float))
        index = np.rint(self.stack.to_slice_row_column(points)).astype(int)
        is_inside = np.all((index >= 0) & (index < self.stack.shape), axis=-1)
        index = np.clip(index, 0, np.array(self.stack.shape) - 1)
        return (self.is_calcium[tuple(np.moveaxis(index, -1, 0))] & is_inside).astype(np.float32)[None]


def make_head(tilt_deg: float, low_mm: float = -44.0, vault_mm: float = 0.0) -> HeadScan:
    config = CohortConfig(patients=5, seed=6)
    head, rng = draw_head(config, 4, step_mm=1.5, region_step_mm=0.6), generator(5, "quantify", int(tilt_deg))
    protocol = replace(
        draw_protocol(rng, "Cobre", 1.0),
        thickness_mm=3.0,
        spacing_mm=3.0,
        tilt_deg=tilt_deg,
        vault_mm=vault_mm,
        vault_from_mm=24.0,
        pixel_mm=1.0,
        turn_deg=(6.0, -5.0, 9.0),
        shift_mm=0.0,
    )
    pose = make_pose(protocol, np.array([5.0, -9.0, 14.0]))
    middle = pose.to_ras(np.array([[0.0, -20.0, 40.0]]))[0]
    layout = SliceLayout(rows=236, columns=224, low_mm=low_mm)
    return scan_head(head, pose, protocol, lay_head_slices(protocol, layout, middle, pose.shift_mm), rng)


@pytest.fixture(scope="module")
def head() -> HeadScan:
    """Tilted, in two blocks."""
    return make_head(14.0, vault_mm=6.0)


def quantifier(made: HeadScan, **settings) -> Quantifier:
    return Quantifier(KnowsTheCalcium(made, card()), templates_of(()), QuantifyConfig(threads=1, **settings))


@pytest.mark.slow
def test_volumes_come_back_on_the_right_sides(head):
    model = quantifier(head)
    found = model.quantify(head.scan, About(domain="phantom", kvp=120.0))
    stack, truth = head.scan.stack, head.truth
    is_counted = truth.is_calcium & is_inside_box(stack, truth.pose, BOXES["ica"])
    right, left = (volume_mm3(is_counted & side, stack) for side in (truth.is_right, ~truth.is_right))
    assert min(right, left) > 20
    assert abs(right - left) > 0.2 * (right + left)  # sides that could be swapped unseen would prove nothing
    measured = found.measurement
    assert measured.right is not None
    assert measured.left is not None
    assert measured.right.volume_mm3 == pytest.approx(right, rel=0.15)
    assert measured.left.volume_mm3 == pytest.approx(left, rel=0.15)
    assert measured.total.volume_mm3 == pytest.approx(measured.right.volume_mm3 + measured.left.volume_mm3)
    assert (found.label > 0).sum() == ((found.label == 1) | (found.label == 2)).sum()
    assert volume_mm3(found.label == 1, stack) == pytest.approx(measured.right.volume_mm3)
    assert head.scan.voxels_hu[found.label > 0].min() >= 130
    centre = found.localisation.pose.to_ras(np.array([0.0, 4.0, -27.5]))
    assert np.linalg.norm(centre - truth.pose.to_ras(np.array([0.0, 4.0, -27.5]))) < 3
    assert found.coverage.fraction == 1.0
    assert (found.banner, found.burden_group, found.is_calibrated) == ("", None, False)
    assert found.bounds == NOTHING
    # The network saw all of the box, in one grid larger than its own tensor.
    (seen,) = model.predictor.seen
    assert min(np.array(seen.grid.shape) - TENSOR) >= 0
    assert np.prod(seen.grid.shape) > np.prod(TENSOR)


@pytest.mark.slow
def test_a_folder_of_dicom_becomes_a_table_and_is_not_computed_twice(head, tmp_path):
    write_series(tmp_path / "in" / "a", head.scan, SeriesSettings(seed=1, kernel="UB", vendor="Philips (simulated)"))
    short = Scan(voxels_hu=head.scan.voxels_hu[:2], stack=_first(head.scan.stack, 2))
    write_series(tmp_path / "in" / "b", short, SeriesSettings(seed=2, number=1))
    (tmp_path / "in" / "README").write_text("no image")
    out = tmp_path / "out"
    model = quantifier(head)
    model.calibration = CALIBRATION
    made = quantify_all(model, inputs_of(tmp_path / "in", out), out)
    with made.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["verdict"], row["code"]) for row in rows) == [("measured", ""), ("refused", "LT3_SLICES")]
    row = next(row for row in rows if row["verdict"] == "measured")
    assert "TILT" in row["flags"]
    assert float(row["volume_mm3"]) == pytest.approx(float(row["right_mm3"]) + float(row["left_mm3"]), rel=0.01)
    folder = out / "cases" / row["case_id"]
    about = json.loads((folder / "case.json").read_text())
    assert about["measurement"]["total"]["volume_mm3"] == pytest.approx(float(row["volume_mm3"]), rel=0.01)
    assert about["model"]["sha256"] == model.predictor.digest
    volume = about["measurement"]["total"]["volume_mm3"]
    limits = {"low_mm3": (volume + 1) / 2 - 1, "high_mm3": (volume + 1) * 2 - 1}
    assert about["interval"] == {name: pytest.approx(limit) for name, limit in limits.items()} | {
        "coverage": 0.9,
        "burden_groups": [4],
    }
    assert float(row["volume_low_mm3"]) == pytest.approx(limits["low_mm3"], rel=0.01)
    assert float(row["volume_high_mm3"]) == pytest.approx(limits["high_mm3"], rel=0.01)
    assert (row["interval_coverage"], row["burden_group"], row["burden_groups"]) == ("0.9", "4", "4")
    assert "90% interval" in nib.load(folder / "label.nii.gz").header["descrip"].tobytes().decode()
    manifest = read_manifest(out / "manifest.csv")
    case = next(case for case in manifest.cases if not case.verdict)
    assert case.domain == "phantom"
    scan = read_image(manifest.image_path(case))
    label = read_label(folder / "label.nii.gz", scan.stack)
    assert volume_mm3(label == 1, scan.stack) == pytest.approx(about["measurement"]["right"]["volume_mm3"])
    assert (folder / "label.slices.json").exists()

    model.quantify = _forbidden  # a second run reads what is there
    again = quantify_all(model, inputs_of(tmp_path / "in", out), out)
    assert again.rows == made.rows
    other = quantifier(head, box="basilar")
    with pytest.raises(DataError, match="another model"):
        quantify_all(other, inputs_of(tmp_path / "in", out), out)


def test_a_phantom_model_is_refused_on_a_real_scan_before_anything_is_computed(head, tmp_path):
    write_series(tmp_path / "in", head.scan, SeriesSettings(vendor="GE", kernel="SOFT"))
    model = quantifier(head)
    model.quantify = _forbidden
    with pytest.raises(ModelError) as refused:
        quantify_all(model, inputs_of(tmp_path / "in", tmp_path / "out"), tmp_path / "out")
    assert refused.value.code == "PHANTOM_MODEL"
    assert not (tmp_path / "out" / "cases").exists()


@pytest.mark.slow
def test_the_exception_says_so_in_every_artefact_and_gives_no_group(head, tmp_path):
    write_series(tmp_path / "in", head.scan, SeriesSettings(vendor="GE", kernel="SOFT"))
    model = quantifier(head, accepts_phantom_model=True)
    model.calibration = CALIBRATION
    made = quantify_all(model, inputs_of(tmp_path / "in", tmp_path / "out"), tmp_path / "out")
    (row,) = made.rows
    assert (row["banner"], row["burden_group"]) == (SIMULATION_TRAINED, "")
    assert (row["volume_low_mm3"], row["volume_high_mm3"], row["burden_groups"]) == ("", "", "")
    assert {"DOMAIN", "NO_INTERVAL"} <= set(row["flags"].split())
    assert SIMULATION_TRAINED in made.table.read_text()
    folder = tmp_path / "out" / "cases" / row["case_id"]
    about = json.loads((folder / "case.json").read_text())
    assert (about["banner"], about["burden_group"]) == (SIMULATION_TRAINED, None)
    for name in ("label", "probability"):
        assert (
            nib.load(folder / f"{name}.nii.gz").header["descrip"].tobytes().rstrip(b"\0").decode() == SIMULATION_TRAINED
        )
    # The same model on what is a phantom: a group, and no banner.
    found = model.quantify(head.scan, About(domain="phantom"))
    assert (found.banner, found.burden_group) == ("", 4)
    # Of unknown slice thickness: no interval, and it says so.
    assert (found.bounds.low_mm3, found.bounds.groups) == (None, ())
    assert "NO_INTERVAL" in found.flags


@pytest.mark.slow
def test_part_of_the_region_is_a_lower_bound_without_a_group_and_none_of_it_is_refused(head):
    model = quantifier(head)
    model.calibration = CALIBRATION
    found = model.quantify(_above(head.scan, -4.0), About(domain="phantom", thickness_mm=3.0))
    assert 0.5 < found.coverage.fraction < 0.95
    assert "ROI_PARTIAL" in found.flags
    assert found.burden_group is None
    volume = found.measurement.total.volume_mm3
    assert (found.bounds.low_mm3, found.bounds.high_mm3) == (pytest.approx((volume + 1) / 2 - 1), None)
    assert found.bounds.groups[-1] == 4
    with pytest.raises(DataError) as refused:
        model.quantify(_above(head.scan, 16.0), About(domain="phantom"))
    assert refused.value.code == "ROI_ABSENT"


def test_a_model_of_something_else_is_refused(head):
    volumes = InputSpec(shape=(8, 8, 8), spacing_mm=(1.0, 1.0, 1.0), windows_hu=((0.0, 100.0),), kind="volume")
    for described in (card(label_names={1: "liver"}), card(input=volumes)):
        with pytest.raises(ModelError, match="does not segment calcium"):
            Quantifier(KnowsTheCalcium(head, described), templates_of(()), QuantifyConfig())


def _forbidden(*_arguments: object) -> None:
    raise AssertionError("computed what was done already, or must not be")


def _first(stack, count: int):
    return replace(
        stack,
        shape=(count, *stack.shape[1:]),
        origins_ras_mm=stack.origins_ras_mm[:count],
        thickness_mm=stack.thickness_mm[:count],
    )


def _above(scan: Scan, height_mm: float) -> Scan:
    """The slices from so far above the middle of the carotids on."""
    stack = scan.stack
    middle = np.array([5.0, -9.0, 14.0])
    first = int(np.searchsorted(stack.positions_mm, middle @ stack.normal_ras + height_mm))
    kept = replace(
        stack,
        shape=(stack.shape[0] - first, *stack.shape[1:]),
        origins_ras_mm=stack.origins_ras_mm[first:],
        thickness_mm=stack.thickness_mm[first:],
    )
    padding = None if scan.is_padding is None else scan.is_padding[first:]
    return Scan(voxels_hu=scan.voxels_hu[first:], stack=kept, is_padding=padding)


def test_more_than_two_templates_are_refused(tmp_path):
    with pytest.raises(Exception, match="two ranges of age"):
        templates_of([tmp_path / "a", tmp_path / "b", Path("c")])


def test_what_holds_no_series_says_so_and_names_the_table(tmp_path):
    with pytest.raises(DataError, match="does not exist") as refused:
        inputs_of(tmp_path / "nowhere", tmp_path / "out")
    assert refused.value.code == "MISSING_FILE"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_text("nonsense")
    with pytest.raises(DataError, match="no DICOM series") as refused:
        inputs_of(tmp_path / "in", tmp_path / "out")
    assert refused.value.code == "NOT_DICOM"
    assert "a.dcm" in (tmp_path / "out" / "manifest.inputs.csv").read_text()
