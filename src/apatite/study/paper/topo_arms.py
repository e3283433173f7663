"""The arms of the second paper's comparisons: a network, and what it began from.

Where there are several labels, figures are means over them (`Results.over_labels`).
"""

from typing import Final

from apatite.study.paper.results import Arm, Results
from apatite.study.paper.words import NETWORKS, TOPOLOGY, start_words
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import HYBRID, HYBRID_DECODER, SCRATCH, UNETRPP, VIT, method_of

_OWN = (UNETRPP, HYBRID, HYBRID_DECODER)
"""Networks that no other paper here has."""

MAIN: Final[tuple[tuple[str, str], ...]] = (
    (VIT, SCRATCH),
    (VIT, "mae_voxels"),
    (VIT, "mae_topology"),
    (VIT, "mae_position"),
    (VIT, "topo_mae"),
    (UNETRPP, SCRATCH),
    (UNETRPP, "topo_mae_unetrpp"),
    (HYBRID, "topo_mae_parallel"),
    (HYBRID, "topo_mae_hybrid"),
    (HYBRID_DECODER, "topo_mae_hybrid"),
)
"""What is always shown, run or not."""


def topo_arm(results: Results, network: str, init: str, **axes: str | int | None) -> Arm:
    """A network from a beginning, at the study's reference but for some axes."""
    title = f"{NETWORKS[network]}, {start_words(init)}"
    return results.arm(title, "raw", network=network, init=init, **axes)


def others_run(results: Results) -> list[tuple[str, str]]:
    """Networks and beginnings of finished rows beside those that are always shown, of methods of this paper."""
    return sorted(results.beginnings(is_of_topology) - set(MAIN))


def is_of_topology(record: Record) -> bool:
    """Whether a row is one of this paper's comparisons and of no other's."""
    network, method = record.axes.get("network"), method_of(str(record.axes.get("init")))[0]
    return record.kind == "vit" and (network in _OWN or (network in (VIT, None) and method in TOPOLOGY))
