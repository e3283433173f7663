"""Two branches see the same crops with the same patches hidden, and agree where terms ask them to."""

from dataclasses import replace

import pytest
import torch

from apatite.core.errors import ConfigError
from apatite.data.batches import Batch
from apatite.data.hiding import HidingLaw
from apatite.data.places import CropPlaces
from apatite.losses.topology import TopologyLossConfig
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.patches import patchify, take_tokens
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.nn.vit import ViT, ViTConfig
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS, Method, Weight
from apatite.pretrain.packaged import packaged
from apatite.pretrain.task import PretrainTask
from apatite.pretrain.term import TermSettings

ENCODER = ViTConfig(crop=(8, 16, 24), patch=(4, 4, 8), dim=12, depth=2, heads=2)
SHAPES = Shapes(
    encoder=ENCODER,
    decoder=TokenDecoderConfig(dim=12, depth=1, heads=2),
    unetrpp=UNETRPPShape(preset="tiny", dropout=0.0, attention_dropout=0.0).config(ENCODER.crop, ENCODER.windows_hu),
)


def make(method: Method | str, steps: int = 10) -> PretrainTask:
    torch.manual_seed(0)
    method = METHODS[method] if isinstance(method, str) else method
    settings = TermSettings(topology=TopologyLossConfig(pool=2))
    return PretrainTask(method, SHAPES, AttentionKernel(), 3, steps=steps, settings=settings)


@pytest.fixture
def batch() -> Batch:
    draw = torch.Generator().manual_seed(4)
    places = CropPlaces(points=torch.rand(2, 9, 3, generator=draw), extent_mm=torch.full((2, 3), 200.0))
    images = 300 * torch.randn(2, 1, *ENCODER.crop, generator=draw)
    return Batch(case_ids=("a", "b"), images_hu=images, places=places)


@pytest.fixture
def hybrid() -> PretrainTask:
    return make("topo_mae_hybrid")


def test_both_branches_are_given_one_view(hybrid, batch):
    looks = hybrid.look(batch, 0)
    assert looks["vit"].view is looks["unetrpp"].view
    assert {seen.reconstruction.shape for seen in looks.values()} == {(2, 18, 4 * 4 * 8 * 2)}
    assert {seen.points.shape for seen in looks.values()} == {(2, 9, 3)}


def test_no_branch_sees_hidden_voxels(hybrid, batch):
    hybrid.eval()  # otherwise one sample's norms see the other's
    looks = hybrid.look(batch, 0)
    view = looks["vit"].view
    is_hidden = torch.zeros(2, ENCODER.num_tokens).scatter(1, view.hidden, 1.0)[..., None].expand(-1, -1, 128)
    (z, y, x), (d, h, w) = ENCODER.tokens, ENCODER.patch
    voxels = is_hidden.reshape(2, z, y, x, d, h, w).permute(0, 1, 4, 2, 5, 3, 6).reshape(2, 1, *ENCODER.crop) > 0
    spoiled = replace(batch, images_hu=torch.where(voxels, 900.0, batch.images_hu))
    other = hybrid.look(spoiled, 0)
    for name, seen in looks.items():
        assert torch.equal(other[name].reconstruction, seen.reconstruction), name
        assert torch.equal(other[name].points, seen.points), name
    assert not torch.equal(other["vit"].view.hidden_patches(), view.hidden_patches())
    lit = replace(batch, images_hu=torch.where(voxels, batch.images_hu, 900.0))
    for name, seen in hybrid.look(lit, 0).items():
        assert not torch.equal(seen.reconstruction, looks[name].reconstruction), name


def test_the_reconstruction_of_unetrpp_lies_where_its_patches_are(hybrid, batch, monkeypatch):
    """A network that gives its image back, brighter, has made every hidden patch bright."""
    network = hybrid.branches["unetrpp"].network
    monkeypatch.setattr(network, "outputs", lambda image, stages: (image + 0.25,))
    seen = hybrid.look(batch, 0)["unetrpp"]
    assert torch.equal(seen.reconstruction, torch.full_like(seen.reconstruction, 0.25))
    ramp = torch.arange(8.0 * 16 * 24).reshape(1, 1, *ENCODER.crop).expand(2, 2, -1, -1, -1)
    monkeypatch.setattr(network, "outputs", lambda image, stages: (ramp,))
    seen = hybrid.look(batch, 0)["unetrpp"]
    assert torch.equal(seen.reconstruction, take_tokens(patchify(ramp, ENCODER.patch), seen.view.hidden))


def test_losses_bear_the_name_of_their_branch_where_there_are_two(hybrid, batch):
    names = {f"{b}.{t}" for b in ("vit", "unetrpp") for t in ("reconstruct_voxels", "topology", "position")}
    between = {"reconstruction_consistency", "position_consistency"}
    assert set(hybrid.losses(batch, 9)) == names | between
    assert set(make("topo_mae").losses(batch, 9)) == {"reconstruct_voxels", "topology", "position"}
    assert dict(hybrid.method.weights()).keys() == names | between


def test_a_term_that_does_not_count_yet_is_not_computed(batch, monkeypatch):
    task = make("topo_mae", steps=100)
    monkeypatch.setattr(task.term("topology"), "start", lambda seen: pytest.fail("it was begun"))
    assert set(task.losses(batch, 9)) == {"reconstruct_voxels", "position"}


def test_consistency_by_hand(hybrid, batch):
    looks = hybrid.look(batch, 9)
    one, other = looks["vit"], looks["unetrpp"]
    losses = hybrid.losses(batch, 9)
    weight = METHODS["topo_mae_hybrid"].between["reconstruction_consistency"].value
    expected = weight * (one.reconstruction - other.reconstruction).square().mean()
    torch.testing.assert_close(losses["reconstruction_consistency"], expected)
    weight = METHODS["topo_mae_hybrid"].between["position_consistency"].value
    expected = weight * (one.points - other.points).square().mean()
    torch.testing.assert_close(losses["position_consistency"], expected)
    losses["position_consistency"].backward()
    for name in ("vit", "unetrpp"):
        assert hybrid.branches[name].locate.linear.weight.grad.abs().max() > 0, name


def test_the_transformer_of_a_hybrid_begins_as_it_does_alone():
    alone, hybrid = make("topo_mae"), make("topo_mae_hybrid")
    for (name, one), (other_name, other) in zip(
        alone.branches["vit"].named_parameters(), hybrid.branches["vit"].named_parameters(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, other), name


def test_diagrams_are_computed_while_the_next_branch_computes(hybrid, batch, monkeypatch):
    order = []
    for name in ("vit", "unetrpp"):
        branch = hybrid.branches[name]
        look = branch.look
        monkeypatch.setattr(branch, "look", lambda view, n=name, f=look: order.append(f"look {n}") or f(view))
    start = hybrid.term("topology").start

    def begun(seen):
        order.append("start")
        finish = start(seen)
        return lambda: order.append("finish") or finish()

    monkeypatch.setattr(hybrid.term("topology"), "start", begun)
    hybrid.losses(batch, 9)
    assert order == ["look vit", "start", "look unetrpp", "start", "finish", "finish"]


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ({"branches": {"vit": {"reconstruct_hidden": Weight(), "topology": Weight()}}}, "want its reconstruction"),
        ({"branches": {"vit": {"reconstruct_voxels": Weight(begin=0.1)}}}, "no term counts"),
        ({"branches": {"vit": {"reconstruct_voxels": Weight(every=2)}}}, "no term counts"),
        (
            {
                "branches": {"vit": {"reconstruct_voxels": Weight()}},
                "between": {"reconstruction_consistency": Weight()},
            },
            "compare two branches",
        ),
        (
            {
                "branches": {"vit": {"reconstruct_hidden": Weight()}, "unetrpp": {"reconstruct_voxels": Weight()}},
                "between": {"reconstruction_consistency": Weight()},
            },
            "compare two branches",
        ),
        ({"branches": {"vit": {"reconstruct_voxel": Weight()}}}, "unknown term 'reconstruct_voxel'"),
        ({"branches": {"vitt": {"reconstruct_voxels": Weight()}}}, "unknown branch 'vitt'"),
    ],
)
def test_an_impossible_method_is_refused(method, what):
    with pytest.raises(ConfigError, match=what):
        make(Method(hiding=HidingLaw(ratio=0.5), paper="nobody 2026", **method))


def test_a_unetrpp_without_a_shape_is_refused():
    with pytest.raises(ConfigError, match="no shape is given"):
        PretrainTask(METHODS["topo_mae_hybrid"], replace(SHAPES, unetrpp=None), AttentionKernel(), 0, steps=1)


def test_a_transformer_alone_is_packaged_as_an_encoder():
    task = make("topo_mae")
    kind, architecture, weights = packaged(task)
    assert kind == "encoder"
    assert architecture["depth"] == ENCODER.depth
    assert set(weights) == set(task.encoder.state_dict())


def test_a_hybrid_is_packaged_without_the_heads_that_only_pre_training_needs(hybrid):
    kind, architecture, weights = packaged(hybrid)
    assert kind == "hybrid"
    assert architecture["vit"]["patch"] == [4, 4, 8]
    assert architecture["unetrpp"]["crop"] == [8, 16, 24]
    network = SHAPES.unetrpp.build(2).state_dict()
    wanted = {f"unetrpp.{name}" for name in network if not name.startswith("heads.")}
    assert {name for name in weights if name.startswith("unetrpp.")} == wanted
    assert len(wanted) < len(network)
    assert {name.removeprefix("vit.") for name in weights if name.startswith("vit.")} == set(
        ViT(ENCODER, AttentionKernel()).state_dict()
    )
    only, architecture, weights = packaged(make("topo_mae_unetrpp"))
    assert only == "hybrid"
    assert architecture["vit"] is None
    assert all(name.startswith("unetrpp.") for name in weights)


def test_a_method_without_a_transformer_says_so():
    with pytest.raises(AttributeError):
        _ = make("topo_mae_unetrpp").encoder
