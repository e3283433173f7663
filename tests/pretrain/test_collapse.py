"""The rules by hand, and runs that are made to collapse, each in its own way, beside one that learns."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from apatite.data.batches import Batch
from apatite.engine.fit import FitPlan, fit
from apatite.engine.optim import OptimConfig, build_optimizer
from apatite.engine.precision import Precision
from apatite.nn.attention import AttentionKernel
from apatite.nn.projection import ProjectionConfig
from apatite.nn.vit import ViTConfig
from apatite.pretrain.branches import Shapes
from apatite.pretrain.collapse import collapse_reasons, collapse_warning
from apatite.pretrain.health import effective_rank, feature_spread, teacher_numbers
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask
from apatite.pretrain.teaching import Teaching

SOUND = {
    "effective_rank": 20.0,
    "feature_spread": 0.3,
    "cells_teacher_entropy": 2.0,
    "cells_mean_entropy": 3.5,
    "views_teacher_entropy": 1.0,
    "views_mean_entropy": 2.5,
}
PROTOTYPES = 64


def test_a_sound_row_has_no_reason():
    assert collapse_reasons(SOUND, PROTOTYPES) == ()
    assert collapse_reasons({"effective_rank": 20.0}, PROTOTYPES) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"effective_rank": 1.9}, "features span 1.9 directions"),
        ({"feature_spread": 0.004}, "features of all crops are the same within 0.004 of their length"),
        (
            {"cells_teacher_entropy": math.log(64) - 0.019, "cells_mean_entropy": math.log(64)},
            "the teacher gives cells all 64 prototypes alike",
        ),
        (
            {"views_teacher_entropy": 0.1, "views_mean_entropy": math.log(1.5)},
            "the teacher gives all views 1.5 of 64 prototypes",
        ),
        (
            {"views_teacher_entropy": 2.495, "views_mean_entropy": 2.5},
            "the teacher says the same of all views",
        ),
    ],
)
def test_each_rule_has_its_reason(change, reason):
    assert collapse_reasons(SOUND | change, PROTOTYPES) == (reason,)
    # With the student's name before it where a method has two branches.
    named = {f"student.{name}": value for name, value in (SOUND | change).items()}
    assert collapse_reasons(named, PROTOTYPES) == (reason,)


def test_a_teacher_that_is_sure_of_few_rows_is_sound():
    """Four views and 8192 prototypes: the mean entropy cannot be near ln K, and need not."""
    row = {"views_teacher_entropy": 0.01, "views_mean_entropy": math.log(4)}
    assert collapse_reasons(row, 8192) == ()


def test_a_teacher_that_has_hardly_begun_to_say_something_is_sound():
    row = {"views_teacher_entropy": math.log(8192) - 0.08, "views_mean_entropy": math.log(8192) - 0.01}
    assert collapse_reasons(row, 8192) == ()


def test_other_branches_and_nulls_are_not_looked_at():
    row = {"vit.effective_rank": 1.0, "effective_rank": None, "feature_spread": float("nan")}
    assert collapse_reasons(row, PROTOTYPES) == ()


def test_the_warning_names_the_step_since_which_it_lasts():
    bad = SOUND | {"effective_rank": 1.0, "is_collapsed": 1.0}
    good = SOUND | {"is_collapsed": 0.0}
    rows = [bad | {"step": 9}, good | {"step": 19}, {"step": 25}, bad | {"step": 29}, bad | {"step": 39}]
    said = collapse_warning(rows, PROTOTYPES)
    assert said == "it has collapsed, at the latest since step 29: features span 1.0 directions"
    assert collapse_warning(rows[:2], PROTOTYPES) is None
    assert collapse_warning([{"step": 3, "effective_rank": 1.0}], PROTOTYPES) is None


STEPS, CASES = 80, 24
ENCODER = ViTConfig(crop=(8, 12, 12), patch=(4, 4, 4), dim=24, depth=2, heads=2)
PARENT = (12, 16, 16)


@cache
def images_hu() -> torch.Tensor:
    """Waves and a ball on backgrounds as different as fat, tissue and bone."""
    draw = torch.Generator().manual_seed(1)
    z, y, x = torch.meshgrid(*(torch.arange(float(edge)) for edge in PARENT), indexing="ij")
    made = []
    for _ in range(CASES):
        slow, place = torch.rand(3, generator=draw), torch.rand(3, generator=draw)
        waves = 60 * torch.sin(z / (2 + 4 * slow[0])) + 40 * torch.cos(y / (2 + 4 * slow[1])) + 50 * torch.sin(x / 3)
        centre = torch.tensor(PARENT) * (0.3 + 0.4 * place)
        is_ball = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 9
        background = 600 * (torch.rand(1, generator=draw) - 0.5)
        made.append(background + waves + 500 * is_ball + 10 * torch.randn(PARENT, generator=draw))
    return torch.stack(made)[:, None]


def batches(step: int) -> Batch:
    chosen = torch.randperm(CASES, generator=torch.Generator().manual_seed(step))[:8].tolist()
    return Batch(case_ids=tuple(map(str, chosen)), images_hu=images_hu()[chosen])


def after_a_run(teaching: Teaching, optim: OptimConfig, method: str = "smit_without_mip") -> dict[str, float]:
    """The panel's numbers of a student and its teacher at the end of a run."""
    torch.manual_seed(0)
    shapes = Shapes(encoder=ENCODER, projection=ProjectionConfig(prototypes=PROTOTYPES, hidden=48, dim=16))
    task = PretrainTask(replace(METHODS[method], teaching=teaching), shapes, AttentionKernel(), 0, steps=STEPS)
    plan = FitPlan(steps=STEPS, seed=0, optim=optim, precision=Precision())
    for _ in fit(task, batches, build_optimizer(task, optim), plan):
        pass
    task.eval()
    with torch.no_grad():
        view = task.view(Batch(case_ids=tuple("abcdefghijkl"), images_hu=images_hu()[:12]), 10**6)
        student = task.branches["student"]
        tokens = student.norm(student.encoder.taps(view.image()).at(student.tap))
        assert task.teacher is not None
        numbers = teacher_numbers(task.teacher.taught(view, 10**6), view.is_hidden)
    return {
        "effective_rank": effective_rank(tokens.flatten(0, 1)),
        "feature_spread": feature_spread(tokens.mean(dim=1)),
        **numbers,
    }


OPTIM = OptimConfig(lr=1e-3, warmup_fraction=0.0)


def test_a_run_that_learns_is_sound():
    row = after_a_run(Teaching(momentum=0.99, temperature=(0.04, 0.04)), OPTIM)
    assert collapse_reasons(row, PROTOTYPES) == ()
    assert row["cells_mean_entropy"] > row["cells_teacher_entropy"] + 0.3
    assert row["cells_used_prototypes"] > 4 / 64


def test_without_a_centre_a_sharp_teacher_gives_all_views_one_prototype():
    never = {"cells_centre_momentum": 0.999999, "views_centre_momentum": 0.999999}
    row = after_a_run(Teaching(momentum=0.5, temperature=(0.02, 0.02), **never), OPTIM)
    assert row["views_largest_share"] > 0.95
    assert row["views_teacher_entropy"] < 0.1
    assert "the teacher gives all views 1.0 of 64 prototypes" in collapse_reasons(row, PROTOTYPES)


def test_without_sharpening_a_teacher_gives_all_prototypes_alike():
    row = after_a_run(Teaching(momentum=0.9, temperature=(1.0, 1.0)), replace(OPTIM, lr=3e-3))
    assert row["cells_teacher_entropy"] > math.log(64) - 0.02
    assert {reason for reason in collapse_reasons(row, PROTOTYPES) if "alike" in reason} == {
        "the teacher gives cells all 64 prototypes alike",
        "the teacher gives views all 64 prototypes alike",
    }


def test_weights_that_decay_away_leave_every_crop_the_same():
    """The ViT adds its positions to what is left of the image: rows still differ, crops do not."""
    row = after_a_run(Teaching(), OptimConfig(lr=1e-2, weight_decay=90.0, warmup_fraction=0.0), "itd_only")
    assert row["effective_rank"] > 2
    assert any("features of all crops are the same" in reason for reason in collapse_reasons(row, PROTOTYPES))
