"""The segmenters by name: which of a ViT, a decoder of its tokens, UNETR++ and a Swin each is made of.

Source: UNETR++ by Shaker et al. 2024 (arXiv 2212.04497); that a pre-trained ViT complements it, after Gu et al. 2024
(arXiv 2406.10519), in either of two ways: which one is theirs is not known to us; a Swin and its decoder by Hatamizadeh
et al. 2022 (arXiv 2201.01266).
"""

from dataclasses import dataclass
from typing import Final

from apatite.core.registry import choose
from apatite.nn.hybrid import UNETRPPAlone, UNETRPPOnStates, UNETRPPWithStates


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a segmenter is made of.

    Attributes:
        note: In one line.
        has_encoder: Whether there is a ViT.
        unetrpp: In which way UNETR++ is there; `None` where the decoder is one of `nn.decoders.registry`, or a Swin's.
        has_swin: Whether there is a Swin, which brings its own decoder.
    """

    note: str
    has_encoder: bool
    unetrpp: type[UNETRPPAlone] | None
    has_swin: bool = False


NETWORKS: Final[dict[str, Network]] = {
    "vit": Network(note="the ViT and the decoder that decoder.name says", has_encoder=True, unetrpp=None),
    "unetrpp": Network(note="UNETR++ by itself", has_encoder=False, unetrpp=UNETRPPAlone),
    "hybrid": Network(
        note="UNETR++, the ViT's states added to its stages; begins as UNETR++ by itself",
        has_encoder=True,
        unetrpp=UNETRPPWithStates,
    ),
    "hybrid_decoder": Network(
        note="the ViT, its states in place of UNETR++'s stages, and UNETR++'s decoder",
        has_encoder=True,
        unetrpp=UNETRPPOnStates,
    ),
    "swin": Network(
        note="a Swin transformer, and the U-Net of its maps that Swin UNETR and SMIT have",
        has_encoder=False,
        unetrpp=None,
        has_swin=True,
    ),
}


def network_of(name: str) -> Network:
    """What the segmenter of that name is made of.

    Raises:
        ConfigError: the name is unknown.
    """
    return choose(NETWORKS, name, "network")
