"""The second paper's claims, each as the differences that would have to be there.

Source: Gu et al. 2024 (arXiv 2406.10519), whose contributions are a topological loss, a task of position, and a
hybrid of the ViT and UNETR++ that are pre-trained together; that each of them helps is what it is about.
Differs: its tables, splits, weights and settings are not known here, so no figure of it can be put beside ours. Two
figures are in circulation and stand here marked as unverified, for no run of ours tests them: “+1.72 points of Dice,
1.64 mm of HD95” over UNETR++, of a third-party note; and “2.1 to 4.7 points on average”, of a summary that no source
supports.
"""

from collections.abc import Callable
from typing import Final

from apatite.study.paper.claims import Claim
from apatite.study.paper.results import Results
from apatite.study.paper.topo_arms import topo_arm
from apatite.study.paper.verdict import Part
from apatite.study.sweep.rows import HYBRID, SCRATCH, UNETRPP, VIT

UNKNOWN: Final = "claimed; its figures are not known here"

Side = tuple[str, str]
"""Network and beginning."""


def _minus(title: str, first: Side, second: Side) -> Callable[[Results], list[Part]]:
    def parts(results: Results) -> list[Part]:
        arms = topo_arm(results, *first), topo_arm(results, *second)
        return [Part(title=title, terms=((1.0, arms[0]), (-1.0, arms[1])))]

    return parts


TOPO_CLAIMS: Final[tuple[Claim, ...]] = (
    Claim(
        key="topology",
        sentence="The topological loss helps: reconstruction and topology beat reconstruction alone.",
        paper=UNKNOWN,
        parts=_minus("rec + topology − rec", (VIT, "mae_topology"), (VIT, "mae_voxels")),
    ),
    Claim(
        key="position",
        sentence="The task of position helps: reconstruction and position beat reconstruction alone.",
        paper=UNKNOWN,
        parts=_minus("rec + position − rec", (VIT, "mae_position"), (VIT, "mae_voxels")),
    ),
    Claim(
        key="all three",
        sentence="Reconstruction, topology and position together beat reconstruction alone.",
        paper=f"{UNKNOWN}. A summary says 2.1 to 4.7 points of Dice over earlier methods: unverified",
        parts=_minus("all − rec", (VIT, "topo_mae"), (VIT, "mae_voxels")),
    ),
    Claim(
        key="hybrid, UNETR++",
        sentence="The pre-trained hybrid beats UNETR++ from scratch.",
        paper=f"{UNKNOWN}. A third-party note says +1.72 points of Dice and 1.64 mm less HD95: unverified",
        parts=_minus("hybrid − UNETR++ from scratch", (HYBRID, "topo_mae_hybrid"), (UNETRPP, SCRATCH)),
    ),
    Claim(
        key="hybrid, ViT",
        sentence="The pre-trained hybrid beats the pre-trained ViT alone.",
        paper=UNKNOWN,
        parts=_minus("hybrid − ViT", (HYBRID, "topo_mae_hybrid"), (VIT, "topo_mae")),
    ),
    Claim(
        key="consistency",
        sentence="Consistency between the two networks helps the hybrid.",
        paper=UNKNOWN,
        parts=_minus("with − without consistency", (HYBRID, "topo_mae_hybrid"), (HYBRID, "topo_mae_parallel")),
    ),
)
"""All by Dice at a threshold of 0.5, with the most labels that were run."""
