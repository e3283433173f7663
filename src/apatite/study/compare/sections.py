"""The page of a comparison, part by part."""

from apatite.report.html import Picture, Section, Table
from apatite.study.compare.comparison import Comparison
from apatite.study.compare.figures import forest_picture, strata_picture
from apatite.study.compare.tables import (
    Part,
    difference_table,
    group_table,
    level_table,
    margin_table,
    strata_table,
)
from apatite.study.tables import gate_words

_IN_STRATA = ("dice", "volume_error_mm3")
"""Quantities that are drawn by stratum; all of them are in the table."""

HOW = (
    "Everything is paired: the same patients, the same reference, the same HU gate for every model. A difference is "
    "the later model minus the earlier one. At 0.5 a model is compared with others at 0.5, and at its own thresholds "
    "with others at theirs; where one of two has none, the other, calibrated, is also compared with it as it is.",
    "An interval that holds 0 shows no difference at this number of patients, and a small p is no large difference: "
    "look at the difference, its interval and the margin first.",
)


def comparison_sections(comparison: Comparison) -> list[Section]:
    """All parts of the page."""
    sections = []
    for part in comparison.parts:
        name = f"{comparison.label_names[part[0]]}, {gate_words(part[1])}"
        tables = [difference_table(comparison, part), margin_table(comparison, part)]
        first = part == comparison.parts[0]
        sections.append(
            Section(
                title=f"Differences: {name}",
                text=HOW if first else (),
                tables=_present(*tables),
                figures=_pictures(forest_picture(comparison, part)),
            )
        )
        sections.append(Section(title=f"Each model by itself: {name}", tables=(level_table(comparison, part),)))
        sections += _groups(comparison, part, name)
        sections.append(
            Section(
                title=f"Strata: {name}",
                tables=(strata_table(comparison, part),),
                figures=_pictures(
                    *(strata_picture(comparison, part, q) for q in _IN_STRATA if q in comparison.config.quantities)
                ),
            )
        )
    return sections


def _groups(comparison: Comparison, part: Part, name: str) -> list[Section]:
    table = group_table(comparison, part)
    return [Section(title=f"Burden groups: {name}", tables=(table,))] if table else []


def _present(*tables: Table | None) -> tuple[Table, ...]:
    return tuple(table for table in tables if table is not None)


def _pictures(*pictures: Picture | None) -> tuple[Picture, ...]:
    return tuple(picture for picture in pictures if picture is not None)
