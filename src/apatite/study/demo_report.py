"""The page of the demonstration: what was done, whether pre-training and calibration helped, and what it looks like.

It prints whatever the figures say; no sentence here claims a result that the tables do not show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from apatite.calibrate.threshold import ThresholdFit
from apatite.report.figures.curves import CurvePanel, learning_figure
from apatite.report.figures.overlay import OverlayCase, overlay_figure
from apatite.report.figures.reconstruction import Reconstruction, reconstruction_figure
from apatite.report.figures.threshold import threshold_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import number_text
from apatite.study.evaluate import Evaluation
from apatite.study.outcomes import CaseOutcome
from apatite.study.sections import agreement_section, burden_section, comparison_section, free_section, strata_section


@dataclass(frozen=True, kw_only=True, eq=False)
class ThresholdSearch:
    """The calibration of one model, as it was found on development.

    Attributes:
        model: The model that was calibrated.
        fit: The choice and its resamples.
        thresholds: Candidates, ascending.
        error_mm3: Mean |ΔV| on development at each of them.
    """

    model: str
    fit: ThresholdFit
    thresholds: Float[np.ndarray, "thresholds"]
    error_mm3: Float[np.ndarray, "thresholds"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DemoFindings:
    """All that the demonstration found.

    Attributes:
        evaluation: Of the models on the test split.
        label: The label that is reported.
        before: Model before calibration.
        after: The same model after it.
        done: What was done, step by step, with its numbers of cases.
        notes: Limits of what was done.
        searches: The choice of the threshold.
        curves: Learning curves.
        reconstructions: Of held-out regions.
        overlays: Best, median and worst case.
        stages_s: Seconds of each stage.
    """

    evaluation: Evaluation
    label: int
    before: str
    after: str
    done: Sequence[str]
    notes: Sequence[str] = ()
    searches: Sequence[ThresholdSearch] = ()
    curves: Sequence[CurvePanel] = ()
    reconstructions: Sequence[Reconstruction] = ()
    overlays: Sequence[OverlayCase] = ()
    stages_s: Mapping[str, float] | None = None


def demo_sections(findings: DemoFindings) -> list[Section]:
    """The page, part by part; parts without material are left out."""
    evaluation, label = findings.evaluation, findings.label
    pair = (findings.before, findings.after)
    sections = [
        Section(title="What was done", points=findings.done),
        comparison_section(evaluation, label, "Does it help?"),
        agreement_section(evaluation, label, "Volume agreement before and after calibration", pair),
        _calibration_section(findings.searches),
        _pictures_section("Best, median and worst case", _overlays(findings)),
        burden_section(evaluation, label),
        strata_section(evaluation, label),
        free_section(evaluation, label, "Cases without calcium"),
        _pictures_section("What pre-training reconstructs", _reconstructions(findings.reconstructions)),
        _pictures_section("Learning curves", _curves(findings.curves)),
        _stages_section(findings.stages_s or {}),
        Section(title="Limits", points=findings.notes),
    ]
    return [section for section in sections if section.text or section.points or section.tables or section.figures]


def best_median_worst(outcomes: Sequence[CaseOutcome]) -> dict[str, CaseOutcome]:
    """The cases of highest, middle and lowest Dice among those whose reference marks something.

    Args:
        outcomes: One model, one label, one gate.

    Returns:
        By the words `best`, `median`, `worst`; fewer where there are fewer cases. Ties fall to the smaller case id.
    """
    ranked = sorted((o for o in outcomes if o.is_positive), key=lambda o: (-o.overlap.dice, o.case_id))
    if not ranked:
        return {}
    places = {"best": 0, "median": (len(ranked) - 1) // 2, "worst": len(ranked) - 1}
    chosen: dict[str, CaseOutcome] = {}
    for word, place in places.items():
        if ranked[place] not in chosen.values():
            chosen[word] = ranked[place]
    return chosen


def case_title(word: str, outcome: CaseOutcome) -> str:
    """The heading of a case in the overlay figure."""
    thickness = f", {outcome.slice_thickness_mm:g} mm slices" if outcome.slice_thickness_mm else ""
    volumes = f"{number_text(outcome.predicted_mm3)} mm³ for {number_text(outcome.reference_mm3)} mm³"
    return f"{word}: {outcome.case_id}{thickness}, Dice {number_text(outcome.overlap.dice)}, {volumes}"


def _calibration_section(searches: Sequence[ThresholdSearch]) -> Section:
    table = Table(
        columns=(
            "model", "development cases", "threshold", "2.5 %", "97.5 %",
            "|ΔV| at 0.5 (mm³)", "|ΔV| at the choice (mm³)",
        ),
        rows=[
            [
                s.model, s.fit.num_cases, s.fit.threshold, s.fit.low, s.fit.high,
                s.fit.error_before_mm3, s.fit.error_after_mm3,
            ]
            for s in searches
        ],
        caption="Chosen on development, on the very cases of this table; the test split took no part. The percentiles "
        "are those of the choice on resampled patients.",
    )  # fmt: skip
    pictures = [
        threshold_figure(
            s.thresholds, s.error_mm3, s.fit.threshold, s.fit.resampled_thresholds,
            caption=f"{s.model}: volume error on {s.fit.num_cases} development cases against the threshold, and the "
            f"thresholds chosen on {len(s.fit.resampled_thresholds):,} resamples of the patients.",
        )
        for s in searches
    ]  # fmt: skip
    return Section(title="Calibration", tables=(table,) if searches else (), figures=pictures)


def _overlays(findings: DemoFindings) -> tuple[Picture, ...]:
    if not findings.overlays:
        return ()
    caption = (
        f"Outlines of the reference and of “{findings.after}” on original slices: highest, middle and lowest Dice "
        "among the test cases with calcium. The slices with most of either outline are shown."
    )
    return (overlay_figure(findings.overlays, caption=caption),)


def _reconstructions(regions: Sequence[Reconstruction]) -> tuple[Picture, ...]:
    if not regions:
        return ()
    caption = (
        "Middle slice of regions of the pre-training split. Grey patches were hidden from the encoder; the decoder "
        "draws their pattern from the visible ones, and each patch gets its own mean and spread back for the picture."
    )
    return (reconstruction_figure(regions, caption=caption),)


def _curves(panels: Sequence[CurvePanel]) -> tuple[Picture, ...]:
    return (learning_figure(panels, caption="What each stage journalled while it ran."),) if panels else ()


def _pictures_section(title: str, pictures: Sequence[Picture]) -> Section:
    return Section(title=title, figures=pictures)


def _stages_section(stages_s: Mapping[str, float]) -> Section:
    rows = [*([stage, float(seconds)] for stage, seconds in stages_s.items()), ["total", float(sum(stages_s.values()))]]
    table = Table(columns=("stage", "time (s)"), rows=rows, bold_rows=(len(rows) - 1,), caption="Wall-clock time.")
    return Section(title="Time", tables=(table,) if stages_s else ())
