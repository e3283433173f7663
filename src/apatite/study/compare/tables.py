"""A comparison as tables: differences with their tests, margins, the models' own figures, burden groups, strata."""

import math

from apatite.report.html import Table
from apatite.report.numbers import Cell, number_text
from apatite.study.compare.comparison import Comparison
from apatite.study.compare.contrast import Contrast
from apatite.study.quantities import QUANTITIES
from apatite.study.tables import gate_words

Part = tuple[int, float | None]
"""Label and HU gate."""

_METHODS = {"bca": "BCa", "percentile": "percentile"}
_LEAST_P = 0.001


def p_text(p_value: float) -> str:
    """A p-value as it is printed: two figures, `< 0.001` below that, a dash where no test was made."""
    if math.isnan(p_value):
        return "–"
    return f"< {_LEAST_P}" if p_value < _LEAST_P else f"{p_value:.2g}" if p_value < 0.1 else f"{p_value:.2f}"


def pair_name(found: Contrast) -> str:
    """`model − baseline`."""
    return f"{found.model} − {found.baseline}"


def of_part(comparison: Comparison, part: Part) -> list[tuple[Contrast, float]]:
    """The contrasts of one label and HU gate, each with its corrected p-value, pairs together."""
    chosen = [
        (found, p_value)
        for found, p_value in zip(comparison.contrasts, comparison.p_holm, strict=True)
        if (found.label, found.hu_gate) == part
    ]
    order = list(dict.fromkeys(pair_name(found) for found, _ in chosen))
    return sorted(chosen, key=lambda one: order.index(pair_name(one[0])))


def difference_table(comparison: Comparison, part: Part) -> Table:
    """The main table: one row per pair and quantity."""
    rows: list[list[Cell]] = []
    last = ""
    for found, p_holm in of_part(comparison, part):
        pair = pair_name(found)
        rows.append(
            [
                pair if pair != last else "",
                QUANTITIES[found.quantity].heading,
                found.num_cases,
                found.num_patients,
                found.baseline_value,
                found.model_value,
                found.estimate,
                p_text(found.test.p_value),
                p_text(p_holm),
                found.test.rank_biserial,
                found.d_z,
            ]
        )
        last = pair
    return Table(
        columns=(
            "model − baseline", "quantity", "cases", "patients", "baseline", "model", "difference",
            "p", "p, Holm", "rank-biserial r", "d_z",
        ),
        rows=rows,
        caption=difference_caption(comparison, part),
    )  # fmt: skip


def paper_table(comparison: Comparison, part: Part) -> Table:
    """The table for a paper: fewer columns, and the verdict on the margin where one was stated."""
    rows: list[list[Cell]] = []
    last = ""
    for found, p_holm in of_part(comparison, part):
        pair = pair_name(found)
        margin = found.margin
        rows.append(
            [
                pair if pair != last else "",
                QUANTITIES[found.quantity].heading,
                found.num_patients,
                found.baseline_value,
                found.model_value,
                found.estimate,
                p_text(p_holm),
                found.test.rank_biserial,
                found.d_z,
                f"{margin.verdict} ({number_text(margin.margin)})" if margin else "–",
            ]
        )
        last = pair
    return Table(
        columns=(
            "model − baseline", "quantity", "n", "baseline", "model", "difference", "p", "r", "d_z", "verdict (margin)",
        ),
        rows=rows,
        caption=difference_caption(comparison, part) + " The p-values shown are the corrected ones. Verdicts are those "
        "of the interval against the margin, in the direction that is worse.",
    )  # fmt: skip


def difference_caption(comparison: Comparison, part: Part) -> str:
    """What was computed, over whom, and what was corrected."""
    settings = comparison.config.intervals
    return (
        f"Differences in {comparison.label_names[part[0]]}, {gate_words(part[1])}, on the same "
        f"{comparison.num_patients} patients: means over cases, with {100 * settings.coverage:g} % intervals "
        f"({_METHODS[settings.method]}, {settings.resamples:,} resamples of patients). p: Wilcoxon's signed ranks, one "
        "value per patient (several cases of a patient are averaged first); “Holm”: corrected over the "
        f"{comparison.family_size(part[1])} tests of this reading, all pairs, labels and quantities. r and d_z are "
        "effect sizes over patients; their signs are those of the difference." + _hd95_note(comparison)
    )


def _hd95_note(comparison: Comparison) -> str:
    """What HD95 is where there is no surface."""
    if "hd95_mm" not in comparison.config.quantities:
        return ""
    return " HD95 of a case in which nothing was found is the span of its region."


def margin_table(comparison: Comparison, part: Part) -> Table | None:
    """Non-inferiority and equivalence; None where no quantity has a margin."""
    rows: list[list[Cell]] = []
    for found, _ in of_part(comparison, part):
        if found.margin is not None:
            quantity = QUANTITIES[found.quantity]
            rows.append(
                [
                    pair_name(found),
                    quantity.heading,
                    number_text(found.margin.margin),
                    found.estimate,
                    found.margin.verdict if not math.isnan(found.estimate.low) else "–",
                    p_text(found.margin.p_non_inferior),
                    p_text(found.margin.p_equivalent),
                ]
            )
    if not rows:
        return None
    coverage = comparison.config.intervals.coverage
    return Table(
        columns=("model − baseline", "quantity", "margin", "difference", "verdict", "p, worse", "p, different"),
        rows=rows,
        caption=f"Is the difference within the margin that was stated? Judged by the {100 * coverage:g} % interval: "
        "“non-inferior” where the model is not worse by the margin or more, “equivalent” where it is not better by as "
        "much either, “inferior” where it is worse by more. Beside it one-sided paired t-tests, per patient: p for "
        "being worse, and for being different, by the margin or more. Not corrected.",
    )


def level_table(comparison: Comparison, part: Part) -> Table:
    """Every model's own figures and, where a model was trained several times, how far its trainings are apart."""
    has_runs = any(len(side.runs) > 1 for side in comparison.sides)
    rows: list[list[Cell]] = []
    for found in comparison.levels:
        if (found.label, found.hu_gate) == part:
            row: list[Cell] = [found.model, QUANTITIES[found.quantity].heading, found.num_cases, found.estimate]
            if has_runs:
                low, high = found.run_range
                several = len(found.run_values) > 1
                row += [len(found.run_values), found.run_sd, low if several else None, high if several else None]
            rows.append(row)
    settings = comparison.config.intervals
    caption = (
        f"Each model by itself, {gate_words(part[1])}, with {100 * settings.coverage:g} % intervals by patient, over "
        "the cases in which it has a value."
    )
    if has_runs:
        caption += (
            " Intervals say how figures vary with the patients, weights held fixed; the standard deviation and range "
            "over trainings say how they vary with the seed."
        )
    runs = ("trainings", "SD", "lowest", "highest") if has_runs else ()
    return Table(columns=("model", "quantity", "cases", "value", *runs), rows=rows, caption=caption)


def group_table(comparison: Comparison, part: Part) -> Table | None:
    """McNemar's tests of burden groups; None where none was made."""
    rows: list[list[Cell]] = [
        [
            f"{found.model} − {found.baseline}",
            found.definition,
            found.num_patients,
            found.baseline_accuracy,
            found.model_accuracy,
            found.test.only_second,
            found.test.only_first,
            p_text(found.test.p_value),
            p_text(p_holm),
        ]
        for found, p_holm in zip(comparison.groups, comparison.groups_p_holm, strict=True)
        if (found.label, found.hu_gate) == part
    ]
    if not rows:
        return None
    family = sum(found.hu_gate == part[1] for found in comparison.groups)
    return Table(
        columns=(
            "model − baseline", "definition", "patients", "baseline right", "model right",
            "only baseline", "only model", "p", "p, Holm",
        ),
        rows=rows,
        caption=f"Burden groups, {gate_words(part[1])}: share of patients whose cases all fall into the right group, "
        "patients in whom only one of both is right, and McNemar's exact test. “Paper”: quartiles of these very cases, "
        "positives only; “deployed”: each model's own cut-points, frozen on development. “Holm”: corrected over the "
        f"{family} of this reading. Models that were trained several times are left out.",
    )  # fmt: skip


def strata_table(comparison: Comparison, part: Part) -> Table:
    """Differences by slice thickness, kernel and amount of calcium; one row per stratum and pair."""
    names = comparison.config.quantities
    found: dict[tuple[str, str], dict[str, Cell]] = {}
    counts: dict[tuple[str, str], int] = {}
    for one in comparison.strata:
        if (one.label, one.hu_gate) == part:
            key = one.stratum, f"{one.model} − {one.baseline}"
            found.setdefault(key, {})[one.quantity] = one.estimate
            counts[key] = max(counts.get(key, 0), one.num_cases)
    rows: list[list[Cell]] = []
    last = ""
    for stratum, pair in sorted(found, key=lambda key: list(dict.fromkeys(k for k, _ in found)).index(key[0])):
        estimates = [found[stratum, pair][name] for name in names]
        rows.append([stratum if stratum != last else "", pair, counts[stratum, pair], *estimates])
        last = stratum
    return Table(
        columns=("cases with", "model − baseline", "cases", *(QUANTITIES[name].heading for name in names)),
        rows=rows,
        caption=f"Differences within strata, {gate_words(part[1])}, with intervals and without tests: there are many, "
        "and they overlap. Quartiles are those of the reference volumes of the positive cases.",
    )


def comparison_tables(comparison: Comparison) -> list[Table]:
    """What the terminal shows: the differences alone, one table per label and HU gate."""
    return [_short_table(comparison, part) for part in comparison.parts]


def _short_table(comparison: Comparison, part: Part) -> Table:
    rows: list[list[Cell]] = []
    for found, p_holm in of_part(comparison, part):
        verdict = found.margin.verdict if found.margin else "–"
        rows.append([pair_name(found), QUANTITIES[found.quantity].heading, found.estimate, p_text(p_holm), verdict])
    return Table(
        columns=("model − baseline", "quantity", "difference", "p, Holm", "verdict"),
        rows=rows,
        caption=f"{comparison.label_names[part[0]]}, {gate_words(part[1])}: {comparison.num_patients} patients, p "
        f"corrected over {comparison.family_size(part[1])} tests; everything else is in the report.",
    )
