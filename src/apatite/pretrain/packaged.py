"""What is kept of a pre-trained method: the networks that can be fine-tuned, without the heads that only it needed.

kind       architecture                                   names of weights
encoder    that of the ViT                                those of the ViT; the method has no other branch
swin       that of the Swin                               those of the Swin, likewise
hybrid     {"vit": ... or null, "unetrpp": ... or null}   vit.*, unetrpp.*

Of a student and its teacher the one is kept that the method's teaching names.
"""

from typing import Any, cast

import numpy as np
from torch import nn

from apatite.core.config import dump
from apatite.engine.weights import weights_of
from apatite.nn.swin.config import SwinConfig
from apatite.pretrain.branches import StudentBranch, UNETRPPBranch
from apatite.pretrain.task import STUDENT, PretrainTask

UNETRPP_HEADS = "heads."
"""What UNETR++ reconstructs with; a segmenter has others in its place."""


def packaged(task: PretrainTask) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Kind and architecture for the package's card, and its weights."""
    if set(task.branches) == {"vit"}:
        return "encoder", dump(task.encoder.config), weights_of(task.encoder)
    if set(task.branches) == {STUDENT}:
        student = cast(StudentBranch, task.branches[STUDENT])
        is_teachers = task.teacher is not None and task.teacher.teaching.keeps == "teacher"
        encoder = task.teacher.branch.encoder if task.teacher is not None and is_teachers else student.encoder
        kind = "swin" if isinstance(task.shapes.encoder, SwinConfig) else "encoder"
        return kind, dump(encoder.config), weights_of(encoder)
    architecture: dict[str, Any] = {"vit": None, "unetrpp": None}
    weights: dict[str, np.ndarray] = {}
    for name, branch in task.branches.items():
        network = cast(UNETRPPBranch, branch).network if name == "unetrpp" else cast(nn.Module, branch.encoder)
        architecture[name] = dump(network.config)
        weights |= {
            f"{name}.{key}": array for key, array in weights_of(network).items() if not key.startswith(UNETRPP_HEADS)
        }
    return "hybrid", architecture, weights
