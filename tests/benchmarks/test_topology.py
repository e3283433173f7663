"""All sides of the comparison make the same loss and the same gradient."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from apatite.losses.topology import TopologyLossConfig, topological_loss
from apatite.topology.diagrams import DiagramConfig
from topology import KEPT, PEERS, Case, our_loss, refuse_different, say_share, volumes

SHAPE = (10, 12, 17)


@pytest.mark.parametrize("points", list(KEPT))
@pytest.mark.parametrize("peer", list(PEERS))
def test_a_peer_makes_our_loss(peer, points):
    given, made = volumes(SHAPE, "smooth 1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' own
        theirs = PEERS[peer][0](made.clone().requires_grad_(), given, KEPT[points])()
    assert theirs > 0
    assert our_loss(made, given, "gudhi", KEPT[points])() == pytest.approx(theirs, rel=1e-4)


def test_the_gradient_is_the_peers():
    given, made = volumes(SHAPE, "smooth 1")
    ours, theirs = made.clone().requires_grad_(), made.clone().requires_grad_()
    step = PEERS["GUDHI + POT"][0](theirs, given, KEPT["all"])
    step()
    topological_loss(ours, given, TopologyLossConfig(pool=1, diagram=DiagramConfig(), per_point=False)).backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    assert ours.grad.abs().max() > 1e-3


def test_volumes_differ_in_three_of_four_cubes_and_stay_within_bounds():
    given, made = volumes((16, 24, 32), "noise")
    assert given.shape == made.shape == (1, 1, 16, 24, 32)
    assert (made != given).float().mean().item() == pytest.approx(0.75, abs=0.2)
    assert made.min() >= 0
    assert made.max() <= 1


def test_sides_that_differ_stop_the_benchmark():
    given, made = volumes(SHAPE, "smooth 2")
    case = Case(edge=10, texture="smooth 2", points="all", given=given, made=made)
    refuse_different(case, {"ours, gudhi": 1.0, "GUDHI + POT": 1.0099})
    with pytest.raises(RuntimeError, match="10 smooth 2 all: the sides differ"):
        refuse_different(case, {"ours, gudhi": 1.0, "GUDHI + POT": 1.02})


def test_the_share_of_all_points_is_said_in_the_rows_of_its_own_case():
    given, made = volumes(SHAPE, "smooth 2")
    cases = [(10, "smooth 2", "kept"), (10, "smooth 2", "all"), (10, "noise", "kept"), (12, "smooth 2", "kept")]
    bench = SimpleNamespace(rows=[{"edge": e, "texture": t, "points": p} for e, t, p in cases])
    case = Case(edge=10, texture="smooth 2", points="kept", given=given, made=made)
    say_share(bench, case, {"kept": 1.0, "all": None})
    assert not any("share_of_all" in row for row in bench.rows)
    say_share(bench, case, {"kept": 1.0, "all": 4.0})
    assert [row.get("share_of_all") for row in bench.rows] == [0.25, None, None, None]
