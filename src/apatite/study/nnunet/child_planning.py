"""A smaller patch, batch or network in a plan of nnU-Net's, for a machine that the plan was not made for.

Source: nnunetv2 2.8.1, `ExperimentPlanner.get_plans_for_configuration`: topology from the patch, features doubled
per stage, 3×3×3 at the bottom.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

LEAST_EDGE = 4
"""Of the smallest feature map, as in nnU-Net's planner."""
MOST_FEATURES = {2: 512, 3: 320}
"""By the number of axes, as in nnU-Net's planner."""
SHRINKS = ("patch", "batch", "base_features", "stages")

Topology = Callable[[Sequence[int]], tuple[Sequence[Sequence[int]], Sequence[Sequence[int]], Sequence[int]]]
"""From a patch to strides and kernels per stage, and the patch padded so that it can be halved so often."""


def fitted_patch(planned: Sequence[int], cap: Sequence[int] | None, topology: Topology) -> list[int]:
    """The largest patch within both that stays within the cap when it is padded so that it can be halved."""
    if cap is None:
        return [int(edge) for edge in planned]
    patch = [min(int(edge), int(most)) for edge, most in zip(planned, cap, strict=True)]
    while True:
        padded = [int(edge) for edge in topology(patch)[2]]
        is_within = [edge <= most for edge, most in zip(padded, cap, strict=True)]
        if all(is_within):
            return padded
        patch = [edge if fits else edge - 1 for edge, fits in zip(patch, is_within, strict=True)]


def shrunk(plan: Mapping[str, Any], settings: Mapping[str, Any], axes: Sequence[int], topology: Topology) -> dict:
    """A copy of a configuration of nnU-Net's plans, smaller where it is asked for.

    Args:
        plan: As nnU-Net made it.
        settings: `patch` (from k to i), `batch`, `base_features` and `stages`; each may be `None`.
        axes: nnU-Net's `transpose_forward`: which axis of the image is the first, second and third of a patch.
        topology: See `Topology`.
    """
    made = deepcopy(dict(plan))
    cap = settings["patch"]
    if cap is not None:
        # A 2D patch has no depth.
        cap = [cap[axis] for axis in axes][-len(plan["patch_size"]) :]
    patch = fitted_patch(plan["patch_size"], cap, topology)
    strides, kernels, _ = topology(patch)
    stages = min(len(strides), settings["stages"] or len(strides))
    network = made["architecture"]["arch_kwargs"]
    base = settings["base_features"] or network["features_per_stage"][0]
    num_axes = len(patch)
    network["n_stages"] = stages
    network["strides"] = [list(stride) for stride in strides[:stages]]
    network["kernel_sizes"] = [list(kernel) for kernel in kernels[: stages - 1]] + [[3] * num_axes]
    network["features_per_stage"] = [min(MOST_FEATURES[num_axes], base * 2**stage) for stage in range(stages)]
    network["n_conv_per_stage"] = list(network["n_conv_per_stage"])[:stages]
    network["n_conv_per_stage_decoder"] = list(network["n_conv_per_stage_decoder"])[: stages - 1]
    return made | {"patch_size": patch, "batch_size": settings["batch"] or plan["batch_size"]}
