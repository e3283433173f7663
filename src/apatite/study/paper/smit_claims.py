"""The third pair of papers' claims, each as the differences that would have to be there.

Source: Jiang et al. 2022 (SMIT, arXiv 2205.10342) and Jiang and Veeraraghavan 2026 (arXiv 2605.18491), which compares
nine pretext tasks on one Swin transformer; of both only abstracts could be read, of the second two that differ.
Differs: nothing of their data, splits, sizes or schedules is used here, and no Dice of the second is known. The second
also claims the smallest gap between few and many labels for SMIT; that is the claim about few labels, turned round: an
advantage that is larger with few labels by some amount is a gap that is smaller by that amount.
"""

from collections.abc import Callable, Mapping
from typing import Final

from apatite.study.paper.claims import Claim
from apatite.study.paper.convergence import sooner
from apatite.study.paper.poster import AVERAGES
from apatite.study.paper.results import Arm, Results
from apatite.study.paper.smit_arms import few_and_many, pretext_arm
from apatite.study.paper.verdict import Part, Verdict
from apatite.study.paper.words import PRETEXTS, start_words
from apatite.study.sweep.rows import SCRATCH, SWIN, Value

OTHERS: Final = ("simmim", "ibot", "dino", "mocov3", "rotation")
"""Pretext tasks that SMIT is compared with."""
DENSE, IMAGE_LEVEL = ("simmim", "dino", "ibot"), ("rotation", "mocov3")
"""Those said to be better, and those that look at the image as a whole."""


def _name(init: str) -> str:
    return PRETEXTS.get(init, start_words(init))


def _minus(results: Results, first: str, second: str) -> Part:
    arms = (pretext_arm(results, SWIN, init) for init in (first, second))
    terms = tuple(zip((1.0, -1.0), arms, strict=True))
    return Part(title=f"{_name(first)} − {_name(second)}", terms=terms)


def _against(first: str, *others: str) -> Callable[[Results], list[Part]]:
    return lambda results: [_minus(results, first, other) for other in others]


def _dense_first(results: Results) -> list[Part]:
    return [_minus(results, first, second) for first in DENSE for second in IMAGE_LEVEL]


def _largest_with_few(results: Results) -> list[Part]:
    few, many = few_and_many(results)
    return [
        Part(
            title=f"(SMIT − {_name(other)}) with {few} labels − the same with {many}",
            terms=(
                (1.0, _with(results, "smit", few)),
                (-1.0, _with(results, other, few)),
                (-1.0, _with(results, "smit", many)),
                (1.0, _with(results, other, many)),
            ),
        )
        for other in OTHERS
    ]


def _with(results: Results, init: str, labels: Value) -> Arm:
    arm = pretext_arm(results, SWIN, init, labels=labels)
    return Arm(title=f"{arm.title}, {labels} labels", axes=arm.axes, reading=arm.reading)


def _soonest(results: Results) -> Mapping[str, Verdict]:
    """Steps that SMIT saves against each of the others and against scratch, which sets the goal."""
    arms = {init: pretext_arm(results, SWIN, init) for init in ("smit", *OTHERS, SCRATCH)}
    return {
        f"steps of {_name(other)} − steps of SMIT": sooner(results, arms["smit"], arms[other], arms[SCRATCH])
        for other in (*OTHERS, SCRATCH)
    }


_POSTER = ", ".join(f"{_name(init)} {ct:.3f}/{mr:.3f}" for init, (ct, mr) in AVERAGES.items())

SMIT_CLAIMS: Final[tuple[Claim, ...]] = (
    Claim(
        key="SMIT",
        sentence="SMIT is the best pretext task: it beats SimMIM, iBOT, DINO, MoCo v3 and rotation.",
        paper=f"highest over nine tasks, no figure known. A poster has, on CT/MR: {_POSTER}: unverified",
        parts=_against("smit", *OTHERS),
    ),
    Claim(
        key="SMIT, scratch",
        sentence="SMIT beats training from scratch.",
        paper="a model card of the same lab: 0.69 against 0.54, lung tumours in CT",
        parts=_against("smit", SCRATCH),
    ),
    Claim(
        key="dense or whole",
        sentence="SimMIM, DINO and iBOT each beat rotation and the contrastive task (MoCo v3).",
        paper="claimed; its figures are not known here. That MoCo v3 is theirs is not known either",
        parts=_dense_first,
    ),
    Claim(
        key="few labels",
        sentence="What SMIT is ahead of each other pretext task is larger with few labels than with many.",
        paper="claimed; its figures and its numbers of labels are not known here",
        parts=_largest_with_few,
    ),
    Claim(
        key="convergence",
        sentence="Fine-tuning from SMIT gets to 90 % of what scratch ends with in the fewest steps.",
        paper="fastest convergence: in the abstract of the listing only",
        judged=_soonest,
    ),
)
"""All by Dice at a threshold of 0.5, with the most labels that were run unless it says otherwise."""
