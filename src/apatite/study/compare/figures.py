"""A comparison as figures: all differences in one forest, and one more of every stratum."""

from apatite.report.figures.forest import ForestPanel, forest_figure
from apatite.report.html import Picture
from apatite.study.compare.comparison import Comparison, StratumDifference
from apatite.study.compare.tables import Part, of_part, pair_name
from apatite.study.quantities import QUANTITIES
from apatite.study.tables import gate_words


def forest_picture(comparison: Comparison, part: Part) -> Picture | None:
    """Every difference with its interval, better to the right; None where nobody was compared."""
    found = [one for one, _ in of_part(comparison, part)]
    if not found:
        return None
    panels = []
    for name in comparison.config.quantities:
        quantity = QUANTITIES[name]
        panels.append(
            ForestPanel(
                title=quantity.heading,
                rows=[(pair_name(one), one.estimate) for one in found if one.quantity == name],
                margin=comparison.config.margins.get(name),
                lower_is_better=quantity.better == "lower",
            )
        )
    coverage = 100 * comparison.config.intervals.coverage
    caption = (
        f"Differences on the same {comparison.num_patients} patients with {coverage:g} % intervals, "
        f"{gate_words(part[1])}. Axes are turned so that better is to the right. The solid line is no difference; "
        "shaded is the margin within which a difference does not matter, dashed the side on which the model is worse."
    )
    return forest_figure(panels, caption=caption)


def strata_picture(comparison: Comparison, part: Part, quantity: str) -> Picture | None:
    """One quantity's difference in every stratum, a panel per pair; None where no case has a stratum."""
    found = [one for one in comparison.strata if (one.label, one.hu_gate, one.quantity) == (*part, quantity)]
    if not found:
        return None
    of_pairs: dict[str, list[StratumDifference]] = {}
    for one in found:
        of_pairs.setdefault(f"{one.model} − {one.baseline}", []).append(one)
    about = QUANTITIES[quantity]
    panels = [
        ForestPanel(
            title=pair,
            rows=[(f"{_short(one.stratum)}, n = {one.num_cases}", one.estimate) for one in several],
            margin=comparison.config.margins.get(quantity),
            lower_is_better=about.better == "lower",
        )
        for pair, several in of_pairs.items()
    ]
    caption = (
        f"Difference in {about.heading} by slice thickness, kernel and reference volume, {gate_words(part[1])}; n is "
        "the number of cases. Without tests: the strata are many and overlap."
    )
    return forest_figure(panels, caption=caption, has_colours=False)


def _short(stratum: str) -> str:
    """A stratum as the name of a row."""
    return stratum.removeprefix("slice thickness ").removeprefix("volume ")
