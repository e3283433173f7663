"""The parts of an evaluation's page about probabilities and intervals; for calibrated models only."""

from collections.abc import Mapping

from apatite.calibrate.logit_histogram import BAND_HU, BAND_PROBABILITY, BAND_VOXELS
from apatite.calibrate.readings import CALCIUM
from apatite.calibrate.reliability import Reliability, classwise_ace
from apatite.core.volume import Estimate
from apatite.report.figures.reliability import ReliabilityPanel, reliability_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell, number_text
from apatite.study.coverage import ALL_CASES, interval_coverages
from apatite.study.evaluate import Evaluation
from apatite.study.probability import LabelProbability
from apatite.study.tables import gate_words

_BEFORE, _AFTER = "as given", "calibrated"


def probability_section(evaluation: Evaluation, label: int, title: str = "Probability") -> Section | None:
    """Reliability before and after calibration, and the soft volume; `None` where no model has a temperature."""
    found = {m: p.labels[label] for m, p in evaluation.probability.items() if label in p.labels}
    if not found:
        return None
    name = evaluation.label_names[label]
    return Section(
        title=title,
        text=(
            f"Of the voxels that a model gives 0.7, seven in ten should be {name}. Judged on these cases, over voxels "
            f"{_band_words(name)}. A voxel counts by its volume, every patient alike. Calibration does not "
            "move the decision at a threshold; it changes what a probability says, and sums of probabilities.",
        ),
        tables=[_score_table(evaluation, label, found), _soft_table(evaluation, found)],
        figures=(_reliability_picture(found, evaluation),),
    )


def interval_section(evaluation: Evaluation, label: int, title: str = "Interval on the volume") -> Section | None:
    """Coverage and width of the volume's interval; `None` where no model has one."""
    tables = [_coverage_table(evaluation, label, gate) for gate in evaluation.gates]
    present = [table for table in tables if table.rows]
    if not present:
        return None
    return Section(
        title=title,
        text=(
            "The interval of each case comes from development patients that chose neither threshold nor temperature, "
            "apart by slice thickness. The promise is broken where the whole binomial interval lies below it."
            " Over all cases it may be kept while one thickness pays for another.",
        ),
        tables=present,
    )


def _band_words(name: str) -> str:
    bright = f"of at least {BAND_HU:g} HU, " if name == CALCIUM else ""
    return (
        f"{bright}within {BAND_VOXELS} voxels of the reference, or with a probability of at least "
        f"{BAND_PROBABILITY:g} (the rest of the region, where every model is right, would swamp them)"
    )


def _score_table(evaluation: Evaluation, label: int, found: Mapping[str, LabelProbability]) -> Table:
    rows: list[list[Cell]] = []
    for model, label_found in found.items():
        fit = label_found.fit
        rows.append([model, _BEFORE, 1.0, 0.0, *_score_cells(label_found.before)])
        spread = Estimate(value=fit.temperature, low=fit.low, high=fit.high, unit="", coverage=0.95)
        rows.append(["", _AFTER, spread, fit.offset, *_score_cells(label_found.after)])
    first = next(iter(found.values())).before
    return Table(
        columns=(
            "model",
            "probability",
            "temperature",
            "offset",
            "ECE",
            f"ECE, p ≥ {BAND_PROBABILITY:g}",
            "ACE",
            "Brier",
            "NLL",
        ),
        rows=rows,
        caption=f"Expected and adaptive calibration error (15 bins of equal weight), Brier score and negative "
        f"log-likelihood over {first.num_cases} cases of {first.num_patients} patients, of whose voxels "
        f"{number_text(100 * first.prevalence)} % are marked; {100 * evaluation.config.intervals.coverage:g} % "
        "intervals by patient (percentile for the errors). Most voxels are bone or tissue to which every model gives "
        f"nothing; the second ECE leaves out those below {BAND_PROBABILITY:g} before calibration. Temperature and "
        "offset are those of development, at slices of 3 mm, the temperature "
        f"with its spread over development patients.{_slope_words(found)}{_classwise_words(evaluation, label)}",
    )


def _score_cells(found: Reliability) -> list[Cell]:
    return [found.ece, found.ece_found, found.ace, found.brier, found.nll]


def _slope_words(found: Mapping[str, LabelProbability]) -> str:
    slopes = [
        f"{model}: × (thickness / 3 mm)^{number_text(p.fit.slope)} from {p.fit.seen_mm[0]:g} to {p.fit.seen_mm[1]:g} mm"
        for model, p in found.items()
        if p.fit.slope != 0
    ]
    return f" The temperature depends on the thickness ({'; '.join(slopes)})." if slopes else ""


def _classwise_words(evaluation: Evaluation, label: int) -> str:
    """The classwise error, once, beside the first of several labels."""
    if len(evaluation.labels) < 2 or label != evaluation.labels[0]:
        return ""
    means = [
        f"{model} {number_text(classwise_ace([p.before for p in found.labels.values()]))} to "
        f"{number_text(classwise_ace([p.after for p in found.labels.values()]))}"
        for model, found in evaluation.probability.items()
        if len(found.labels) > 1
    ]
    return f" Classwise ACE, the mean over labels: {'; '.join(means)}." if means else ""


def _soft_table(evaluation: Evaluation, found: Mapping[str, LabelProbability]) -> Table:
    rows: list[list[Cell]] = [
        [model, gate_words(gate), agreement.num_cases, agreement.slope, agreement.intercept]
        for model, label_found in found.items()
        for gate, agreement in label_found.soft.items()
    ]
    return Table(
        columns=("model", "reading", "cases", "slope", "intercept (mm³)"),
        rows=rows,
        caption="Line of the annotated volume on the soft volume, the sum of calibrated probabilities: slope 1 and "
        f"intercept 0 where it is right; {100 * evaluation.config.intervals.coverage:g} % intervals by patient.",
    )


def _reliability_picture(found: Mapping[str, LabelProbability], evaluation: Evaluation) -> Picture:
    panels = [
        ReliabilityPanel(title=model, curves={_BEFORE: p.before.curve, _AFTER: p.after.curve})
        for model, p in found.items()
    ]
    count = next(iter(found.values())).before.num_cases
    percent = 100 * evaluation.config.intervals.coverage
    caption = (
        f"Reliability over {count} cases in ten bins of equal width, with {percent:g} % "
        "intervals by patient; the dotted line is perfect. Below, how much of the judged volume lies in each bin."
    )
    return reliability_figure(panels, caption=caption)


def _coverage_table(evaluation: Evaluation, label: int, gate: float | None) -> Table:
    rows: list[list[Cell]] = []
    is_repeated = False
    for model, found in evaluation.probability.items():
        for cover in interval_coverages(evaluation.rows(model, label, gate)):
            is_all = cover.group == ALL_CASES
            is_repeated |= cover.num_patients < cover.num_cases
            cells: list[Cell] = [cover.num_cases, cover.num_without, found.promised, cover.coverage]
            rows.append([model if is_all else "", cover.group, *cells, cover.width_mm3, cover.ratio])
    words = gate_words(gate)
    repeated = " Some patients have several cases, which the binomial interval takes for independent."
    return Table(
        columns=(
            "model", "slices", "cases", "without", "promised", "coverage", "mean width (mm³)", "high / low",
        ),
        rows=rows,
        caption="Share of the cases whose annotated volume lies in its interval, with the exact binomial 95 % interval "
        "(Clopper–Pearson), mean width, and median of (high + 1) / (low + 1). Cases without an interval have slices of "
        f"unknown thickness, or of one with too few development patients. {words[0].upper()}{words[1:]}."
        + (repeated if is_repeated else ""),
    )  # fmt: skip
