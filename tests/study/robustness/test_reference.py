"""The reference of a level: the annotation where nothing changes; close to a perfect reader where something does."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apatite.calcium.measure import volume_mm3
from apatite.calcium.rule import annotate_calcium
from apatite.core.rng import generator
from apatite.core.scan import Scan, SliceStack
from apatite.ct.degrade.degradation import Degradation, degrade
from apatite.ct.degrade.texture import Blur, Noise, Offset
from apatite.ct.degrade.thickness import ThickSlices
from apatite.metrics.overlap import overlap
from apatite.phantom.density import Tissue
from apatite.phantom.protocol import Protocol
from apatite.phantom.reader import read_perfectly
from apatite.phantom.scanner import acquire, lay_slices, make_pose
from apatite.study.robustness.reference import added_by_calcium, calcium_reference, label_reference

SHAPE = (7, 12, 15)


def a_scan(voxels) -> Scan:
    stack = SliceStack(
        shape=voxels.shape,
        origins_ras_mm=np.arange(float(len(voxels)))[:, None] * np.array([0.0, 0.0, 1.0]),
        column_step_ras_mm=np.array([0.8, 0.0, 0.0]),
        row_step_ras_mm=np.array([0.0, 0.5, 0.0]),
        thickness_mm=np.full(len(voxels), 1.0),
    )
    return Scan(voxels_hu=voxels, stack=stack)


@given(st.integers(0, 2**31))
def test_without_a_degradation_it_is_the_annotation_and_an_empty_one_stays_empty(seed):
    draw = generator(seed, "reference")
    scan = a_scan(draw.integers(0, 400, SHAPE).astype(np.int16))
    is_annotated = annotate_calcium(scan.voxels_hu, draw.random(SHAPE) < 0.2)
    assert calcium_reference(scan, is_annotated, scan, None) is is_annotated
    thick = degrade(scan, level := ThickSlices(level=3.0), "k")
    none = calcium_reference(scan, np.zeros(SHAPE, dtype=bool), thick, level)
    assert none.shape == thick.stack.shape
    assert not none.any()
    # An offset up and none of the rest: what was annotated stays, and only the low rim can join.
    higher = degrade(scan, offset := Offset(level=10.0), "k")
    found = calcium_reference(scan, is_annotated, higher, offset)
    assert (found >= is_annotated).all()
    assert (scan.voxels_hu[found & ~is_annotated] < 130).all()
    assert (scan.voxels_hu[found & ~is_annotated] >= 120).all()


def test_by_hand_calcium_fades_into_a_thick_slice_and_bone_beside_it_never_counts():
    voxels = np.full(SHAPE, 40, np.int16)
    voxels[3, 4, 5:7] = 440
    voxels[:, 8:, 5:7] = 900
    is_annotated = np.zeros(SHAPE, dtype=bool)
    is_annotated[3, 4, 5:7] = True
    scan = a_scan(voxels)
    assert added_by_calcium(scan, is_annotated).sum() == 2 * 400
    counts = {}
    for level in (3.0, 7.0):
        way = ThickSlices(level=level)
        found = calcium_reference(scan, is_annotated, degrade(scan, way, "k"), way)
        assert not found[:, 8:].any()
        counts[level] = int(found.sum())
    # 400 HU over 3 slices are 133 of them, and 173 with the 40 below; over 7 only 57, and 97.
    assert counts == {3.0: 2, 7.0: 0}


def test_the_low_rim_counts_and_what_was_passed_over_does_not():
    voxels = np.full(SHAPE, 40, np.int16)
    voxels[2:5, 4, 5:7] = 400
    voxels[2:5, 5, 5:7] = 125
    voxels[2:5, 3, 5:7] = 150
    is_annotated = np.zeros(SHAPE, dtype=bool)
    is_annotated[2:5, 4, 5:7] = True
    scan = a_scan(voxels)
    way = Offset(level=10.0)
    found = calcium_reference(scan, is_annotated, degrade(scan, way, "k"), way)
    assert found[3, 3:6, 5].tolist() == [False, True, True]


def test_other_labels_keep_voxels_more_than_half_of_which_were_marked():
    is_annotated = np.zeros(SHAPE, dtype=bool)
    is_annotated[1:4, 2:6, 3:9] = True
    scan = a_scan(np.zeros(SHAPE, np.int16))
    found = label_reference(scan, is_annotated, ThickSlices(level=2.0))
    # Seven slices in four of 2 mm that reach half a millimetre beyond: 1 and a half, then a half, one and a half, …
    shares = ThickSlices(level=2.0).spread(is_annotated.astype(np.float32), None, scan.stack)[:, 3, 4]
    assert shares == pytest.approx([1 / 3, 1, 1 / 4, 0])
    assert found[:, 3, 4].tolist() == [False, True, False, False]
    assert label_reference(scan, is_annotated, None) is is_annotated
    assert np.array_equal(label_reference(scan, is_annotated, Noise(level=40.0)), is_annotated)


def a_vessel(density_hu: float, size_mm3: float) -> Tissue:
    """An upright ellipsoid in an artery, with bone 2.5 mm beside it."""
    step, width = 0.35, (size_mm3 * 3 / (8 * np.pi)) ** (1 / 3)
    z, y, x = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * step for n in (68, 56, 60)], indexing="ij")
    values = np.zeros((*z.shape, 4), dtype=np.float32)
    is_calcium = (x / width) ** 2 + (y / width) ** 2 + (z / (2 * width)) ** 2 <= 1
    values[..., 0] = np.where(x > width + 2.5, 900, 40)
    values[..., 1] = is_calcium * (density_hu - 40)
    values[..., 2] = x**2 + y**2 < (width + 1.2) ** 2
    return Tissue(values=values, step_mm=step)


def scanned(tissue: Tissue, protocol: Protocol, stack: SliceStack | None = None, seed: int = 0):
    stack = lay_slices(protocol, np.zeros(3), 0.3) if stack is None else stack
    return acquire(tissue, make_pose(protocol, np.zeros(3)), protocol, stack, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("way", "least"),
    [(ThickSlices(level=3.0), 0.9), (ThickSlices(level=5.0), 0.85), (Blur(level=0.6), 0.9), (Noise(level=20.0), 0.9)],
    ids=["3 mm", "5 mm", "blur", "noise"],
)
def test_it_agrees_with_a_perfect_reader_of_the_same_slices(way: Degradation, least: float):
    thin = Protocol(thickness_mm=1.0, spacing_mm=1.0, noise_hu=4.0)
    first = scanned(a_vessel(500, 80), thin)
    scan = degrade(first.scan, way, "k")
    through = replace(
        first,
        scan=scan,
        excess_hu=way.spread(first.excess_hu, None, first.scan.stack),
        artery=way.spread(first.artery, None, first.scan.stack),
        artery_seen=way.spread(first.artery_seen, None, first.scan.stack),
        bone=way.spread(first.bone, None, first.scan.stack),
    )
    made = calcium_reference(first.scan, read_perfectly(first), scan, way)
    assert overlap(made, read_perfectly(through)).dice >= least


def test_faint_small_calcium_fades_with_thickness_and_dense_calcium_over_reads():
    """The direction of the simulation at 1, 5 and 10 mm: 5 mm³ of 300 HU vanish, of 700 HU read twice as large."""
    thin = Protocol(thickness_mm=1.0, spacing_mm=1.0, noise_hu=0.0)
    ratios: dict[int, list[float]] = {}
    for density in (300, 700):
        first = scanned(a_vessel(density, 5.0), thin)
        is_annotated = read_perfectly(first)
        ratios[density] = [volume_mm3(is_annotated, first.scan.stack) / 5.0]
        for level in (5.0, 10.0):
            way = ThickSlices(level=level)
            made = degrade(first.scan, way, "k")
            is_read = calcium_reference(first.scan, is_annotated, made, way)
            ratios[density].append(volume_mm3(is_read, made.stack) / 5.0)
    assert ratios[300][0] == pytest.approx(1.0, abs=0.35)
    assert ratios[300][1] < 0.75 * ratios[300][0]
    assert ratios[300][2] == 0
    assert ratios[700][0] > 1.7
    assert ratios[700][1] > ratios[700][0]


def test_averaging_is_like_scanning_thicker():
    thin = Protocol(thickness_mm=1.0, spacing_mm=1.0, noise_hu=0.0)
    thick = replace(thin, thickness_mm=5.0, spacing_mm=5.0)
    tissue = a_vessel(700, 60)
    first = scanned(tissue, thin)
    averaged = degrade(first.scan, ThickSlices(level=5.0), "k")
    again = scanned(tissue, thick, averaged.stack)
    difference = averaged.voxels_hu - again.scan.voxels_hu
    assert np.abs(difference).mean() < 2
    assert np.abs(difference[again.excess_hu > 100].mean()) < 10
