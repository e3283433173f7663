"""Networks and pre-training methods in words, as tables and legends of all papers call them."""

from typing import Final

from apatite.study.sweep.rows import (
    AS_LONG_AS,
    EQUAL_TIME,
    HYBRID,
    HYBRID_DECODER,
    SCRATCH,
    SWIN,
    UNETRPP,
    VIT,
    method_of,
)

NETWORKS: Final[dict[str, str]] = {
    VIT: "ViT",
    UNETRPP: "UNETR++",
    HYBRID: "hybrid",
    HYBRID_DECODER: "ViT with the decoder of UNETR++",
    SWIN: "Swin",
}
TOPOLOGY: Final[dict[str, str]] = {
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
"""Methods of Gu et al. 2024, and those put in place of its topological loss."""
PRETEXTS: Final[dict[str, str]] = {
    "smit": "SMIT",
    "smit_released": "SMIT as released",
    "smit_without_mip": "SMIT without reconstruction",
    "smit_twins": "SMIT, position-exact",
    "smit_balanced": "SMIT, balanced",
    "itd_only": "ITD alone",
    "ibot": "iBOT",
    "dino": "DINO",
    "dinov2": "DINOv2",
    "dinov3": "DINOv3",
    "simmim": "SimMIM",
    "mocov3": "MoCo v3",
    "rotation": "rotation",
}
"""SMIT, its parts, what was made of it here, and the pretext tasks that it is compared with."""
METHODS: Final[dict[str, str]] = {**TOPOLOGY, **PRETEXTS}


def start_words(init: str) -> str:
    """A beginning in words; one that is not known here is called by its name."""
    plain = {SCRATCH: "from scratch", EQUAL_TIME: "from scratch, for the time of pre-training too"}
    if init in plain:
        return plain[init]
    method, reference = method_of(init)
    words = f"pre-trained: {METHODS.get(method, method)}"
    return f"{words}, for the time of: {METHODS.get(reference, reference)}" if AS_LONG_AS in init else words
