"""One claim of the paper judged on one study: its parts, the verdict on each, and what they make together.

A claim about the paper's smallest patches cannot be judged where patches are coarser, whatever came out there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from apatite.study.paper.arms import PATCHES
from apatite.study.paper.published import PATCH_MM
from apatite.study.paper.results import Results
from apatite.study.paper.verdict import Part, Rule, Verdict, Word, all_of, judge, some

_PATCH_TOLERANCE: Final = 1.25
"""How much longer an edge may be than the paper's."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim.

    Attributes:
        key: Short name.
        sentence: What is claimed.
        paper: What the paper found.
        quantity: As in `contrasts.sample`.
        parts: The differences it is about; all have to be as claimed.
        judged: Instead of them, for what is no difference over cases: each part in words, and its verdict.
        rule: `more`: every difference is above 0. `alike`: none is beyond the margin. `no gain`: not all are above 0.
        margin: A difference of less than this counts as none.
        needs_paper_patch: Whether it is about patches as small as the paper's smallest.
    """

    key: str
    sentence: str
    paper: str
    quantity: str = "dice"
    parts: Callable[[Results], list[Part]] = lambda _: []
    judged: Callable[[Results], Mapping[str, Verdict]] | None = None
    rule: Rule | Literal["no gain"] = "more"
    margin: float = 0.01
    needs_paper_patch: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim, judged on one study.

    Attributes:
        claim: The claim.
        word: The verdict.
        reason: What decided it.
        parts: Each difference in words, with its own verdict.
    """

    claim: Claim
    word: Word
    reason: str
    parts: Mapping[str, Verdict]


def find(results: Results, claim: Claim) -> Finding:
    """Judge a claim on one study."""
    parts = _parts(results, claim)
    word = all_of(list(parts.values()))
    if claim.rule == "no gain":
        word = _opposite(word)
    too_coarse = _too_coarse(results) if claim.needs_paper_patch else ""
    if too_coarse:
        word = "not decidable"
    return Finding(claim=claim, word=word, reason=too_coarse or _reason(claim, word, parts), parts=parts)


def _parts(results: Results, claim: Claim) -> Mapping[str, Verdict]:
    if claim.judged is not None:
        return claim.judged(results)
    rule: Rule = "more" if claim.rule == "no gain" else claim.rule
    return {part.title: judge(results, part, claim.quantity, rule, claim.margin) for part in claim.parts(results)}


def _too_coarse(results: Results) -> str:
    """Why a study cannot speak of the paper's patches; empty where it can."""
    rows = [r for r in results.records if r.patch_mm is not None and r.axes.get("patch") == PATCHES[0]]
    if not rows or rows[0].patch_mm is None:
        return ""
    edges = rows[0].patch_mm
    if all(edge <= _PATCH_TOLERANCE * limit for edge, limit in zip(edges, PATCH_MM, strict=True)):
        return ""
    return f"the smallest patch here is {_mm(edges)} mm; the paper's is {_mm(PATCH_MM)} mm"


def _mm(edges: tuple[float, float, float]) -> str:
    return " × ".join(f"{edge:.3g}" for edge in edges)


def _reason(claim: Claim, word: Word, parts: Mapping[str, Verdict]) -> str:
    """The reasons of the parts that decided, each once."""
    if claim.rule == "no gain":
        deciding = list(parts.values())
    else:
        deciding = [verdict for verdict in parts.values() if verdict.word == word]
    absent = dict.fromkeys(name for verdict in deciding for name in verdict.absent)
    reasons = dict.fromkeys(verdict.reason for verdict in deciding if not verdict.absent)
    return "; ".join([*([f"not run: {some(list(absent))}"] if absent else []), *reasons])


def _opposite(word: Word) -> Word:
    opposites: dict[Word, Word] = {"holds": "does not hold", "does not hold": "holds"}
    return opposites.get(word, "not decidable")
