"""An evaluation as tables: one row per model, the same columns everywhere."""

from collections.abc import Sequence

from apatite.metrics.surface import TOLERANCE_MM
from apatite.report.html import Table
from apatite.report.numbers import Cell
from apatite.study.evaluate import Evaluation
from apatite.study.quantities import OVER_LABELS, QUANTITIES
from apatite.study.summary import Summary

MAIN_COLUMNS = ("dice", "precision", "recall", "volume_error_mm3", "volume_bias_mm3")
SHAPE_COLUMNS = ("surface_dice", "hd95_mm", "betti_error")
LESION_COLUMNS = ("lesion_sensitivity", "lesion_precision", "volume_error_median_mm3", "volume_error_all_mm3")
_METHOD_NAMES = {"bca": "BCa", "percentile": "percentile"}
DIFFERENCE_COLUMNS = ("dice", "precision", "recall", "volume_error_mm3")
FREE_COLUMNS = ("false_volume_mm3", "false_volume_p95_mm3", "specificity")


def gate_words(hu_gate: float | None) -> str:
    """How a reading is named in captions."""
    return "ungated" if hu_gate is None else f"predictions gated at {hu_gate:g} HU"


def comparison_table(evaluation: Evaluation, label: int, hu_gate: float | None) -> Table:
    """The main table: overlap and volume error over the cases that have the label."""
    summaries = list(evaluation.of(label, hu_gate).values())
    return _quantity_table(summaries, MAIN_COLUMNS, _caption(evaluation, summaries, hu_gate, positive=True))


def lesion_table(evaluation: Evaluation, label: int, hu_gate: float | None) -> Table:
    """Lesions found and volume error in other forms."""
    summaries = list(evaluation.of(label, hu_gate).values())
    caption = f"Lesions are 26-connected; any overlap is a hit; pooled over cases; {gate_words(hu_gate)}."
    return _quantity_table(summaries, LESION_COLUMNS, caption)


def shape_table(evaluation: Evaluation, label: int, hu_gate: float | None) -> Table:
    """How far surfaces are apart, and how many components, tunnels and cavities are too many or missing."""
    summaries = list(evaluation.of(label, hu_gate).values())
    silent = {s.model: s.num_unpredicted for s in summaries if s.num_unpredicted}
    filled = "; ".join(f"{model}: {number} without any prediction" for model, number in silent.items())
    caption = (
        f"Surfaces on the slices as they lie, tolerance {TOLERANCE_MM:g} mm; HD95 is the larger of both directions. "
        f"Betti error: |Δβ0| + |Δβ1| + |Δβ2|, voxels joined by faces. Means over {summaries[0].num_positive} cases in "
        f"which the reference marks something, {gate_words(hu_gate)}."
        + (f" {filled}, which has the region's span as its HD95." if filled else "")
    )
    return _quantity_table(summaries, SHAPE_COLUMNS, caption)


def free_table(evaluation: Evaluation, label: int, hu_gate: float | None) -> Table:
    """What was found where the reference has nothing."""
    summaries = list(evaluation.of(label, hu_gate).values())
    columns: list[str] = [*FREE_COLUMNS]
    if any("specificity_detection_limit" in summary.estimates for summary in summaries):
        columns.append("specificity_detection_limit")
    return _quantity_table(summaries, columns, _caption(evaluation, summaries, hu_gate, positive=False))


def difference_table(
    evaluation: Evaluation, label: int, hu_gate: float | None, quantities: Sequence[str] = DIFFERENCE_COLUMNS
) -> Table:
    """Model minus model on the same cases, one row per pair of models."""
    pairs: dict[str, dict[str, Cell]] = {}
    for d in evaluation.differences:
        if (d.label, d.hu_gate) == (label, hu_gate):
            pairs.setdefault(f"{d.model} − {d.baseline}", {})[d.quantity] = d.estimate
    return Table(
        columns=("models", *(QUANTITIES[name].heading for name in quantities)),
        rows=[[pair, *(found[name] for name in quantities)] for pair, found in pairs.items()],
        caption=f"Paired differences on the same cases with {_coverage_percent(evaluation)} % intervals, the same "
        f"resamples of patients for both models; {gate_words(hu_gate)}. Not corrected for multiple comparisons.",
    )


def strata_table(evaluation: Evaluation, label: int, hu_gate: float | None) -> Table:
    """The main quantities again, by slice thickness and kernel."""
    names = list(dict.fromkeys(s.stratum for s in evaluation.summaries if (s.label, s.hu_gate) == (label, hu_gate)))
    columns = ("dice", "volume_error_mm3", "volume_bias_mm3", "false_volume_mm3")
    rows: list[list[Cell]] = []
    for stratum in names:
        for number, (model, summary) in enumerate(evaluation.of(label, hu_gate, stratum).items()):
            # A stratum is named once, on its first row.
            title = stratum.removeprefix("slice thickness ") if number == 0 else ""
            estimates = [summary.estimates[name] for name in columns]
            rows.append([title, model, summary.num_positive, *estimates[:3], summary.num_free, estimates[3]])
    headings = [QUANTITIES[name].heading for name in columns]
    return Table(
        columns=("slices", "model", "cases", *headings[:3], "empty", headings[3]),
        rows=rows,
        caption=f"By slice thickness and kernel, {gate_words(hu_gate)}: cases in which the reference marks something, "
        "and apart from them empty ones, with what was falsely found there. A dash means that there was none.",
    )


def agreement_table(evaluation: Evaluation, label: int, hu_gate: float | None) -> Table:
    """Bland–Altman and concordance in numbers."""
    rows: list[list[Cell]] = []
    for model, summary in evaluation.of(label, hu_gate).items():
        if not summary.bland_altman:
            continue
        raw, ratio = summary.bland_altman["raw"], summary.bland_altman["log"].ratios
        concordance = summary.concordance
        rows.append(
            [
                model,
                raw.n,
                raw.bias,
                raw.low_limit,
                raw.high_limit,
                *ratio,
                concordance["icc_2_1"],
                concordance["lin_ccc_log"],
            ]
        )
    return Table(
        columns=(
            "model", "cases", "bias (mm³)", "low limit (mm³)", "high limit (mm³)",
            "ratio", "low ratio", "high ratio", "ICC(2,1)", "Lin CCC, log",
        ),
        rows=rows,
        caption="Bland–Altman bias and 95 % limits of agreement, in mm³ and as ratios (V̂+1)/(V+1); "
        f"{gate_words(hu_gate)}.",
    )  # fmt: skip


def analytic_table(evaluation: Evaluation, label: int, hu_gate: float | None) -> Table | None:
    """The true volume of phantoms beside the reference; None where no case has one."""
    rows: list[list[Cell]] = []
    for model, summary in evaluation.of(label, hu_gate).items():
        known = [o for o in evaluation.rows(model, label, hu_gate) if o.is_positive and o.analytic_mm3 is not None]
        if known:
            means = [
                sum(o.predicted_mm3 for o in known) / len(known),
                sum(o.reference_mm3 for o in known) / len(known),
                sum(o.analytic_mm3 or 0.0 for o in known) / len(known),
            ]
            estimates = [summary.estimates[name] for name in ("volume_bias_mm3", "volume_bias_to_analytic_mm3")]
            rows.append([model, len(known), *means, *estimates])
    if not rows:
        return None
    return Table(
        columns=(
            "model", "cases", "predicted (mm³)", "reference (mm³)", "analytic (mm³)",
            "ΔV to the reference (mm³)", "ΔV to the analytic (mm³)",
        ),
        rows=rows,
        caption="Mean volumes. The analytic volume is the phantom's true one, which no slice shows as it is: partial "
        "volume and the 130-HU threshold stand between. It is shown beside the reference and enters no other figure; "
        f"{gate_words(hu_gate)}.",
    )  # fmt: skip


def burden_table(evaluation: Evaluation, label: int, hu_gate: float | None, definition: str) -> Table:
    """Accuracy and kappa of the burden groups in one definition."""
    rows: list[list[Cell]] = []
    cuts = ""
    for model, summary in evaluation.of(label, hu_gate).items():
        if definition not in summary.groups:
            continue
        found = summary.groups[definition]
        limits = [*found.cuts.cuts_mm3] if definition == "paper" else [found.cuts.none_below_mm3, *found.cuts.cuts_mm3]
        rows.append([model, found.num_cases, found.accuracy, found.within_one, found.kappa, *limits])
        cuts = found.cuts.source
    limit_names = ("cut 1 (mm³)", "cut 2 (mm³)", "cut 3 (mm³)")
    if definition == "deployed":
        limit_names = ("none below (mm³)", *limit_names)
    return Table(
        columns=("model", "cases", "accuracy", "at most one off", "quadratic κ", *limit_names),
        rows=rows,
        caption=f"Definition “{definition}”: {cuts}; {gate_words(hu_gate)}.",
    )


def labels_table(evaluation: Evaluation, hu_gate: float | None) -> Table:
    """Every label's main quantities, and the mean over labels."""
    rows: list[list[Cell]] = []
    for label in evaluation.labels:
        for model, summary in evaluation.of(label, hu_gate).items():
            estimates = [summary.estimates[name] for name in OVER_LABELS]
            rows.append([evaluation.label_names[label], model, summary.num_cases, *estimates])
    means = [mean for mean in evaluation.label_means if mean.hu_gate == hu_gate]
    bold = range(len(rows), len(rows) + len(means))
    rows += [["mean over labels", m.model, None, *(m.estimates[name] for name in OVER_LABELS)] for m in means]
    return Table(
        columns=("label", "model", "cases", *(QUANTITIES[name].heading for name in OVER_LABELS)),
        rows=rows,
        bold_rows=tuple(bold),
        caption=f"Per label, over the cases in which it was annotated; {gate_words(hu_gate)}.",
    )


def _quantity_table(summaries: Sequence[Summary], names: Sequence[str], caption: str) -> Table:
    titles = [QUANTITIES[name].heading if name in QUANTITIES else "specificity, detection limit" for name in names]
    rows: list[list[Cell]] = [[s.model, *(s.estimates.get(name) for name in names)] for s in summaries]
    return Table(columns=("model", *titles), rows=rows, caption=caption)


def _caption(evaluation: Evaluation, summaries: Sequence[Summary], hu_gate: float | None, *, positive: bool) -> str:
    first = summaries[0]
    count = first.num_positive if positive else first.num_free
    kind = "cases in which the reference marks something" if positive else "cases in which the reference marks nothing"
    silent = {s.model: s.num_unpredicted for s in summaries if s.num_unpredicted}
    left_out = "; ".join(
        f"{model}: {number} without any prediction, left out of precision" for model, number in silent.items()
    )
    settings = evaluation.config.intervals
    return (
        f"Means over {count} {kind}, {gate_words(hu_gate)}, with {_coverage_percent(evaluation)} % intervals "
        f"({_METHOD_NAMES[settings.method]}, {settings.resamples:,} resamples of patients)."
        + (f" {left_out}." if positive and left_out else "")
    )


def _coverage_percent(evaluation: Evaluation) -> str:
    return f"{100 * evaluation.config.intervals.coverage:g}"
