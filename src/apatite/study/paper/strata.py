"""Dice and volume error by slice thickness and by the volume of calcium."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from apatite.calcium.burden import quartile_cuts
from apatite.calibrate.thickness import THICKNESS_GROUPS, thickness_group
from apatite.report.figures.intervals import strata_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.outcomes import CaseOutcome
from apatite.study.paper.arms import from_scratch, nnunet, pretrained
from apatite.study.paper.cells import about, heading, shown
from apatite.study.paper.contrasts import Membership, estimate
from apatite.study.paper.results import Arm, Results

_QUANTITIES = ("dice", "volume_error_mm3")


@dataclass(frozen=True, kw_only=True)
class _Grouping:
    """One way to divide the cases: by what, and stratum → who is in it and how many."""

    name: str
    strata: Mapping[str, Membership]
    counts: Mapping[str, int]


def strata_section(results: Results) -> Section:
    """One row per stratum and model, and pictures of Dice and |ΔV|."""
    arms = [nnunet(results, "raw"), nnunet(results, "calibrated"), from_scratch(results), pretrained(results)]
    cases = _cases(results, arms)
    groupings = [
        _grouping("slice thickness", _thickness(), cases),
        _grouping("volume of calcium", _volume(cases), cases),
    ]
    pictures = [_picture(results, arms, grouping, name) for grouping in groupings for name in _QUANTITIES]
    return Section(
        title="By slice thickness and volume of calcium",
        text=("Volume groups are the quartiles of the reference volumes of these very cases.",),
        tables=[_table(results, arms, grouping) for grouping in groupings],
        figures=[picture for picture in pictures if picture is not None],
    )


def _cases(results: Results, arms: list[Arm]) -> list[CaseOutcome]:
    """The cases with calcium, from the first run that is there."""
    for arm in arms:
        for record in results.runs(arm).values():
            return [o for o in results.rows(record, arm.reading) if o.is_positive]
    return []


def _grouping(name: str, strata: Mapping[str, Membership], cases: list[CaseOutcome]) -> _Grouping:
    """Strata that hold no case are left out."""
    counts = {stratum: sum(bool(member(case)) for case in cases) for stratum, member in strata.items()}
    present = {stratum: member for stratum, member in strata.items() if counts[stratum]}
    return _Grouping(name=name, strata=present, counts=counts)


def _thickness() -> dict[str, Membership]:
    def member(name: str) -> Membership:
        return lambda case: thickness_group(case.slice_thickness_mm) == name

    return {name: member(name) for name in THICKNESS_GROUPS}


def _volume(cases: list[CaseOutcome]) -> dict[str, Membership]:
    """Quartiles; fewer than four cases make none."""
    if len(cases) < 4:
        return {}
    first, second, third = quartile_cuts(np.array([o.reference_mm3 for o in cases]))

    def member(low: float, high: float) -> Membership:
        return lambda case: low < case.reference_mm3 <= high

    return {
        f"≤ {first:.3g} mm³": member(0.0, first),
        f"{first:.3g}–{second:.3g} mm³": member(first, second),
        f"{second:.3g}–{third:.3g} mm³": member(second, third),
        f"> {third:.3g} mm³": member(third, np.inf),
    }


def _table(results: Results, arms: list[Arm], grouping: _Grouping) -> Table:
    rows: list[list[Cell]] = []
    for stratum, member in grouping.strata.items():
        for arm in arms:
            cells = [shown(estimate(results, arm, quantity, member)) for quantity in _QUANTITIES]
            rows.append([stratum, arm.title, len(results.runs(arm)), grouping.counts[stratum], *cells])
    caption = f"By {grouping.name}; {about(results)}" if rows else f"By {grouping.name}: not run."
    columns = (grouping.name, "model", "runs", "cases", *map(heading, _QUANTITIES))
    return Table(columns=columns, rows=rows, caption=caption)


def _picture(results: Results, arms: list[Arm], grouping: _Grouping, quantity: str) -> Picture | None:
    members = grouping.strata.values()
    lines = {arm.title: [estimate(results, arm, quantity, member) for member in members] for arm in arms}
    known = {title: values for title, values in lines.items() if any(value is not None for value in values)}
    if not known:
        return None
    ticks = [f"{stratum}\n(n = {grouping.counts[stratum]})" for stratum in grouping.strata]
    caption = f"{heading(quantity)} by {grouping.name}; {about(results)}"
    return strata_figure(ticks, known, y_label=heading(quantity), caption=caption)
