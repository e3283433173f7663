"""The arms of the second paper's comparisons: a network, and what it began from.

Where there are several labels, figures are means over them (`Results.over_labels`).
"""

from typing import Final

from apatite.study.paper.results import Arm, Results
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import (
    AS_LONG_AS,
    EQUAL_TIME,
    HYBRID,
    HYBRID_DECODER,
    SCRATCH,
    UNETRPP,
    VIT,
    method_of,
)

NETWORKS: Final[dict[str, str]] = {
    VIT: "ViT",
    UNETRPP: "UNETR++",
    HYBRID: "hybrid",
    HYBRID_DECODER: "ViT with the decoder of UNETR++",
}
METHODS: Final[dict[str, str]] = {
    "mae_voxels": "reconstruction alone",
    "mae_topology": "reconstruction and topology",
    "mae_position": "reconstruction and position",
    "topo_mae": "all three",
    "topo_mae_unetrpp": "all three, UNETR++ alone",
    "topo_mae_parallel": "all three, both networks",
    "topo_mae_hybrid": "all three, both networks, consistency",
    "mae_euler": "reconstruction and Euler curves",
    "mae_critical": "reconstruction and critical voxels",
}
"""Pre-training methods of this paper, and those put in place of its topological loss."""
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
    return results.arm(title, network=network, init=init, **axes)


def start_words(init: str) -> str:
    """A beginning in words; one that is not of this paper is called by its name."""
    plain = {SCRATCH: "from scratch", EQUAL_TIME: "from scratch, for the time of pre-training too"}
    if init in plain:
        return plain[init]
    method, reference = method_of(init)
    words = f"pre-trained: {METHODS.get(method, method)}"
    return f"{words}, for the time of: {METHODS.get(reference, reference)}" if AS_LONG_AS in init else words


def others_run(results: Results) -> list[tuple[str, str]]:
    """Networks and beginnings of finished rows beside those that are always shown, of methods of this paper."""
    found = {
        (str(record.axes.get("network")), str(record.axes.get("init")))
        for record in results.records
        if is_of_topology(record)
    }
    return [(network, init) for network, init in sorted(found - set(MAIN)) if network in NETWORKS]


def is_of_topology(record: Record) -> bool:
    """Whether a row is one of this paper's comparisons and of no other's."""
    network, method = record.axes.get("network"), method_of(str(record.axes.get("init")))[0]
    return record.kind == "vit" and (network not in (VIT, None) or method in METHODS)
