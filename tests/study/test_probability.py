"""What an evaluation says of probabilities: judged on the evaluated cases, voxel by voxel, and shown on its page."""

import json
from dataclasses import replace

import numpy as np
import pytest

from apatite.calibrate.interval import IntervalFitConfig, fit_interval
from apatite.calibrate.reliability import ScoreConfig
from apatite.calibrate.soft_volume import soft_agreement
from apatite.io.manifest import read_manifest
from apatite.segment.predict import open_predictor
from apatite.study.calibrate import CalibrateConfig, calibrate
from apatite.study.cases import predict_cases
from apatite.study.evaluate import EvaluateConfig, evaluate
from apatite.study.intervals import IntervalConfig
from apatite.study.judge import CALIBRATED, judge
from apatite.study.probability import ProbabilityRecord, histogram_of, is_summed
from apatite.study.probability_json import probability_json
from apatite.study.probability_sections import interval_section, probability_section
from apatite.study.sections import evaluation_sections

QUICK = IntervalConfig(resamples=60)
CONFIG = EvaluateConfig(intervals=IntervalConfig(resamples=5, method="percentile"))


@pytest.fixture
def predictor(tuned, sees_hu):
    return open_predictor(tuned)


@pytest.fixture
def judged(predictor, head_study):
    """Judged test cases: manifest, calibration, outcomes, and what was recorded."""
    manifest = read_manifest(head_study.manifest)
    calibration = calibrate(predictor, manifest, manifest.of_split("development"), CalibrateConfig(resamples=20))
    volumes = np.linspace(1.0, 600.0, 24)
    names, thickness = [str(n) for n in range(24)], [2.5] * 24
    fit = fit_interval(volumes, 1.2 * volumes, names, thickness, IntervalFitConfig(coverage=0.8))
    # Slices of 2.5 mm and of 3 mm get temperatures of their own.
    steep = replace(calibration.temperatures[1], slope=0.8, seen_mm=(2.0, 3.0))
    calibration = replace(calibration, temperatures={1: steep}, intervals={"gated": fit, "ungated": fit})
    record = ProbabilityRecord(calibration=calibration, label_names=manifest.label_names)
    outcomes = judge("hu", predictor, calibration, manifest, manifest.of_split("test"), see=record.see)
    return manifest, calibration, outcomes, record


def doubtful(found):
    """The same case, with next to no probability in soft tissue."""
    return replace(found, prediction=replace(found.prediction, probability=found.prediction.probability**4))


def test_the_histogram_of_a_case_is_that_of_its_band(predictor, head_study):
    manifest = read_manifest(head_study.manifest)
    for found in map(doubtful, predict_cases(predictor, manifest, manifest.of_split("test")[:3], "looking")):
        probability, is_reference = found.prediction.probability[0], found.reference == 1
        is_near = np.zeros_like(is_reference)
        for slice_, row, column in np.argwhere(is_reference):
            low = [max(place - 2, 0) for place in (slice_, row, column)]
            is_near[low[0] : slice_ + 3, low[1] : row + 3, low[2] : column + 3] = True
        is_band = ((found.scan.voxels_hu >= 100) | (probability >= 0.01) | is_near) & found.prediction.is_counted
        histogram = histogram_of(found, 0, manifest.label_names)
        assert histogram.num_voxels == np.count_nonzero(is_band)
        voxel_mm3 = np.broadcast_to(found.scan.stack.pixel_mm2, is_band.shape)
        gaps = np.diff(found.scan.stack.positions_mm)
        inner = (gaps[:-1] + gaps[1:]) / 2  # of the slices between the first and the last
        weight = (voxel_mm3[1:-1] * inner[:, None, None])[is_band[1:-1] & is_reference[1:-1]].sum()
        ends = is_reference[[0, -1]].any()
        assert ends or histogram.weight_mm3[1].sum() == pytest.approx(weight)


def test_it_is_judged_on_the_evaluated_cases(judged, predictor):
    manifest, calibration, outcomes, record = judged
    found = record.findings(outcomes[f"hu{CALIBRATED}"], QUICK)
    of_label = found.labels[1]
    before, after = [], []
    for case in predict_cases(predictor, manifest, manifest.of_split("test"), "looking"):
        histogram = histogram_of(case, 0, manifest.label_names)
        pairs = [(histogram.weight_mm3[row], histogram.logit[row], row) for row in (0, 1)]
        scale = calibration.temperatures[1].scale(case.case.slice_thickness_mm)
        for values, (temperature, offset) in ((before, (1.0, 0.0)), (after, scale)):
            total = sum((w * np.logaddexp(0, (1 - 2 * y) * (z / temperature + offset))).sum() for w, z, y in pairs)
            values.append(total / histogram.weight_mm3.sum())
    assert of_label.before.nll.value == pytest.approx(np.mean(before))
    assert of_label.after.nll.value == pytest.approx(np.mean(after))
    assert of_label.before.num_cases == 7
    assert found.promised == 0.8
    rows = [o for o in outcomes[f"hu{CALIBRATED}"] if o.hu_gate == 130.0]
    expected = soft_agreement(
        np.array([o.soft_mm3 for o in rows]), np.array([o.reference_mm3 for o in rows]), [o.patient_id for o in rows],
        ScoreConfig(resamples=60),
    )  # fmt: skip
    assert of_label.soft[130.0] == expected
    assert set(of_label.soft) == {None, 130.0}


def test_without_a_temperature_nothing_is_recorded(predictor, head_study):
    manifest = read_manifest(head_study.manifest)
    record = ProbabilityRecord(calibration=None, label_names=manifest.label_names)
    judge("hu", predictor, None, manifest, manifest.of_split("test")[:1], see=record.see)
    found = record.findings([], QUICK)
    assert (dict(found.labels), found.promised, record.seen) == ({}, None, {})


def test_what_was_not_looked_for_is_not_judged(judged, predictor):
    manifest, calibration, _, _ = judged
    names = {1: "calcium", 2: "liver"}
    (case,) = manifest.of_split("test")[1:2]
    predictor.card = replace(predictor.card, label_names=names)
    single = predictor.predict_on_grid
    predictor.predict_on_grid = lambda volume: np.concatenate([single(volume), 0.2 * single(volume)])
    both = replace(calibration, temperatures={1: calibration.temperatures[1], 2: calibration.temperatures[1]})
    for annotated in ((1,), (1, 2)):
        asked = replace(case, annotated_labels=annotated)
        record = ProbabilityRecord(calibration=both, label_names=names)
        judge("hu", predictor, both, replace(manifest, cases=(asked,), label_names=names), (asked,), see=record.see)
        assert tuple(record.seen) == annotated


def test_which_voxels_are_summed(predictor, head_study):
    manifest = read_manifest(head_study.manifest)
    (found,) = map(doubtful, predict_cases(predictor, manifest, manifest.of_split("test")[1:2], "looking"))
    counted, hu, probability = found.prediction.is_counted, found.scan.voxels_hu, found.prediction.probability[0]
    for names, reading, expected in (
        ({1: "calcium"}, "gated", counted & (hu >= 130)),
        ({1: "calcium"}, "ungated", counted & ((hu >= 100) | (probability >= 0.01))),
        ({1: "liver", 2: "calcium"}, "gated", counted & (probability >= 0.01)),
    ):
        np.testing.assert_array_equal(is_summed(found, 0, reading, names), expected)
        assert 0 < np.count_nonzero(expected) < 0.5 * np.count_nonzero(counted)


def test_the_page_and_the_summary(judged):
    manifest, _, outcomes, record = judged
    calibrated = f"hu{CALIBRATED}"
    found = record.findings(outcomes[calibrated], QUICK)
    evaluation = evaluate(outcomes, CONFIG, label_names=manifest.label_names, probability={calibrated: found})
    section = probability_section(evaluation, 1)
    assert section is not None
    scores, soft = section.tables
    assert [row[:2] for row in scores.rows] == [[calibrated, "as given"], ["", "calibrated"]]
    assert scores.rows[1][4:6] == [found.labels[1].after.ece, found.labels[1].after.ece_found]
    assert "7 cases" in scores.caption
    assert [row[3] for row in soft.rows] == [found.labels[1].soft[None].slope, found.labels[1].soft[130.0].slope]
    assert len(section.figures) == 1
    intervals = interval_section(evaluation, 1)
    assert intervals is not None
    rows = [o for o in outcomes[calibrated] if o.hu_gate is None]
    covered = [o.low_mm3 <= o.reference_mm3 <= o.high_mm3 for o in rows]
    first = dict(zip(intervals.tables[0].columns, intervals.tables[0].rows[0], strict=True))
    assert (first["cases"], first["promised"], first["coverage"].value) == (7, 0.8, pytest.approx(np.mean(covered)))
    titles = [section.title for section in evaluation_sections(evaluation)]
    assert titles.index("Probability") + 1 == titles.index("Interval on the volume")
    text = json.dumps(probability_json(evaluation), allow_nan=False)
    values = json.loads(text)[calibrated]
    assert values["labels"]["1"]["after"]["ece"]["value"] == found.labels[1].after.ece.value
    assert {cover["hu_gate"] for cover in values["coverage"]} == {None, 130.0}
    # Without calibrated models neither part is there.
    plain = evaluate({"hu": outcomes["hu"]}, CONFIG, label_names=manifest.label_names)
    assert {"Probability", "Interval on the volume"}.isdisjoint(s.title for s in evaluation_sections(plain))


def test_several_labels_have_a_classwise_error(judged):
    _, _, outcomes, record = judged
    calibrated = f"hu{CALIBRATED}"
    found = record.findings(outcomes[calibrated], QUICK)
    doubled = {name: [*rows, *(replace(row, label=2) for row in rows)] for name, rows in outcomes.items()}
    both = replace(found, labels={1: found.labels[1], 2: found.labels[1]})
    evaluation = evaluate(doubled, CONFIG, label_names={1: "calcium", 2: "liver"}, probability={calibrated: both})
    first, second = (probability_section(evaluation, label) for label in (1, 2))
    assert "Classwise ACE" in first.tables[0].caption
    assert "Classwise" not in second.tables[0].caption
    assert "130" not in second.text[0]
