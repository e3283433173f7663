"""A tiny task of self-distillation whose edges all differ, and crops for it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from apatite.data.batches import Batch
from apatite.nn.attention import AttentionKernel
from apatite.nn.projection import ProjectionConfig
from apatite.nn.swin.config import SwinConfig
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS, Method
from apatite.pretrain.task import PretrainTask

ENCODER = SwinConfig(
    crop=(24, 32, 48),
    patch=(1, 2, 3),
    windows_hu=((-160.0, 240.0), (-1000.0, 400.0)),
    dim=12,
    depths=(1, 2, 1, 2),
    heads=(1, 2, 3, 4),
    window=(2, 2, 2),
)
PROJECTION = ProjectionConfig(prototypes=40, hidden=32, dim=16)
SAMPLES, STEPS = 2, 60


@pytest.fixture
def smit_method() -> Callable[[str], Method]:
    """A method whose prototypes learn at once, with local views that no attention window is larger than."""

    def method_of(name: str) -> Method:
        method = METHODS[name]
        teaching = None if method.teaching is None else replace(method.teaching, frozen_share=0.0)
        count = min(method.views.local_count, 2)
        return replace(method, teaching=teaching, views=replace(method.views, local_count=count, local_share=0.8))

    return method_of


@pytest.fixture
def smit_task() -> Callable[..., PretrainTask]:
    """A task of 60 steps whose weights are far from where a run begins: no norm is 1 and no bias 0."""

    def task_of(
        method: Method, dtype: torch.dtype = torch.float64, *, drop_path: float = 0.0, noise: float = 0.1
    ) -> PretrainTask:
        torch.manual_seed(0)
        shapes = Shapes(encoder=replace(ENCODER, drop_path=drop_path), projection=PROJECTION)
        task = PretrainTask(method, shapes, AttentionKernel(), seed=3, steps=STEPS)
        with torch.no_grad():
            for parameter in task.parameters():
                parameter.add_(noise * torch.randn(parameter.shape))
        return task.to(dtype)

    return task_of


@pytest.fixture
def smit_batch() -> Callable[..., Batch]:
    """Two crops of noise, as large as a method's views need."""

    def batch_of(method: Method, dtype: torch.dtype = torch.float64) -> Batch:
        parent = method.views.parent_of(ENCODER.crop, ENCODER.cell)
        images = 300 * torch.randn(SAMPLES, 1, *parent, generator=torch.Generator().manual_seed(5))
        return Batch(case_ids=("a", "b"), images_hu=images.to(dtype))

    return batch_of
