"""An evaluation as figures: the report's drawings filled with its numbers."""

import numpy as np

from apatite.report.figures.agreement import AgreementPanel, bland_altman_figure
from apatite.report.figures.burden import confusion_figure
from apatite.report.figures.intervals import interval_figure, strata_figure
from apatite.report.html import Picture
from apatite.study.evaluate import Evaluation
from apatite.study.quantities import QUANTITIES
from apatite.study.strata import ALL
from apatite.study.tables import MAIN_COLUMNS, gate_words

_GROUP_NAMES = {0: "none", 1: "1", 2: "2", 3: "3", 4: "4"}


def comparison_picture(evaluation: Evaluation, label: int, hu_gate: float | None) -> Picture:
    """Every main quantity with its interval, models side by side."""
    summaries = evaluation.of(label, hu_gate)
    names = (*MAIN_COLUMNS, "lesion_sensitivity")
    panels = {QUANTITIES[name].heading: {m: s.estimates[name] for m, s in summaries.items()} for name in names}
    count = next(iter(summaries.values())).num_positive
    percent = 100 * evaluation.config.intervals.coverage
    caption = f"Means over {count} cases and their {percent:g} % intervals, {gate_words(hu_gate)}."
    return interval_figure(panels, caption=caption)


def strata_picture(evaluation: Evaluation, label: int, hu_gate: float | None, quantity: str = "dice") -> Picture | None:
    """One quantity by slice thickness and kernel; None where no case has a stratum."""
    names = [s.stratum for s in evaluation.summaries if (s.label, s.hu_gate) == (label, hu_gate)]
    shown = [name for name in dict.fromkeys(names) if name != ALL]
    of_strata = {name: evaluation.of(label, hu_gate, name) for name in shown}
    if not shown:
        return None
    ticks = []
    for name, summaries in of_strata.items():
        count = next(iter(summaries.values())).num_positive
        ticks.append(f"{name.removeprefix('slice thickness ')}\n(n = {count})")
    lines = {
        model: [
            summaries[model].estimates[quantity] if model in summaries else None for summaries in of_strata.values()
        ]
        for model in evaluation.models
    }
    heading = QUANTITIES[quantity].heading
    caption = (
        f"{heading} by slice thickness and by kernel, {gate_words(hu_gate)}; n counts the cases that have the label."
    )
    return strata_figure(ticks, lines, y_label=heading, caption=caption)


def agreement_picture(
    evaluation: Evaluation, label: int, hu_gate: float | None, models: tuple[str, ...] = ()
) -> Picture | None:
    """Bland–Altman plots of some models (all when none is named); None with fewer than two positive cases."""
    panels = []
    for model in models or evaluation.models:
        rows = [o for o in evaluation.rows(model, label, hu_gate) if o.is_positive]
        predicted = np.array([o.predicted_mm3 for o in rows], dtype=np.float64)
        reference = np.array([o.reference_mm3 for o in rows], dtype=np.float64)
        panels.append(AgreementPanel(title=model, predicted_mm3=predicted, reference_mm3=reference))
    if len(panels[0].reference_mm3) < 2:
        return None
    caption = (
        f"Bland–Altman over {len(panels[0].reference_mm3)} cases, {gate_words(hu_gate)}: bias (solid) and 95 % limits "
        "of agreement (dashed), in mm³ above and as ratios below."
    )
    return bland_altman_figure(panels, caption=caption)


def burden_picture(evaluation: Evaluation, label: int, hu_gate: float | None, definition: str) -> Picture | None:
    """Confusion matrices in one definition; None where it was not evaluated."""
    found = {m: s.groups[definition] for m, s in evaluation.of(label, hu_gate).items() if definition in s.groups}
    if not found:
        return None
    names = [_GROUP_NAMES[group] for group in next(iter(found.values())).cuts.groups]
    count = next(iter(found.values())).num_cases
    caption = f"Burden groups, definition “{definition}”, {count} cases, {gate_words(hu_gate)}; shaded by row."
    return confusion_figure({model: agreement.matrix for model, agreement in found.items()}, names, caption=caption)
