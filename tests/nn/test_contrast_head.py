"""Projector and predictor against torch's own batch norms, and a batch that several processes share."""

import threading
from copy import deepcopy

import pytest
import torch
from torch import nn

from apatite.core.errors import ConfigError
from apatite.core.share import Share
from apatite.losses.contrast import contrastive_loss
from apatite.nn.contrast_head import BatchNorm, ContrastConfig, ContrastHead

SMALL = ContrastConfig(hidden=7, dim=5)


def made(width: int = 6, add_up=None) -> ContrastHead:
    torch.manual_seed(0)
    head = SMALL.build(width, add_up).double()
    for parameter in head.parameters():
        # Scales and shifts that are not 1 and 0.
        parameter.data += 0.2 * torch.randn_like(parameter)
    return head


def torch_twin(layers: nn.Sequential) -> nn.Sequential:
    """The same layers with torch's batch norms, in the order of the public code."""
    twins: list[nn.Module] = []
    for layer in layers:
        twin = deepcopy(layer)
        if isinstance(layer, BatchNorm):
            width = twins[-1].out_features
            twin = nn.BatchNorm1d(width, affine=layer.weight is not None).double()
            if layer.weight is not None:
                twin.load_state_dict(layer.state_dict(), strict=False)
        twins.append(twin)
    return nn.Sequential(*twins)


def test_layers_are_those_of_the_public_code():
    kinds = [type(layer).__name__ for layer in made().projector]
    assert kinds == ["Linear", "BatchNorm", "ReLU"] * 2 + ["Linear", "BatchNorm"]
    assert [type(layer).__name__ for layer in made().predictor] == [
        "Linear",
        "BatchNorm",
        "ReLU",
        "Linear",
        "BatchNorm",
    ]
    head = ContrastConfig().build(384)
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters() if value.ndim == 2}
    assert list(shapes.values()) == [(4096, 384), (4096, 4096), (256, 4096), (4096, 256), (256, 4096)]
    assert not any(
        "bias" in name and "Linear" in type(head.get_submodule(name.rpartition(".")[0])).__name__
        for name, _ in head.named_parameters()
    )
    assert head.projector[-1].weight is None and head.predictor[-1].weight is None


def test_each_view_is_normalised_by_itself_as_torch_does():
    head, elements = made(), torch.randn(2 * 4, 3, 6, dtype=torch.float64)
    found = head(elements, views=2)
    projector, predictor = torch_twin(head.projector), torch_twin(head.predictor)
    for view in range(2):
        pooled = head.norm(elements[4 * view : 4 * view + 4]).mean(dim=1)
        keys = projector(pooled)
        torch.testing.assert_close(found.keys[view], keys)
        torch.testing.assert_close(found.queries[view], predictor(keys))


def test_looking_changes_nothing_and_the_mode_does_not_matter():
    head, elements = made(), torch.randn(6, 3, 6, dtype=torch.float64)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    trained, looked = head.train()(elements, views=2), head.eval()(elements, views=2)
    assert torch.equal(trained.keys, looked.keys)
    assert torch.equal(trained.queries, looked.queries)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


def test_a_batch_norm_in_16_bits_is_computed_in_fp32():
    norm = BatchNorm(4, None, is_affine=False)
    found = norm((1000 + torch.arange(24.0).view(2, 3, 4)).bfloat16())
    assert found.dtype == torch.float32


class _Together:
    """Two threads that add up as two processes do: values on the way there, gradients on the way back."""

    def __init__(self) -> None:
        self.barrier, self.given = threading.Barrier(2), {}

    def add_up(self, index: int):
        together = self

        class Total(torch.autograd.Function):
            @staticmethod
            def forward(ctx, value):
                return together.total(index, value)

            @staticmethod
            def backward(ctx, gradient):
                return together.total(index, gradient)

        return Total.apply

    def total(self, index: int, value: torch.Tensor) -> torch.Tensor:
        self.given[index] = value
        self.barrier.wait(timeout=20)
        total = self.given[0] + self.given[1]
        self.barrier.wait(timeout=20)
        return total


def losses_and_gradients(head: ContrastHead, elements: torch.Tensor, share: Share, add_up) -> tuple[float, list]:
    seen = head(elements, views=2)
    loss = contrastive_loss(seen.queries, seen.keys.detach(), 0.2, share, add_up)
    loss.backward()
    return loss.item(), [parameter.grad for parameter in head.parameters()]


def test_two_processes_have_the_loss_and_the_gradients_of_one():
    elements = torch.randn(2, 4, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    alone, wanted = losses_and_gradients(made(), elements.flatten(0, 1), Share(), lambda value: value)
    together, found = _Together(), {}

    def work(index: int) -> None:
        add_up = together.add_up(index)
        own = elements[:, 2 * index : 2 * index + 2].flatten(0, 1)
        found[index] = losses_and_gradients(heads[index], own, Share(index=index, of=2), add_up)

    # Made beforehand, because torch's generator is shared by threads.
    heads = [made(add_up=together.add_up(index)) for index in range(2)]
    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0][0] == pytest.approx(alone, rel=1e-12)
    assert found[1][0] == pytest.approx(alone, rel=1e-12)
    for one, other, whole in zip(found[0][1], found[1][1], wanted, strict=True):
        # Gradients are averaged over processes, as DistributedDataParallel does.
        torch.testing.assert_close((one + other) / 2, whole)


@pytest.mark.parametrize("change", [{"hidden": 0}, {"layers": 0}, {"temperature": 0.0}])
def test_impossible_shapes_are_refused(change):
    with pytest.raises(ConfigError, match="contrast"):
        ContrastConfig(**change)
