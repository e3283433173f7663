"""A comparison on disk.

compare.html       the page
differences.csv    one line per pair, label, HU gate and quantity: values, interval, tests, margin
strata.csv         one line per stratum besides: difference and interval
cases.csv          the outcomes; a later comparison can start from them
compare.json       all of it, with the settings; what is not a number is null
table.tex          the main table for a paper, one per label and HU gate
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apatite.core.commit import commit_json, commit_text
from apatite.core.config import dump
from apatite.io.manifest import guarded
from apatite.report.html import render_report
from apatite.report.latex import HEAD, latex_table
from apatite.report.numbers import Cell, estimate_json, json_number
from apatite.study.compare.comparison import Comparison, Deployed, StratumDifference
from apatite.study.compare.contrast import Contrast
from apatite.study.compare.groups import GroupContrast
from apatite.study.compare.sections import comparison_sections
from apatite.study.compare.tables import paper_table
from apatite.study.outcome_table import outcomes_csv


def write_comparison(
    comparison: Comparison,
    folder: Path,
    *,
    provenance: Mapping[str, Cell],
    domains: Sequence[str] = (),
    deployed: Deployed | None = None,
) -> Path:
    """Write all files, each whole or not at all; those of an earlier comparison are replaced.

    Args:
        comparison: What to write.
        folder: Made when missing.
        provenance: What made it, for the page.
        domains: Where the data come from, for the page.
        deployed: The frozen cut-points it was computed with.

    Returns:
        The path of the page.
    """
    commit_text(folder / "cases.csv", outcomes_csv(comparison.outcomes))
    commit_text(folder / "differences.csv", differences_csv(comparison))
    commit_text(folder / "strata.csv", strata_csv(comparison))
    commit_json(folder / "compare.json", comparison_json(comparison, domains=domains, deployed=deployed))
    commit_text(folder / "table.tex", tables_tex(comparison))
    page = render_report(
        "Comparison",
        comparison_sections(comparison),
        provenance,
        domains=domains,
        subtitle=", ".join(side.name for side in comparison.sides),
    )
    commit_text(folder / "compare.html", page)
    return folder / "compare.html"


def differences_csv(comparison: Comparison) -> str:
    """The contrasts as a table; what is not a number is empty."""
    return _csv([_flat(row) for row in _contrasts(comparison)])


def strata_csv(comparison: Comparison) -> str:
    """The differences in strata as a table."""
    return _csv([_flat(row) for row in _strata(comparison)])


def tables_tex(comparison: Comparison) -> str:
    """One table environment per label and HU gate."""
    several = len(comparison.parts) > 1
    tables = []
    for number, part in enumerate(comparison.parts, start=1):
        label = f"tab:comparison-{number}" if several else "tab:comparison"
        tables.append(latex_table(paper_table(comparison, part), label=label))
    return HEAD + "\n".join(tables)


def comparison_json(
    comparison: Comparison, *, domains: Sequence[str] = (), deployed: Deployed | None = None
) -> dict[str, Any]:
    """The content of `compare.json`."""
    return {
        "models": [
            {"name": side.name, "model": side.model, "is_calibrated": side.is_calibrated, "runs": list(side.runs)}
            for side in comparison.sides
        ],
        "label_names": {str(label): name for label, name in comparison.label_names.items()},
        "domains": list(domains),
        "config": dump(comparison.config),
        "num_patients": comparison.num_patients,
        "family_sizes": [
            {"hu_gate": gate, "tests": comparison.family_size(gate)}
            for gate in dict.fromkeys(gate for _, gate in comparison.parts)
        ],
        "differences": _contrasts(comparison),
        "burden_groups": _groups(comparison),
        "levels": _levels(comparison),
        "strata": _strata(comparison),
        "deployed": [
            {"model": title, "hu_gate": gate, "cuts": cuts.to_dict()}
            for title, of_gates in (deployed or {}).items()
            for gate, cuts in of_gates.items()
        ],
    }


def _contrasts(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            **_between(found),
            "quantity": found.quantity,
            "num_cases": found.num_cases,
            "num_patients": found.num_patients,
            "model_value": json_number(found.model_value),
            "baseline_value": json_number(found.baseline_value),
            "difference": estimate_json(found.estimate),
            "num_ranked": found.test.num_ranked,
            "p_wilcoxon": json_number(found.test.p_value),
            "p_holm": json_number(p_holm),
            "rank_biserial": json_number(found.test.rank_biserial),
            "d_z": json_number(found.d_z),
            **_margin(found),
        }
        for found, p_holm in zip(comparison.contrasts, comparison.p_holm, strict=True)
    ]


def _between(found: Contrast | GroupContrast | StratumDifference) -> dict[str, Any]:
    """Who is compared with whom, on what."""
    return {"model": found.model, "baseline": found.baseline, "label": found.label, "hu_gate": found.hu_gate}


def _margin(found: Contrast) -> dict[str, float | str | None]:
    margin = found.margin
    return {
        "margin": margin.margin if margin else None,
        "p_non_inferior": json_number(margin.p_non_inferior) if margin else None,
        "p_equivalent": json_number(margin.p_equivalent) if margin else None,
        "verdict": margin.verdict if margin and not math.isnan(found.estimate.low) else None,
    }


def _groups(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "definition": found.definition,
            **_between(found),
            "num_patients": found.num_patients,
            "model_accuracy": found.model_accuracy,
            "baseline_accuracy": found.baseline_accuracy,
            "only_model_right": found.test.only_first,
            "only_baseline_right": found.test.only_second,
            "p_mcnemar": json_number(found.test.p_value),
            "p_holm": json_number(p_holm),
        }
        for found, p_holm in zip(comparison.groups, comparison.groups_p_holm, strict=True)
    ]


def _levels(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "model": found.model,
            "label": found.label,
            "hu_gate": found.hu_gate,
            "quantity": found.quantity,
            "num_cases": found.num_cases,
            "value": estimate_json(found.estimate),
            "run_values": [json_number(value) for value in found.run_values],
            "run_sd": json_number(found.run_sd),
        }
        for found in comparison.levels
    ]


def _strata(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "stratum": found.stratum,
            **_between(found),
            "quantity": found.quantity,
            "num_cases": found.num_cases,
            "difference": estimate_json(found.estimate),
        }
        for found in comparison.strata
    ]


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the parts of its estimate as columns."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {name: value["value"], "low": value["low"], "high": value["high"], "unit": value["unit"]}
        else:
            flat[name] = value
    return flat


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    if rows:
        table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        table.writeheader()
        # No spreadsheet runs a text: names of models are the user's.
        table.writerows({key: guarded(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()
