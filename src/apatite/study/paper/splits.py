"""How many series and patients each split holds, beside the paper's."""

from apatite.report.html import Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.cells import NOT_RUN
from apatite.study.paper.published import SPLITS, TAG
from apatite.study.paper.results import Results


def splits_section(results: Results) -> Section:
    """One row per split, from the rows that saw most of it."""
    rows: list[list[Cell]] = []
    for split, (series, patients, positive) in SPLITS.items():
        counts = [record.splits[split] for record in results.records if split in record.splits]
        ours: list[Cell] = [NOT_RUN] * 3
        if counts:
            most = max(counts, key=lambda count: count["series"])
            # Nobody has looked for calcium in the scans of pre-training.
            ours = [most["series"], most["patients"], None if split == "pretrain" else most["positive"]]
        rows.append([split, *ours, series, patients, positive])
    return Section(
        title="Splits",
        tables=(
            Table(
                columns=(
                    "split", "series", "patients", "with calcium",
                    f"series, {TAG}", f"patients, {TAG}", f"with calcium, {TAG}",
                ),
                rows=rows,
                caption="Series, patients and series with calcium; of fine-tuning, the run that learned from most. "
                "A dash stands where nobody counted. Patients are never in two splits of a row.",
            ),
        ),
    )  # fmt: skip
