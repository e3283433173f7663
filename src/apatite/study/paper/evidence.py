"""The paper's claims and what the records say of each: a verdict per claim and study, with its figures and its reason.

Data of real patients with annotated intracranial calcium are not public, so records of phantoms leave the real column
undecided. Who has such data, draws from sweeps on them.
"""

from collections.abc import Sequence
from typing import Final

from apatite.report.html import Section, Table
from apatite.report.numbers import Cell, cell_text
from apatite.study.paper.cells import NOT_RUN, about, num_positive, signed
from apatite.study.paper.claim_table import CLAIMS
from apatite.study.paper.claims import Claim, Finding, find
from apatite.study.paper.published import TAG
from apatite.study.paper.results import Results
from apatite.study.paper.verdict import MIN_SEEDS, Verdict

PHANTOM: Final = "phantom-1"
UNDECIDED_REAL: Final = "not decidable here: no annotated data are public"


def findings_of(results: Results, claims: Sequence[Claim] = CLAIMS) -> list[Finding]:
    """Every claim, judged on one study."""
    return [find(results, claim) for claim in claims]


def evidence_section(results: Results) -> Section:
    """The claims in a table, and every difference behind them in another."""
    findings = findings_of(results)
    rows: list[list[Cell]] = [
        [f.claim.sentence, f.claim.paper, *_columns(results, f"{f.word}: {_because(f)}")] for f in findings
    ]
    return Section(
        title="Claims",
        text=(
            f"A claim holds where the interval of the difference and every one of at least {MIN_SEEDS} seeds lie above "
            "0; it does not where the interval lies below 0 or within the margin; else, or where a development curve "
            "still rises, it is not decidable at this budget.",
        ),
        tables=(
            Table(
                columns=("claim", TAG, PHANTOM, "real"),
                rows=rows,
                caption=f"Over {num_positive(results)} cases with calcium; {about(results)}",
            ),
            _parts_table(findings),
        ),
    )


def evidence_markdown(studies: Sequence[Results]) -> str:
    """The same for the page of the documentation; without rows one sentence says so."""
    judged = [results for results in studies if any(record.kind != "pretrain" for record in results.records)]
    if not judged:
        return "Nothing was run yet: there are no records, so no claim is judged.\n"
    return "\n".join(_study_markdown(results) for results in judged)


def _study_markdown(results: Results) -> str:
    findings = findings_of(results)
    claims = _markdown(
        ("Claim", TAG, PHANTOM, "real"),
        [[f.claim.sentence, f.claim.paper, *_columns(results, f"**{f.word}**: {_because(f)}")] for f in findings],
    )
    parts = _parts_table(findings)
    trained = sum(record.kind != "pretrain" for record in results.records)
    return (
        f"## Verdicts, {results.title}\n\nFrom {trained} finished trainings, "
        f"{num_positive(results)} cases with calcium; {about(results)}\n\n{claims}\n"
        f"## Differences behind them, {results.title}\n\n"
        f"{_markdown(parts.columns, parts.texts)}"
    )


def _columns(results: Results, verdict: str) -> list[Cell]:
    """The verdict in the column of its data; scans of which nobody knows whose they are decide nothing."""
    if results.domains == ["real"]:
        return [NOT_RUN, verdict]
    if results.domains == ["phantom"] or not results.records:
        return [verdict, UNDECIDED_REAL]
    return ["not decidable: the rows are not of phantoms alone", "not decidable: the rows are not of patients alone"]


def _because(found: Finding) -> str:
    """What decided, with the figure where there is one only."""
    differences = [verdict.difference for verdict in found.parts.values()]
    if len(differences) == 1 and differences[0] is not None:
        return f"{cell_text(differences[0])}; {found.reason}"
    return found.reason


def _parts_table(findings: Sequence[Finding]) -> Table:
    rows: list[list[Cell]] = []
    for found in findings:
        for number, (title, verdict) in enumerate(found.parts.items()):
            name = found.claim.key if number == 0 else ""
            rows.append([name, title, *_figures(verdict), f"{verdict.word}: {verdict.reason}"])
    return Table(
        columns=("claim", "difference", "with its interval", "by seed", "cases", "verdict on it"),
        rows=rows,
        caption="Differences are oriented as the claim has them; shares, not points.",
    )


def _figures(verdict: Verdict) -> list[Cell]:
    if verdict.difference is None:
        return [None, None, None]
    return [cell_text(verdict.difference), " ".join(signed(value) for value in verdict.by_seed), verdict.num_cases]


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    texts = [[cell_text(cell).replace("|", r"\|") for cell in row] for row in (columns, *rows)]
    lines = [texts[0], ["---"] * len(columns), *texts[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
