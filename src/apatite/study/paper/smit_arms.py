"""The arms of the third comparison: one Swin by what it began from, and a ViT beside it for what a Swin cannot do.

All are read at a threshold of 0.5; where there are several labels, figures are means over them.
"""

from typing import Final

from apatite.study.paper.results import Arm, Results
from apatite.study.paper.words import NETWORKS, PRETEXTS, start_words
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import SCRATCH, SWIN, VIT, Value, is_swin, method_of

MAIN: Final[tuple[tuple[str, str], ...]] = (
    (SWIN, SCRATCH),
    (SWIN, "rotation"),
    (SWIN, "mocov3"),
    (SWIN, "dino"),
    (SWIN, "ibot"),
    (SWIN, "simmim"),
    (SWIN, "smit"),
    (VIT, SCRATCH),
    (VIT, "mae"),
)
"""What is always shown, run or not. A Swin cannot leave patches out, so MAE stands beside a scratch of its own."""
_FIRST: Final = ("swin-smit", "swin-xs")
"""The Swin that is looked at where several were run."""


def pretext_arm(results: Results, network: str, init: str, **axes: Value) -> Arm:
    """A network from a beginning, at the study's reference but for some axes."""
    model = swin_of(results) if network == SWIN else _vit_of(results)
    title = f"{NETWORKS[network]}, {start_words(init)}"
    return results.arm(title, "raw", **({"model": model} | axes), network=network, init=init)


def swin_of(results: Results) -> str:
    """The Swin that the study is about."""
    found = [str(model) for model in results.values("model") if is_swin(model)]
    return next((model for model in _FIRST if model in found), found[0] if found else _FIRST[0])


def few_and_many(results: Results) -> tuple[Value, Value]:
    """The fewest and the most labels that were run; two words that fit no row where only one number was."""
    counts = results.values("labels")
    return (counts[0], counts[-1]) if len(counts) > 1 else ("few", "many")


def others_run(results: Results) -> list[tuple[str, str]]:
    """Networks and beginnings of finished rows beside those that are always shown."""
    return sorted(results.beginnings(is_of_pretexts) - set(MAIN))


def is_of_pretexts(record: Record) -> bool:
    """Whether a row is one of these comparisons and of no other's."""
    network, method = record.axes.get("network"), method_of(str(record.axes.get("init")))[0]
    return record.kind == "vit" and (network == SWIN or (network in (VIT, None) and method in PRETEXTS))


def _vit_of(results: Results) -> Value:
    """The study's reference, unless that is a Swin."""
    found = [model for model in results.values("model") if not is_swin(model)]
    held = results.reference.get("model")
    return held if held in found else found[0] if found else "a ViT"
