"""Everything that can be drawn from records, by name, and its files: HTML, CSV, LaTeX and SVG.

Drawings are named by their content. Which number the paper gives each is only partly known: Tables 2 and 3 are named in
its text; the others are inferred from which tables and figures it has.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from apatite.core.commit import commit_text
from apatite.core.errors import ConfigError
from apatite.core.registry import choose
from apatite.core.watch import Watch, unwatched
from apatite.report.html import Section, render_report
from apatite.report.numbers import Cell
from apatite.study.paper.ablations import ablations_section
from apatite.study.paper.agreement import agreement_section
from apatite.study.paper.burden import burden_section
from apatite.study.paper.comparison import comparison_section
from apatite.study.paper.costs import costs_section
from apatite.study.paper.curves import curves_section
from apatite.study.paper.decoders import decoders_section
from apatite.study.paper.evidence import evidence_markdown, evidence_section, judged_on
from apatite.study.paper.few_labels import few_labels_section
from apatite.study.paper.files import write_parts
from apatite.study.paper.labels import labels_section
from apatite.study.paper.page import write_page
from apatite.study.paper.patch_sizes import patch_sizes_section
from apatite.study.paper.pretexts import pretexts_section
from apatite.study.paper.results import Results, View, gather, studies
from apatite.study.paper.reuse import reuse_section
from apatite.study.paper.speeds import convergence_section
from apatite.study.paper.splits import splits_section
from apatite.study.paper.strata import strata_section
from apatite.study.paper.topo_pretraining import pretraining_section
from apatite.study.paper.topo_tables import topology_section
from apatite.study.paper.variants import embedding_sizes_section, upsampling_section

ALL: Final = "all"
EVIDENCE: Final = "evidence"
_INFERRED: Final = "believed to be {} of the paper (inferred)"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One thing that can be drawn.

    Attributes:
        make: From a study to a section of a page.
        number: What it is in the paper, as far as that is known.
    """

    make: Callable[[Results], Section]
    number: str


DRAWINGS: Final[dict[str, Drawing]] = {
    "splits": Drawing(make=splits_section, number=_INFERRED.format("Table 1")),
    "main": Drawing(make=comparison_section, number="Table 2 of the paper"),
    "decoders": Drawing(make=decoders_section, number="Table 3 of the paper"),
    "agreement": Drawing(make=agreement_section, number=_INFERRED.format("one of Figures 4 to 6")),
    "patch-sizes": Drawing(make=patch_sizes_section, number=_INFERRED.format("one of Figures 4 to 6")),
    "strata": Drawing(make=strata_section, number=_INFERRED.format("one of Figures 4 to 6")),
    "upsampling": Drawing(make=upsampling_section, number=_INFERRED.format("the supplementary Table 1")),
    "embedding-sizes": Drawing(make=embedding_sizes_section, number="part of Table 3 of the paper"),
    "burden": Drawing(make=burden_section, number="in the paper's text; its figure is not known"),
    "labels": Drawing(make=labels_section, number="not in the paper"),
    "curves": Drawing(make=curves_section, number="not in the paper"),
    "costs": Drawing(make=costs_section, number="not in the paper"),
    "topology": Drawing(make=topology_section, number="after the tables of arXiv 2406.10519, which are not known"),
    "pretraining": Drawing(make=pretraining_section, number="not in a paper"),
    "pretexts": Drawing(make=pretexts_section, number="after the comparisons of arXiv 2205.10342 and 2605.18491"),
    "few-labels": Drawing(make=few_labels_section, number="after the curves of arXiv 2205.10342, which are not known"),
    "convergence": Drawing(make=convergence_section, number="after arXiv 2605.18491, whose measure is not known"),
    "ablations": Drawing(make=ablations_section, number="not in a paper"),
    "reuse": Drawing(make=reuse_section, number="after arXiv 2605.18491, whose figures are not known"),
    EVIDENCE: Drawing(make=evidence_section, number="not in a paper: their claims, judged"),
}
"""By name, as `apatite draw` takes them."""


def draw(what: str, of: Sequence[Results], folder: Path, watch: Watch = unwatched) -> list[Path]:
    """Draw one thing, or all, and write its files.

    Args:
        what: A name in `DRAWINGS`, or `all`.
        of: From `results.studies`; each gets its own part of the page.
        folder: For `<what>.html`, and for every table and picture a file of its own.
        watch: Shows progress.

    Returns:
        What was written, the page first.

    Raises:
        ConfigError: an unknown name.
        DataError: the rows of a study cannot be compared.
    """
    names = list(DRAWINGS) if what == ALL else [what]
    for name in names:
        choose(DRAWINGS, name, "drawing")
    sections: list[Section] = []
    files: list[Path] = []
    for name in watch(names, "drawing"):
        for number, results in enumerate(of, start=1):
            section = _titled(DRAWINGS[name], results)
            sections.append(section)
            files += write_parts(section, folder, name if len(of) == 1 else f"{name}-{number}")
    page = folder / f"{what}.html"
    commit_text(page, render_report("Drawn from records", sections, _provenance(of), domains=_domains(of)))
    return [page, *files]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What `draw_records` did.

    Attributes:
        num_records: Records that were read.
        studies: Titles of the studies they make.
        files: What was written, the page first.
        verdicts: Study and claim → verdict; empty unless claims were judged.
    """

    num_records: int
    studies: tuple[str, ...]
    files: tuple[Path, ...]
    verdicts: Mapping[str, str]


def draw_records(
    what: str,
    folders: Sequence[Path],
    view: View,
    *,
    out: Path | None = None,
    page: Path | None = None,
    watch: Watch = unwatched,
) -> Drawn:
    """Read the records of some sweeps and draw from them.

    Args:
        what: As in `draw`.
        folders: As in `results.gather`.
        view: What of the outcomes is looked at.
        out: Folder for the files; none are written without it.
        page: Markdown page whose marked part becomes the evidence; only with `evidence`.
        watch: Shows progress.

    Raises:
        ConfigError: nothing to write, an unknown name, or a page for something else than the evidence.
        DataError: as `results.gather`, `draw` and `page.write_page`.
    """
    if out is None and page is None:
        raise ConfigError("nothing would be written", fix="give -o, or with evidence --page")
    if page is not None and what != EVIDENCE:
        raise ConfigError(f"{what!r} has no page", fix="use --page with evidence only")
    records = gather(folders)
    found = studies(records, view)
    files = draw(what, found, out, watch=watch) if out is not None else []
    if page is not None:
        write_page(page, evidence_markdown(found))
        files.append(page)
    verdicts = {
        f"{results.title}: {finding.claim.key}": finding.word
        for results in found
        for judged in (judged_on(results) if what == EVIDENCE else ())
        for finding in judged.findings
    }
    return Drawn(num_records=len(records), studies=tuple(r.title for r in found), files=tuple(files), verdicts=verdicts)


def _titled(drawing: Drawing, results: Results) -> Section:
    section = drawing.make(results)
    number = drawing.number[0].upper() + drawing.number[1:]
    return replace(section, title=f"{section.title}, {results.title}", text=(f"{number}.", *section.text))


def _domains(of: Sequence[Results]) -> list[str]:
    return sorted({name for results in of for name in results.domains})


def _provenance(of: Sequence[Results]) -> dict[str, Cell]:
    records = [record for results in of for record in results.records]
    versions = sorted({f"{name} {value}" for record in records for name, value in record.versions.items() if value})
    data = sorted({record.digests["data"][:12] for record in records if "data" in record.digests})
    return {
        "rows": len({(record.source, record.name) for record in records}),
        "data": ", ".join(data) or None,
        "versions": ", ".join(versions) or None,
        "label": of[0].view.label,
    }
