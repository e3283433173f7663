"""The papers whose claims are judged: which claims, on which studies, and what of their data can be had."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from apatite.calibrate.readings import CALCIUM
from apatite.study.paper.claim_table import CLAIMS
from apatite.study.paper.claims import Claim
from apatite.study.paper.published import TAG
from apatite.study.paper.results import Results
from apatite.study.paper.smit_arms import is_of_pretexts
from apatite.study.paper.smit_claims import SMIT_CLAIMS
from apatite.study.paper.topo_arms import is_of_topology
from apatite.study.paper.topo_claims import TOPO_CLAIMS
from apatite.study.sweep.record import Record


@dataclass(frozen=True, kw_only=True)
class Paper:
    """One paper.

    Attributes:
        name: As it is cited.
        tag: What the column of its figures is called.
        claims: What it claims.
        undecided_real: What stands in the column of real data where a study is of phantoms alone.
        is_about: Whether a finished row is of its comparisons.
        seen: A study as its claims are about it.
        cases: What its figures are means over.
    """

    name: str
    tag: str
    claims: Sequence[Claim]
    undecided_real: str
    is_about: Callable[[Record], bool]
    seen: Callable[[Results], Results]
    cases: str

    def has_rows(self, results: Results) -> bool:
        """Whether a study holds finished rows of its comparisons."""
        return any(record.kind != "pretrain" and self.is_about(record) for record in results.records)


def _is_of_calcium(record: Record) -> bool:
    # Rows that do not say what was segmented are older than any with organs.
    return not record.label_names or CALCIUM in record.label_names.values()


JIN2025: Final = Paper(
    name="Jin et al. 2025",
    tag=TAG,
    claims=CLAIMS,
    undecided_real="not decidable here: no annotated data are public",
    is_about=_is_of_calcium,
    seen=lambda results: results,
    cases="cases with calcium",
)
GU2024: Final = Paper(
    name="Gu et al. 2024",
    tag="paper (arXiv 2406.10519, figures not known)",
    claims=TOPO_CLAIMS,
    undecided_real="not run",
    is_about=is_of_topology,
    seen=lambda results: results.over_labels,
    cases="cases, labels averaged",
)
JIANG2026: Final = Paper(
    name="Jiang et al. 2022 and 2026",
    tag="papers (arXiv 2205.10342 and 2605.18491, other data)",
    claims=SMIT_CLAIMS,
    undecided_real="not run",
    is_about=is_of_pretexts,
    seen=lambda results: results.over_labels,
    cases="cases, labels averaged",
)
PAPERS: Final = (JIN2025, GU2024, JIANG2026)
