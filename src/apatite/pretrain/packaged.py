"""What is kept of a pre-trained method: the networks that can be fine-tuned, without the heads that only it needed.

kind       architecture                                   names of weights
encoder    that of the ViT                                those of the ViT; the method has no other branch
hybrid     {"vit": ... or null, "unetrpp": ... or null}   vit.*, unetrpp.*
"""

from typing import Any, cast

import numpy as np
from torch import nn

from apatite.core.config import dump
from apatite.engine.weights import weights_of
from apatite.pretrain.branches import UNETRPPBranch
from apatite.pretrain.task import PretrainTask

UNETRPP_HEADS = "heads."
"""What UNETR++ reconstructs with; a segmenter has others in its place."""


def packaged(task: PretrainTask) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Kind and architecture for the package's card, and its weights."""
    if set(task.branches) == {"vit"}:
        return "encoder", dump(task.encoder.config), weights_of(task.encoder)
    architecture: dict[str, Any] = {"vit": None, "unetrpp": None}
    weights: dict[str, np.ndarray] = {}
    for name, branch in task.branches.items():
        network = cast(UNETRPPBranch, branch).network if name == "unetrpp" else cast(nn.Module, branch.encoder)
        architecture[name] = dump(network.config)
        weights |= {
            f"{name}.{key}": array for key, array in weights_of(network).items() if not key.startswith(UNETRPP_HEADS)
        }
    return "hybrid", architecture, weights
