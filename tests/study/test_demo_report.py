from collections.abc import Sequence

import numpy as np
import pytest

from apatite.calibrate.threshold import fit_threshold
from apatite.report.figures.curves import CurvePanel
from apatite.report.figures.overlay import OverlayCase
from apatite.report.figures.reconstruction import Reconstruction
from apatite.report.html import Section, render_report
from apatite.study.demo_report import DemoFindings, ThresholdSearch, best_median_worst, case_title, demo_sections
from apatite.study.evaluate import EvaluateConfig, evaluate
from apatite.study.intervals import IntervalConfig

QUICK = EvaluateConfig(intervals=IntervalConfig(resamples=40))


def titles(sections: Sequence[Section]) -> list[str]:
    return [section.title for section in sections]


def test_best_median_and_worst_among_cases_with_calcium(make_outcome):
    cases = [make_outcome(f"c{tp}", tp, 0, 10 - tp) for tp in (3, 9, 1, 7, 5)] + [make_outcome("free", 0, 0, 0)]
    chosen = best_median_worst(cases)
    assert {word: o.case_id for word, o in chosen.items()} == {"best": "c9", "median": "c5", "worst": "c1"}
    assert best_median_worst(cases[-1:]) == {}
    assert list(best_median_worst(cases[:1])) == ["best"]


def test_the_title_of_a_case_holds_its_figures(make_outcome):
    assert case_title("best", make_outcome("c", 6, 2, 2, slice_thickness_mm=5.0)) == (
        "best: c, 5 mm slices, Dice 0.750, 4.00 mm³ for 4.00 mm³"
    )


@pytest.fixture
def findings(make_outcome) -> DemoFindings:
    rows = {
        name: [make_outcome(f"c{i}", 4 * i - less, 1, less, slice_thickness_mm=3.0) for i in range(1, 9)]
        for name, less in (("scratch", 3), ("pre-trained", 2), ("pre-trained + calibrated", 1))
    }
    return DemoFindings(
        evaluation=evaluate(rows, QUICK, label_names={1: "calcium"}),
        label=1,
        before="pre-trained",
        after="pre-trained + calibrated",
        done=("Eight cases.",),
    )


def test_parts_without_material_are_left_out(findings: DemoFindings):
    found = titles(demo_sections(findings))
    assert found[:2] == ["What was done", "Does it help?"]
    assert not {"Learning curves", "Time", "Limits", "Calibration", "What pre-training reconstructs"} & set(found)


def test_a_full_page_holds_every_part(findings: DemoFindings):
    rng = np.random.default_rng(0)
    thresholds = np.linspace(0.1, 0.9, 9)
    curves_mm3 = rng.uniform(1, 50, (8, 1)) * (1.5 - thresholds)
    fit = fit_threshold(
        np.repeat(curves_mm3[:, :1], 181, axis=1), curves_mm3[:, 3], [f"p{i}" for i in range(8)], "mae", resamples=20
    )
    voxels_hu = rng.normal(40, 10, (4, 12, 17))
    is_counted = np.zeros(voxels_hu.shape, dtype=bool)
    is_counted[1:3, 2:9, 3:11] = True
    region = rng.normal(40, 10, (4, 6, 8))
    full = DemoFindings(
        **{name: getattr(findings, name) for name in ("evaluation", "label", "before", "after", "done")},
        notes=("Phantoms are no patients.",),
        searches=[
            ThresholdSearch(
                model="pre-trained", fit=fit, thresholds=thresholds, error_mm3=np.abs(thresholds - 0.4)
            )
        ],
        curves=[CurvePanel(title="pre-training", x_label="step", y_label="loss", lines={"MAE": ([1, 2], [2.0, 1.0])})],
        overlays=[
            OverlayCase(
                title="best: c8", voxels_hu=voxels_hu, is_reference=is_counted & (voxels_hu > 45),
                is_predicted=is_counted & (voxels_hu > 48), is_counted=is_counted,
            )
        ],
        reconstructions=[
            Reconstruction(
                title="c1", original_hu=region, is_hidden=region > 40, reconstruction_hu=np.zeros_like(region)
            )
        ],
        stages_s={"cohort": 2.0, "pre-train": 3.5},
    )  # fmt: skip
    sections = demo_sections(full)
    assert {
        "Calibration",
        "Best, median and worst case",
        "What pre-training reconstructs",
        "Learning curves",
        "Time",
        "Limits",
    } <= set(titles(sections))
    text = render_report("Demonstration", sections, {"seed": 0}, domains=("phantom",))
    assert "5.50" in text  # the stages' sum
    assert text.count("<figure>") >= 8
