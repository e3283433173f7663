"""A plan that is made smaller stays one that nnU-Net can build; the topology is nnU-Net's rule, written out here."""

import pytest

from apatite.study.nnunet.child_planning import LEAST_EDGE, fitted_patch, shrunk

SPACING = (2.0, 0.88, 0.88)


def topology(patch):
    """nnU-Net's rule: halve the axes whose spacing is within a factor of 2 of the finest, down to 4 voxels."""
    size, spacing = [float(edge) for edge in patch], list(SPACING[-len(patch) :])
    pools = [0] * len(patch)
    strides, kernels, kernel = [[1] * len(patch)], [], [1] * len(patch)
    while True:
        may = [axis for axis, edge in enumerate(size) if edge >= 2 * LEAST_EDGE]
        finest = min((spacing[axis] for axis in may), default=0.0)
        may = [axis for axis in may if spacing[axis] / finest < 2]
        if not may or (len(may) == 1 and size[may[0]] < 3 * LEAST_EDGE):
            break
        kernel = [3 if spacing[axis] / min(spacing) < 2 else kernel[axis] for axis in range(len(patch))]
        strides.append([2 if axis in may else 1 for axis in range(len(patch))])
        kernels.append(list(kernel))
        for axis in may:
            pools[axis], spacing[axis], size[axis] = pools[axis] + 1, 2 * spacing[axis], -(-size[axis] // 2)
    padded = [-(-int(edge) // 2**count) * 2**count for edge, count in zip(patch, pools, strict=True)]
    return strides, [*kernels, [3] * len(patch)], padded


def planned(patch):
    strides, kernels, padded = topology(patch)
    stages = len(strides)
    return {
        "patch_size": padded,
        "batch_size": 9,
        "data_identifier": "nnUNetPlans_3d_fullres",
        "architecture": {
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": [min(320, 32 * 2**stage) for stage in range(stages)],
                "kernel_sizes": kernels,
                "strides": strides,
                "n_conv_per_stage": [2] * stages,
                "n_conv_per_stage_decoder": [2] * (stages - 1),
            }
        },
    }


NOTHING = {"patch": None, "batch": None, "base_features": None, "stages": None}


def test_the_patch_stays_within_the_cap_and_can_be_halved():
    assert fitted_patch([32, 96, 96], None, topology) == [32, 96, 96]
    for cap in ([16, 48, 40], [13, 50, 41], [9, 100, 33]):
        patch = fitted_patch([32, 96, 96], cap, topology)
        assert all(edge <= most for edge, most in zip(patch, cap, strict=True))
        assert topology(patch)[2] == patch
        # Not smaller than needed: one step more along any axis does not fit.
        assert all(most - edge < 16 or edge in (32, 96) for edge, most in zip(patch, cap, strict=True))


def test_only_what_is_asked_for_changes():
    plan = planned([32, 96, 96])
    made = shrunk(plan, NOTHING | {"batch": 3}, [0, 1, 2], topology)
    assert made == plan | {"batch_size": 3}
    assert shrunk(plan, NOTHING, [0, 1, 2], topology) == plan


def test_a_smaller_network_by_hand():
    plan = planned([32, 96, 96])
    made = shrunk(plan, NOTHING | {"base_features": 48, "stages": 4}, [0, 1, 2], topology)
    network = made["architecture"]["arch_kwargs"]
    assert network["features_per_stage"] == [48, 96, 192, 320]
    assert network["strides"] == [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert network["kernel_sizes"] == [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]
    assert (network["n_stages"], network["n_conv_per_stage"]) == (4, [2] * 4)
    assert network["n_conv_per_stage_decoder"] == [2] * 3
    assert plan["architecture"]["arch_kwargs"]["n_stages"] > 4


@pytest.mark.parametrize(
    ("axes", "cap", "patch"), [([0, 1, 2], [16, 48, 40], [16, 48, 40]), ([1, 2, 0], [80, 16, 48], [16, 48, 80])]
)
def test_the_cap_turns_with_the_axes(axes, cap, patch):
    """nnU-Net puts the axis of the coarsest spacing first; the cap is given as depth, height, width."""
    assert shrunk(planned([32, 96, 96]), NOTHING | {"patch": cap}, axes, topology)["patch_size"] == patch


def test_a_flat_patch_has_no_depth():
    made = shrunk(planned([96, 80]), NOTHING | {"patch": [16, 48, 40], "base_features": 64}, [0, 1, 2], topology)
    assert made["patch_size"] == [48, 40]
    assert max(made["architecture"]["arch_kwargs"]["features_per_stage"]) <= 512
