"""The papers' claims and what the records say of each: a verdict per claim and study, with its figures and its reason.

Data of real patients with annotated intracranial calcium are not public, so records of phantoms leave that column
undecided. Who has such data, draws from sweeps on them. Studies of organs decide nothing about calcium, and the other
way round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from apatite.report.html import Section, Table
from apatite.report.numbers import Cell, cell_text
from apatite.study.paper.cells import NOT_RUN, about, num_positive, signed
from apatite.study.paper.claims import Finding, find
from apatite.study.paper.papers import JIN2025, PAPERS, Paper
from apatite.study.paper.results import Results
from apatite.study.paper.verdict import MIN_SEEDS, Verdict

PHANTOM: Final = "phantom-1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """The claims of one paper on one study.

    Attributes:
        paper: The paper.
        results: The study, as the claims are about it.
        findings: One per claim.
    """

    paper: Paper
    results: Results
    findings: tuple[Finding, ...]


def judged_on(results: Results) -> list[Judged]:
    """Every paper's claims, of which a study has rows; without any rows those of the first, not run."""
    found = [paper for paper in PAPERS if paper.has_rows(results)] or [JIN2025]
    return [_judge(paper, results) for paper in found]


def evidence_section(results: Results) -> Section:
    """The claims of each paper in a table, and every difference behind them in another."""
    tables = [
        table for judged in judged_on(results) for table in (_claims_table(judged), _parts_table(judged.findings))
    ]
    return Section(
        title="Claims",
        text=(
            f"A claim holds where the interval of the difference and every one of at least {MIN_SEEDS} seeds lie above "
            "0; it does not where the interval lies below 0 or within the margin; else, or where a development curve "
            "still rises, it is not decidable at this budget.",
        ),
        tables=tuple(tables),
    )


def evidence_markdown(studies: Sequence[Results]) -> str:
    """The same for the page of the documentation; a paper without rows has one sentence that says so."""
    parts = []
    for paper in PAPERS:
        with_rows = [results for results in studies if paper.has_rows(results)]
        parts += [_study_markdown(_judge(paper, results)) for results in with_rows]
        if not with_rows:
            parts.append(f"Nothing was run yet on {paper.name}: there are no records, so no claim of it is judged.\n")
    return "\n".join(parts)


def _judge(paper: Paper, results: Results) -> Judged:
    seen = paper.seen(results)
    return Judged(paper=paper, results=seen, findings=tuple(find(seen, claim) for claim in paper.claims))


def _claims_table(judged: Judged, strong: str = "") -> Table:
    rows: list[list[Cell]] = [
        [f.claim.sentence, f.claim.paper, *_columns(judged, f"{strong}{f.word}{strong}: {_because(f)}")]
        for f in judged.findings
    ]
    return Table(
        columns=("claim", judged.paper.tag, PHANTOM, "real"),
        rows=rows,
        caption=f"{judged.paper.name}. Over {num_positive(judged.results)} {judged.paper.cases}; "
        f"{about(judged.results)}",
    )


def _study_markdown(judged: Judged) -> str:
    results, claims, parts = judged.results, _claims_table(judged, "**"), _parts_table(judged.findings)
    trained = sum(record.kind != "pretrain" for record in results.records)
    place = f"{judged.paper.name}, {results.title}"
    return (
        f"## Verdicts, {place}\n\nFrom {trained} finished trainings, "
        f"{num_positive(results)} {judged.paper.cases}; {about(results)}\n\n"
        f"{_markdown(claims.columns, claims.rows)}\n"
        f"## Differences behind them, {place}\n\n"
        f"{_markdown(parts.columns, parts.texts)}"
    )


def _columns(judged: Judged, verdict: str) -> list[Cell]:
    """The verdict in the column of its data; scans of which nobody knows whose they are decide nothing."""
    results = judged.results
    if results.domains == ["real"]:
        return [NOT_RUN, verdict]
    if results.domains == ["phantom"] or not results.records:
        return [verdict, judged.paper.undecided_real]
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
    by_seed = " ".join(signed(value) for value in verdict.by_seed) or None
    if verdict.difference is None:
        return [None, by_seed, None]
    return [cell_text(verdict.difference), by_seed, verdict.num_cases]


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    texts = [[cell_text(cell).replace("|", r"\|") for cell in row] for row in (columns, *rows)]
    lines = [texts[0], ["---"] * len(columns), *texts[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
