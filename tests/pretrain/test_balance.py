"""Terms pull at what they share as their weights say."""

import pytest
import torch

from apatite.core.share import WHOLE, Share
from apatite.losses.overlap import as_it_is
from apatite.pretrain.balance import EVERY, MEMORY, Balance


def losses_of(root: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of length 2, 40 and 0.5."""
    along = torch.zeros_like(root)
    along[0, 0] = 1
    return {"mip": 2 * (root * along).sum(), "mpd": 40 * (root * along).sum(), "itd": 0.5 * (root * along).sum()}


@pytest.fixture
def root() -> torch.Tensor:
    return torch.randn(3, 4, requires_grad=True)


def pulls(balance: Balance, root: torch.Tensor, step: int) -> dict[str, float]:
    losses = losses_of(root)
    factors = balance.factors(losses, root, step)
    found = {}
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(factors[name] * loss, root, retain_graph=True)
        found[name] = gradient.norm().item()
    return found


def test_all_terms_pull_as_hard_as_the_first(root):
    balance = Balance(["mip", "mpd", "itd"], WHOLE, as_it_is)
    assert pulls(balance, root, 0) == pytest.approx({"mip": 2.0, "mpd": 2.0, "itd": 2.0})
    balance.after()
    torch.testing.assert_close(balance.norms, torch.tensor([2.0, 40.0, 0.5]))


def test_norms_are_measured_every_few_steps_and_remembered_only_after_them(root):
    balance = Balance(["mip", "mpd", "itd"], WHOLE, as_it_is)
    pulls(balance, root, 0)
    assert not balance.norms.any()
    balance.after()
    balance.norms.mul_(2)
    kept = balance.norms.clone()
    pulls(balance, root, EVERY - 1)
    balance.after()
    assert torch.equal(balance.norms, kept)
    pulls(balance, root, EVERY)
    balance.after()
    torch.testing.assert_close(balance.norms, kept * MEMORY + kept / 2 * (1 - MEMORY))


def test_a_term_that_begins_later_is_measured_when_it_does(root):
    balance = Balance(["mip", "mpd", "itd"], WHOLE, as_it_is)
    losses = losses_of(root)
    balance.factors({"mip": losses["mip"], "itd": losses["itd"]}, root, 0)
    balance.after()
    assert balance.norms.tolist() == pytest.approx([2.0, 0.0, 0.5])
    factors = balance.factors(losses, root, EVERY + 1)
    assert factors["mpd"].item() == pytest.approx(2 / 40)


def test_norms_are_those_of_the_whole_batch(root):
    # Of two samples, one here: the mean over both is half as steep in each, and squares add up.
    balance = Balance(["mip", "mpd", "itd"], Share(index=0, of=2), lambda value: 2 * value)
    pulls(balance, root, 0)
    balance.after()
    torch.testing.assert_close(balance.norms, torch.tensor([2.0, 40.0, 0.5]) / 2**0.5)
