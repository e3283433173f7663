"""A restored run goes on bit-equal; what does not fit is refused before anything changes."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from apatite.core.errors import ModelError, StorageError
from apatite.engine import checkpoint
from apatite.engine.checkpoint import load_state, restore, save_state, state_of


class Tied(nn.Module):
    """Two layers that share one weight, and a buffer."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return self.second(torch.tanh(self.first(x)))


def make(width: int = 5) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = Tied(width)
    groups = [{"params": [model.first.weight], "lr": 0.1 / 3}, {"params": [model.first.bias], "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        loss = model(x).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_restored_run_goes_on_bit_equal(tmp_path: Path) -> None:
    model, optimizer = make()
    train(model, optimizer, range(4))
    optimizer.param_groups[0]["lr"] = 0.012345678901234567
    tensors, settings = state_of(model, optimizer)
    save_state(tmp_path / "last.safetensors", tensors, {"step": 4, "optimizer": settings})
    expected = train(model, optimizer, range(4, 7))

    again, its_optimizer = make()
    train(again, its_optimizer, range(2))
    tensors, values = load_state(tmp_path / "last.safetensors")
    loaded = copy.deepcopy(tensors)
    restore(again, its_optimizer, tensors, values["optimizer"])
    assert values["step"] == 4
    assert again.second.weight is again.first.weight
    assert train(again, its_optimizer, range(4, 7)) == expected
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert its_optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    # Training did not write through into what was loaded.
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in tensors.items())


def test_a_fresh_run_without_moments_is_kept_too(tmp_path: Path) -> None:
    model, optimizer = make()
    tensors, settings = state_of(model, optimizer)
    save_state(tmp_path / "x", tensors, {"optimizer": settings})
    tensors, values = load_state(tmp_path / "x")
    train(model, optimizer, range(1))
    restore(model, optimizer, tensors, values["optimizer"])
    assert optimizer.state_dict()["state"] == {}


def test_another_architecture_is_refused_and_nothing_changes() -> None:
    tensors, settings = state_of(*make(width=7))
    model, optimizer = make()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelError) as caught:
        restore(model, optimizer, tensors, settings)
    assert caught.value.code == "MODEL_SHAPE"
    assert "first.bias ((7,) instead of (5,))" in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_missing_unknown_and_misgrouped_are_named() -> None:
    model, optimizer = make()
    tensors, settings = state_of(model, optimizer)
    with pytest.raises(ModelError, match=r"extra \(unknown\)"):
        restore(model, optimizer, tensors | {"model.extra": torch.zeros(1)}, settings)
    with pytest.raises(ModelError, match=r"seen \(missing\)"):
        restore(model, optimizer, {name: t for name, t in tensors.items() if name != "model.seen"}, settings)
    with pytest.raises(ModelError, match="parameter groups"):
        restore(model, torch.optim.AdamW(model.parameters()), tensors, settings)
    with pytest.raises(ModelError, match=r"optimizer\.1\.exp_avg fits no parameter"):
        restore(model, optimizer, tensors | {"optimizer.1.exp_avg": torch.zeros(9)}, settings)


def test_weights_alone_are_not_a_checkpoint(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match="not the state of a run"):
        load_state(tmp_path / "weights.safetensors")


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "last", {"a": torch.ones(3)}, {"step": 1})

    def torn(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
        return b"\x10\x00\x00\x00\x00\x00\x00\x00{"

    monkeypatch.setattr(checkpoint, "save", torn)
    with pytest.raises(StorageError):
        save_state(tmp_path / "last", {"a": torch.zeros(3)}, {"step": 2})
    tensors, values = load_state(tmp_path / "last")
    assert values == {"step": 1} and torch.equal(tensors["a"], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
