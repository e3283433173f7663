"""Calibration against volumes counted by brute force, and what it says when there is too little to count."""

from dataclasses import replace

import numpy as np
import pytest

from apatite.calcium.measure import volume_mm3
from apatite.calibrate.calibration import calibration_of
from apatite.calibrate.interval import fit_interval
from apatite.calibrate.logit_histogram import logit_histogram
from apatite.calibrate.thickness import thickness_group
from apatite.calibrate.threshold import THRESHOLDS
from apatite.core.errors import ConfigError, DataError
from apatite.io.manifest import manifest_digest, read_manifest
from apatite.io.model_package import copy_calibrated, read_package
from apatite.segment.predict import open_predictor
from apatite.study import calibrate as study_calibrate
from apatite.study.calibrate import CalibrateConfig, calibrate, choose, divide
from apatite.study.cases import predict_cases
from apatite.study.development import Curves, Development, LabelLogits, _curve, measure

QUICK = CalibrateConfig(resamples=50)


@pytest.fixture
def predictor(tuned, sees_hu):
    return open_predictor(tuned)


def development(study):
    manifest = read_manifest(study.manifest)
    return manifest, manifest.of_split("development")


def test_the_curve_is_a_count_on_the_original_slices(predictor, head_study):
    manifest, cases = development(head_study)
    for seen in predict_cases(predictor, manifest, cases[1:4], "looking"):
        # As if the region ended in the middle of the calcium: neither side counts what lies beyond.
        is_counted = seen.prediction.is_counted.copy()
        is_counted[..., int(np.argwhere(seen.reference)[:, 2].mean()) :] = False
        found = replace(seen, prediction=replace(seen.prediction, is_counted=is_counted))
        counted, hu, stack = found.prediction.is_counted, found.scan.voxels_hu, found.scan.stack
        for gate in (None, 130.0):
            curve, reference, case = _curve(found, 0, 1, gate)
            for at in (20, 90, 150):
                is_calcium = counted & (found.prediction.probability[0].astype(float) >= THRESHOLDS[at])
                if gate is not None:
                    is_calcium &= hu >= 130
                assert curve[at] == pytest.approx(volume_mm3(is_calcium, stack), rel=1e-9)
            assert reference == pytest.approx(volume_mm3((found.reference == 1) & counted, stack), rel=1e-9)
            assert case == found.case


def test_it_brings_the_volumes_nearer_and_survives_the_package(predictor, head_study, tuned, tmp_path):
    manifest, cases = development(head_study)
    found = calibrate(predictor, manifest, cases, QUICK, model_digest=predictor.digest)
    assert (found.model_digest, found.data_digest) == (predictor.digest, manifest_digest(manifest))
    # 1/2 at 300 HU is no calibrated probability of what the rule marks at 130; seven patients allow no interval.
    assert found.temperatures[1].nll_after < found.temperatures[1].nll_before
    assert (found.temperatures[1].num_cases, found.intervals) == (7, {})
    assert (found.num_cases, found.domains, set(found.fits), set(found.fits[1])) == (
        7, ["phantom"], {1}, {"ungated", "gated"},
    )  # fmt: skip
    for fit in found.fits[1].values():
        # 1/2 lies at 300 HU, the rule at 130: the threshold has to fall.
        assert fit.threshold < 0.4
        assert fit.error_after_mm3 < 0.7 * fit.error_before_mm3
        assert fit.num_cases == 7
    volumes = {}
    for threshold in (0.5, found.threshold(1, "ungated")):
        differences = [
            volume_mm3(case.prediction.is_counted & (case.prediction.probability[0] >= threshold), case.scan.stack)
            - volume_mm3((case.reference == 1) & case.prediction.is_counted, case.scan.stack)
            for case in predict_cases(predictor, manifest, cases, "looking")
        ]
        volumes[threshold] = float(np.mean(np.abs(differences)))
    fit = found.fits[1]["ungated"]
    assert volumes == pytest.approx({0.5: fit.error_before_mm3, fit.threshold: fit.error_after_mm3}, rel=1e-6)
    assert set(found.burden) == {"ungated", "gated"}
    copy_calibrated(tuned / "model", tmp_path / "copy", found.to_dict(), found.domains, found.burden_dict())
    card = read_package(tmp_path / "copy").card
    assert calibration_of(card.calibration, card.burden, card.domains["calibration"]) == found
    assert read_package(tuned / "model").card.calibration is None


def test_empty_cases_are_left_out_when_asked(predictor, head_study):
    manifest, cases = development(head_study)
    found = calibrate(predictor, manifest, cases, replace(QUICK, drop_empty_cases=True))
    assert found.fits[1]["ungated"].num_cases == 6


def test_too_few_cases(predictor, head_study):
    manifest, cases = development(head_study)
    with pytest.raises(DataError) as caught:
        calibrate(predictor, manifest, cases[:4], QUICK)
    assert caught.value.code == "TOO_FEW_CASES"
    assert caught.value.fix
    with pytest.raises(DataError) as caught:
        calibrate(predictor, manifest, (), QUICK)
    assert caught.value.code == "EMPTY_SPLIT"
    # A label that was looked for in too few cases is left at 0.5; the other one is calibrated.
    names = {1: "calcium", 2: "liver"}
    few = tuple(replace(case, annotated_labels=(1, 2) if n < 3 else (1,)) for n, case in enumerate(cases))
    predictor.card = replace(predictor.card, label_names=names)
    predictor.predict_on_grid = both_planes(predictor.predict_on_grid)
    found = calibrate(predictor, replace(manifest, cases=few, label_names=names), few, QUICK)
    assert set(found.fits) == {1}
    assert found.threshold(2, "gated") == 0.5


def both_planes(predict_on_grid):
    return lambda volume: np.repeat(predict_on_grid(volume), 2, axis=0)


def test_only_calcium_is_gated(predictor, head_study):
    manifest, cases = development(head_study)
    names = {1: "liver", 2: "calcium"}
    predictor.card = replace(predictor.card, label_names=names)
    predictor.predict_on_grid = both_planes(predictor.predict_on_grid)
    curves = measure(predictor, replace(manifest, label_names=names), cases).curves
    np.testing.assert_array_equal(curves[1, "gated"].curves_mm3, curves[1, "ungated"].curves_mm3)
    lowest = {reading: curves[2, reading].curves_mm3[:, 0].sum() for reading in ("gated", "ungated")}
    assert lowest["gated"] < lowest["ungated"]
    found = calibrate(predictor, replace(manifest, label_names=names), cases, QUICK)
    assert found.fits[1]["gated"] == found.fits[1]["ungated"]


def test_without_detectable_volumes_there_are_no_groups(predictor, head_study):
    manifest, cases = development(head_study)
    positive = [case for case in cases if case.case_id != "head-09"]
    empty = next(case for case in cases if case.case_id == "head-09")
    alone = tuple(
        replace(empty, case_id=f"empty-{n}", patient_id=f"empty-{n}") for n in range(3)
    )  # three cases without, three with calcium
    found = calibrate(predictor, manifest, (*positive[:3], *alone), QUICK)
    assert found.burden == {}
    assert set(found.fits[1]) == {"ungated", "gated"}


NAMES = {1: "calcium", 2: "liver"}


def synthetic(num_patients=47, names=NAMES, series=2):
    """Development cases without images: volumes that shrink with the threshold, a model that is too sure."""
    rng = np.random.default_rng(6)
    patients = [f"p{n % num_patients:02d}" for n in range(num_patients * series)]
    thickness_mm = [(1.0, 5.0, 2.5, 1.0, None)[n % num_patients % 5] for n in range(len(patients))]
    reference = rng.lognormal(3, 1, len(patients)) * (np.arange(len(patients)) % 7 > 0)
    steepness = rng.uniform(0.5, 1.5, len(patients))
    curves = (reference[:, None] + 4) * (1.4 - THRESHOLDS) ** steepness[:, None]
    histograms = []
    for _ in patients:
        logits = rng.normal(-1, 2, 120)
        is_marked = rng.random(120) < 1 / (1 + np.exp(-logits / 2))
        histograms.append(logit_histogram(1 / (1 + np.exp(-logits)), is_marked, np.ones(120)))
    of_cases = Curves(curves_mm3=curves, reference_mm3=reference, patients=patients, thickness_mm=thickness_mm)
    logits = LabelLogits(histograms=histograms, patients=patients, thickness_mm=thickness_mm)
    return Development(
        curves={(label, reading): of_cases for label in names for reading in ("ungated", "gated")},
        logits=dict.fromkeys(names, logits),
        two_voxels_mm3=0.5,
        label_names=names,
        patients=patients,
        thickness_mm=thickness_mm,
        domains=["phantom"],
    )


def test_patients_are_divided_whole_and_every_thickness_is_in_both_parts():
    development = synthetic()
    fitting, apart = divide(development, QUICK)
    assert apart is not None
    assert set(fitting.patients).isdisjoint(apart.patients)
    assert sorted(fitting.patients + apart.patients) == sorted(development.patients)
    assert (len(set(fitting.patients)), len(set(apart.patients))) == (24, 23)
    counts = [
        {group: sum(thickness_group(mm) == group for mm in part.thickness_mm) for group in ("≤ 1.5 mm", "3.5–6 mm", "")}
        for part in (fitting, apart)
    ]
    assert all(abs(counts[0][group] - counts[1][group]) <= 2 for group in counts[0])
    for part in (fitting, apart):
        assert part.curves[1, "gated"].patients == part.logits[1].patients == part.patients
        assert part.curves[1, "gated"].thickness_mm == part.thickness_mm
        assert len(part.curves[2, "ungated"].curves_mm3) == part.num_cases
    assert divide(development, QUICK)[1].patients == apart.patients
    assert divide(development, replace(QUICK, seed=1))[1].patients != apart.patients
    assert len(set(divide(synthetic(100), replace(QUICK, interval_share=0.3))[1].patients)) == 30


def test_nothing_is_kept_apart_where_it_gives_no_interval():
    # Two in five have the thinnest slices: 17 of 42 patients, 18 of 44, half of whom are put aside.
    assert divide(synthetic(42, series=3), QUICK)[1] is None
    assert divide(synthetic(44, series=1), QUICK)[1] is not None
    joined = replace(QUICK, interval=replace(QUICK.interval, merge="all"))
    assert divide(synthetic(17, series=3), joined)[1] is None
    assert divide(synthetic(18, series=1), joined)[1] is not None
    assert divide(synthetic(), replace(QUICK, interval_share=0.0))[1] is None
    assert divide(synthetic(), replace(QUICK, interval_share=0.1))[1] is None
    assert divide(synthetic(names={1: "spleen", 2: "liver"}), QUICK)[1] is None
    for share in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="interval share"):
            CalibrateConfig(interval_share=share)
    assert (QUICK.least_patients, replace(QUICK, interval=replace(QUICK.interval, sides="signed")).least_patients) == (
        9, 19,
    )  # fmt: skip


def test_no_patient_of_the_interval_has_a_part_in_threshold_or_temperature(monkeypatch):
    """By patient: what each fit is given, and what it would give without the others."""
    seen = {}

    def spy(name, patients_at):
        original = getattr(study_calibrate, name)

        def noted(*args, **kwargs):
            seen.setdefault(name, set()).update(args[patients_at])
            return original(*args, **kwargs)

        monkeypatch.setattr(study_calibrate, name, noted)

    spy("fit_threshold", 2)
    spy("fit_temperature", 1)
    spy("fit_interval", 2)
    development = synthetic()
    fitting, apart = divide(development, QUICK)
    found = choose(development, QUICK)
    assert seen == {
        "fit_threshold": set(fitting.patients),
        "fit_temperature": set(fitting.patients),
        "fit_interval": set(apart.patients),
    }
    alone = choose(fitting, replace(QUICK, interval_share=0.0))
    assert (alone.fits, alone.temperatures) == (found.fits, found.temperatures)
    assert set(found.intervals) == {"ungated", "gated"}
    assert found.num_cases == 94


def test_the_interval_is_that_of_the_volumes_at_the_chosen_threshold():
    development = synthetic()
    found = choose(development, QUICK)
    _, apart = divide(development, QUICK)
    curves, tau = apart.curves[1, "gated"], found.threshold(1, "gated")
    assert found.fits[1]["gated"].num_cases == 48
    predicted = curves.curves_mm3[:, tau == THRESHOLDS][:, 0]
    expected = fit_interval(predicted, curves.reference_mm3, curves.patients, curves.thickness_mm, QUICK.interval)
    assert found.intervals["gated"] == expected
    assert expected.interval(50.0, 1.0) is not None


def test_a_temperature_of_each_label_and_none_when_not_wanted():
    found = choose(synthetic(), QUICK)
    assert set(found.temperatures) == {1, 2}
    assert found.temperatures[1].temperature == pytest.approx(2.0, abs=0.25)
    assert found.temperatures[1].ece_after < found.temperatures[1].ece_before
    assert choose(synthetic(), replace(QUICK, fits_temperature=False)).temperatures == {}


def test_a_part_of_the_patients_is_all_there_is_of_it():
    development = synthetic()
    part = development.of_patients(["p03", "p07", "nobody"])
    assert (part.patients, part.num_cases) == (["p03", "p07"] * 2, 4)
    assert part.curves[1, "gated"].reference_mm3.tolist() == development.curves[1, "gated"].reference_mm3[
        [3, 7, 50, 54]
    ].tolist()  # fmt: skip
    assert [id(h) for h in part.logits[2].histograms] == [
        id(development.logits[2].histograms[row]) for row in (3, 7, 50, 54)
    ]
    assert development.of_patients([]).curves == {}
