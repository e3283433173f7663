"""The page that says whether a phantom cohort is hard for the right reasons, and fair."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from apatite.core.commit import commit_json, commit_text
from apatite.core.watch import Watch, unwatched
from apatite.phantom.checks import CaseCheck, check_case, check_volume_ratios, summarise
from apatite.phantom.cohort import VERSION, CohortConfig, Series, make_patient
from apatite.report.html import Section, Table, render_report
from apatite.report.phantom_figures import montage, oracle_dice, tissue_fractions, volume_ratios

SAMPLE = 40
"""How many patients of a cohort are checked at most."""
SHOWN = 4


def write_phantom_report(config: CohortConfig, folder: Path, watch: Watch = unwatched) -> Path:
    """Check the first patients of a cohort and write `checks.json` and `phantom_report.html`.

    Args:
        config: Which cohort; its patients are made again, so no file of it is read.
        folder: Where to write.
        watch: Shows progress, one step per patient.

    Returns:
        The page.
    """
    cases: list[CaseCheck] = []
    shown: list[Series] = []
    for number in watch(config.numbers[:SAMPLE], "checking", min(config.patients, SAMPLE)):
        for series in make_patient(config, number):
            cases.append(check_case(series))
            if len(shown) < SHOWN and series.is_calcium.any() and series.case_id.endswith("s1"):
                shown.append(series)
    checks = summarise(cases)
    checks |= {"version": VERSION, "config": asdict(config), "volume_ratios": check_volume_ratios(config.seed)}
    commit_json(folder / "checks.json", checks)
    page = folder / "phantom_report.html"
    commit_text(page, _page(checks, shown))
    return page


def _page(checks: Mapping[str, Any], shown: Sequence[Series]) -> str:
    sections = [
        Section(
            title="What it looks like",
            text=("Anatomy is drawn once per patient and scanned several times, by different scanners.",),
            figures=(montage(shown),) if shown else (),
        ),
        Section(
            title="Is it hard?",
            text=("A threshold alone must fail, and so must a threshold that drops what is large or joined to bone.",),
            tables=(_demands(checks),),
            figures=(oracle_dice(checks),),
        ),
        Section(
            title="Is it like a head?",
            text=("Ranges come from one real head CT, so they are a guide, not a law.",),
            tables=(_tissues(checks),),
            figures=(tissue_fractions(checks),),
        ),
        Section(
            title="Does the scanner measure as scanners do?",
            text=("Faint small lesions vanish in thick slices; dense ones are read far too large.",),
            tables=(_measured(checks),),
            figures=(volume_ratios(checks["volume_ratios"]),),
        ),
        Section(title="Are the readers human?", tables=(_readers(checks),)),
    ]
    return render_report(
        "Is the phantom hard, and fair?",
        sections,
        {"version": checks["version"], "series checked": checks["num_cases"], **checks["config"]},
        domains=("phantom",),
    )


def _demands(checks: Mapping[str, Any]) -> Table:
    rows = [
        (name, checks[key]["value"], f"below {checks[key]['limit']}", "yes" if checks[key]["holds"] else "NO")
        for key, name in (
            ("dice_threshold", "130 HU alone"),
            ("dice_filtered", "130 HU, without large or bony components"),
        )
    ]
    return Table(columns=("method", "mean Dice", "demand", "holds"), rows=rows)


def _tissues(checks: Mapping[str, Any]) -> Table:
    rows = [
        (
            f"{row['range_hu'][0]} to {row['range_hu'][1]}",
            row["value"],
            f"{row['real_head'][0]:g}-{row['real_head'][1]:g}",
            "yes" if row["holds"] else "NO",
        )
        for row in checks["hu_fractions"]
    ]
    return Table(columns=("HU", "phantom", "real head", "within"), rows=rows)


def _measured(checks: Mapping[str, Any]) -> Table:
    rows = [
        (name, ratio["faint"], ratio["dense"], checks["noise_hu"][name]["soft"], checks["noise_hu"][name]["bone"])
        for name, ratio in checks["rule_over_analytic"].items()
    ]
    columns = ("slices", "measured/true, faint", "measured/true, dense", "noise soft (HU)", "noise bone (HU)")
    return Table(
        columns=columns,
        rows=rows,
        caption="Median ratio of the volume by the rule over the volume by integration, in whole patients.",
    )


def _readers(checks: Mapping[str, Any]) -> Table:
    readers = checks["readers"]
    rows = [
        ("sensitivity", readers["sensitivity"], readers["aim_sensitivity"]),
        ("positive predictive value", readers["ppv"], readers["aim_ppv"]),
    ]
    return Table(
        columns=("", "modelled readers", "two real readers"),
        rows=rows,
        caption="Voxels of all series together, against the perfect reader.",
    )
