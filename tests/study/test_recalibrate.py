"""A site whose scanner reads brighter: the fit moves the threshold, and what is reported did not see the patient."""

import json
import math
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from apatite.calcium.burden import BurdenCuts
from apatite.calibrate.calibration import Calibration, calibration_of
from apatite.calibrate.logit_histogram import Scale
from apatite.calibrate.threshold import ThresholdFit
from apatite.core.errors import DataError
from apatite.core.volume import Estimate
from apatite.io.manifest import Case, read_manifest
from apatite.io.model_package import copy_calibrated, read_package
from apatite.io.store import Prepared
from apatite.segment.predict import NativePrediction
from apatite.study.calibrate import CalibrateConfig, choose
from apatite.study.development import measure
from apatite.study.evaluate import EvaluateConfig, evaluate
from apatite.study.intervals import IntervalConfig
from apatite.study.judge import judge
from apatite.study.recalibrate import AFTER, BEFORE, Recalibration, recalibrate
from apatite.study.recalibrate_files import write_recalibration
from apatite.study.recalibrate_verdict import verdict_of
from apatite.study.site_fit import RecalibrateConfig, fit_site, folds_of, volumes_without_own

QUICK = RecalibrateConfig(resamples=60)


class SeesHu:
    """Says 1/2 at some HU, and counts what it was asked."""

    label_values = (1,)

    def __init__(self, half_hu: float = 300.0) -> None:
        self.half_hu = half_hu
        self.asked: list[str] = []

    def predict_case(self, case: Case, scan) -> NativePrediction:
        self.asked.append(case.case_id)
        probability = 1 / (1 + np.exp(-(scan.voxels_hu.astype(np.float32) - self.half_hu) / 40))
        return NativePrediction(
            probability=probability[None].astype(np.float32),
            is_counted=np.ones(scan.stack.shape, bool),
            label_values=(1,),
        )


def fit_of(threshold: float) -> ThresholdFit:
    return ThresholdFit(
        threshold=threshold,
        objective="mae",
        error_before_mm3=2.0,
        error_after_mm3=1.0,
        objective_before=2.0,
        objective_after=1.0,
        num_cases=9,
        resampled_thresholds=(),
        low=threshold,
        high=threshold,
    )


CUTS = BurdenCuts(definition="deployed", cuts_mm3=(5.0, 6.0, 7.0), none_below_mm3=1.0, source="elsewhere")
OLD = Calibration(
    fits={1: {"gated": fit_of(0.2), "ungated": fit_of(0.3)}}, burden={"gated": CUTS}, num_cases=9, domains=["real"]
)


@pytest.fixture(scope="module")
def site(head_study):
    """12 labelled patients, of several splits."""
    manifest = read_manifest(head_study.manifest)
    return manifest, manifest.of_split("finetune", "development", "test")[:12]


@pytest.fixture(scope="module")
def found(site) -> Recalibration:
    manifest, cases = site
    return recalibrate(SeesHu(), None, manifest, cases, QUICK, model_digest="a" * 64)


def test_the_threshold_follows_the_site_and_lowers_the_error_out_of_sample(found):
    # The rule marks 130 HU and more, where this model says 0.014: half is far too high for it.
    new = found.site.calibration.threshold(1, "gated")
    assert new < 0.1
    error = {
        name: np.mean([abs(row.volume_difference_mm3) for row in rows if row.hu_gate is not None])
        for name, rows in found.outcomes.items()
    }
    assert error[AFTER] < 0.5 * error[BEFORE]
    assert {len(rows) for rows in found.outcomes.values()} == {2 * 12}
    assert (found.num_patients, found.num_folds) == (12, 5)
    folds = found.fold_thresholds[1, "gated"]
    assert 1 <= len(folds) <= 5
    assert 0 < folds[0] <= folds[-1] < 0.1


def test_before_is_the_model_as_it_came(site, found):
    manifest, cases = site
    plain = judge("plain", SeesHu(), None, manifest, cases)["plain"]
    assert found.outcomes[BEFORE] == plain


def test_no_patient_has_a_part_in_the_fit_that_reads_him(site, found):
    manifest, cases = site
    development = measure(SeesHu(), manifest, cases)
    folds = folds_of(development.patients, development.thickness_mm, 5, QUICK.seed)
    case = cases[7]
    (own,) = [fold for fold in folds if case.patient_id in fold]
    without = development.of_patients(set(development.patients) - own)
    by_hand = fit_site(without, None, replace(QUICK, resamples=0)).calibration
    expected = judge("x", SeesHu(), by_hand, manifest, [case])["x + calibrated"]
    assert [row for row in found.outcomes[AFTER] if row.case_id == case.case_id] == expected
    # And within that fit the interval's distances come from thresholds without the patient, too.
    left_out = volumes_without_own(development, None, QUICK)[1, "gated"]
    settings = CalibrateConfig(interval_share=0.0, resamples=0)
    threshold = choose(without, settings).threshold(1, "gated")
    row = next(row for row in judge("x", SeesHu(), replace(by_hand, fits={1: {"gated": fit_of(threshold)}}), manifest,
                                    [case])["x + calibrated"] if row.hu_gate)  # fmt: skip
    assert left_out[development.patients.index(case.patient_id)] == pytest.approx(row.predicted_mm3)


def test_each_case_is_predicted_twice_however_many_fits_there_are(site):
    manifest, cases = site
    model = SeesHu()
    recalibrate(model, None, manifest, cases[:10], QUICK)
    assert sorted(model.asked) == sorted([case.case_id for case in cases[:10]] * 2)


def test_the_interval_joins_what_is_too_small_and_says_so(found):
    fit = found.site.calibration.intervals["gated"]
    assert fit.groups["1.5–3.5 mm"].num_cases == 12
    # Heads of 2.5 and 3 mm are one group; a site of two joins them by name.
    assert fit.groups["≤ 1.5 mm"].above is None


def test_two_small_groups_of_a_site_are_joined(site):
    manifest, cases = site
    mixed = [replace(case, slice_thickness_mm=5.0 if number % 2 else 2.5) for number, case in enumerate(cases)]
    calibration = recalibrate(SeesHu(), None, manifest, mixed, QUICK).site.calibration
    group = calibration.intervals["gated"].groups["3.5–6 mm"]
    assert (group.num_cases, group.joined) == (12, ("1.5–3.5 mm", "3.5–6 mm"))
    assert "joined" in " ".join(calibration.intervals["gated"].sentences())


def test_the_old_threshold_can_stay(site):
    manifest, cases = site
    kept = recalibrate(SeesHu(), OLD, manifest, cases, replace(QUICK, keeps_threshold=True))
    calibration = kept.site.calibration
    assert (calibration.threshold(1, "gated"), calibration.threshold(1, "ungated")) == (0.2, 0.3)
    assert calibration.intervals
    assert calibration.temperatures
    assert calibration.domains == ["phantom"]
    assert calibration.burden == OLD.burden
    before, after = ([row.predicted_mm3 for row in kept.outcomes[name]] for name in (BEFORE, AFTER))
    assert before == after
    assert verdict_of(kept, evaluated(kept), 1).sentence == "The threshold stays at 0.200."
    # Before is the model with its own calibration.
    as_it_came = judge("old", SeesHu(), OLD, manifest, cases[3:5])["old + calibrated"]
    assert [row for row in kept.outcomes[BEFORE] if row.case_id in {row.case_id for row in as_it_came}] == as_it_came


def test_few_patients_are_refused_before_anything_is_predicted(site):
    manifest, cases = site
    model = SeesHu()
    few = [replace(case, patient_id=f"p{number % 9}") for number, case in enumerate(cases)]
    with pytest.raises(DataError, match="9 patients of a site are too few") as refused:
        recalibrate(model, None, manifest, few, QUICK)
    assert refused.value.code == "TOO_FEW_CASES"
    assert model.asked == []


def evaluated(found: Recalibration):
    return evaluate(found.outcomes, EvaluateConfig(intervals=IntervalConfig(resamples=60)), label_names={1: "calcium"})


@pytest.mark.parametrize(
    ("gain", "word", "is_better"),
    [
        (Estimate(value=-9.0, low=-15.0, high=-2.0, unit="mm³", coverage=0.95), "Use the new threshold", True),
        (Estimate(value=-9.0, low=-19.0, high=2.0, unit="mm³", coverage=0.95), "the interval covers 0", False),
        (Estimate(value=9.0, low=1.0, high=12.0, unit="mm³", coverage=0.95), "which is worse", False),
    ],
)
def test_the_verdict_follows_the_interval_of_the_gain(found, gain, word, is_better):
    evaluation = evaluated(found)
    changed = replace(
        evaluation,
        differences=tuple(
            replace(d, estimate=gain) if (d.quantity, d.hu_gate) == ("volume_error_all_mm3", 130.0) else d
            for d in evaluation.differences
        ),
    )
    verdict = verdict_of(found, changed, 1)
    assert word in verdict.sentence
    assert verdict.is_better == is_better
    assert verdict.gain == gain


def test_what_is_written(found, head_study, tuned, tmp_path):
    package = tmp_path / "old"
    copy_calibrated(tuned / "model", package, OLD.to_dict(), ["real"], OLD.burden_dict())
    fitted = replace(found.site, calibration=replace(found.site.calibration, burden=OLD.burden))
    written = write_recalibration(
        replace(found, old=OLD, site=fitted), package, Prepared.open(head_study.prepared), tmp_path / "new"
    )
    assert sorted(path.name for path in written.folder.iterdir()) == [
        "cases.csv", "model", "recalibration.html", "recalibration.json",
    ]  # fmt: skip
    before, after = read_package(package), read_package(written.package)
    assert before.digest != after.digest
    for name, weights in before.weights.items():
        np.testing.assert_array_equal(after.weights[name], weights)
    assert after.card.domains["calibration"] == ["phantom"]
    assert after.card.burden == before.card.burden
    read = calibration_of(after.card.calibration, after.card.burden, ["phantom"])
    assert read is not None
    assert read.threshold(1, "gated") == found.site.calibration.threshold(1, "gated")
    assert read.intervals == found.site.calibration.intervals
    assert (read.model_digest, len(read.data_digest)) == ("a" * 64, 64)
    values = json.loads((written.folder / "recalibration.json").read_text())
    assert values["verdicts"]["1"]["is_better"] is True
    lines = {(line["label"], line["reading"]): line for line in values["after"]["bias_lines"]}
    assert lines[1, "gated"]["slope"] == found.site.lines[1, "gated"].slope
    page = written.report.read_text()
    for text in (
        "Use the new threshold",
        "Before and after",
        "Interval on the volume",
        "Bias line",
        "12 patients in 5 folds",
    ):
        assert text in page
    with pytest.raises(DataError, match="exists already"):
        write_recalibration(found, package, Prepared.open(head_study.prepared), tmp_path / "new")


def test_organs_have_no_interval_and_their_own_verdicts(body_study):
    manifest = read_manifest(body_study.manifest)
    patients = [replace(case, patient_id=f"q{number}") for number, case in enumerate(manifest.cases)]

    class SeesOrgans(SeesHu):
        label_values = (2, 5)

        def predict_case(self, case, scan):
            one = super().predict_case(case, scan)
            half = scan.stack.shape[2] // 2
            planes = np.concatenate([one.probability, one.probability])
            planes[0, ..., half:] = 0
            planes[1, ..., :half] = 0
            return replace(one, probability=planes, label_values=(2, 5))

    found = recalibrate(SeesOrgans(140.0), None, manifest, patients, QUICK)
    assert found.site.calibration.intervals == {}
    assert set(found.site.lines) == {(2, "ungated"), (5, "ungated")}
    assert set(found.site.calibration.fits) == {2, 5}
    evaluation = evaluated(replace(found, label_names=manifest.label_names))
    assert {found.deployed_reading(label) for label in evaluation.labels} == {"ungated"}
    assert math.isfinite(verdict_of(found, evaluation, 5).gain.value)


def test_probabilities_are_judged_with_temperature_and_offset(site, monkeypatch):
    """What is fitted without a patient is what is applied to him, both numbers of it."""
    module, seen = import_module("apatite.study.recalibrate"), []
    original = module.reliability

    def spy(histograms, patients, scales, config):
        seen.append(list(scales))
        return original(histograms, patients, scales, config)

    monkeypatch.setattr(module, "reliability", spy)
    manifest, cases = site
    recalibrate(SeesHu(), None, manifest, cases, QUICK, model_digest="a" * 64)
    before, after = seen
    assert all(scale == Scale(1.0) for scale in before)
    assert all(scale.offset != 0 and scale.temperature != 1 for scale in after)
