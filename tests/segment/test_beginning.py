"""What of a pre-trained package goes where in each network: the table in full, and nothing that it does not say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from apatite.core.config import dump
from apatite.core.errors import ConfigError, ModelError
from apatite.engine.weights import weights_of
from apatite.io.model_card import ModelCard
from apatite.io.model_package import Package
from apatite.nn.swin.config import SwinConfig
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.nn.vit import ViTConfig
from apatite.segment.beginning import refuse_another_swin, refuse_another_unetrpp, refuse_other_windows, rules_for
from apatite.segment.model import SegmenterConfig
from apatite.segment.networks import NETWORKS
from apatite.segment.transfer import Coverage, transfer

CROP, WINDOWS = (8, 16, 24), ((-1000.0, 1000.0),)
VIT = ViTConfig(crop=CROP, patch=(4, 8, 8), windows_hu=WINDOWS, dim=12, depth=2, heads=2)
UNETRPP = UNETRPPShape(preset="tiny", stem=(1, 2, 1)).config(CROP, WINDOWS)
SWIN = SwinConfig(
    crop=CROP, patch=(1, 2, 1), windows_hu=WINDOWS, dim=4, depths=(1, 1, 2, 1), heads=(2, 2, 4, 4), window=(2, 3, 4)
)


@pytest.fixture
def make(card: ModelCard):
    """A package of the named parts; a ViT or a Swin alone by its own names, or a hybrid."""

    def package(*parts: str, kind: str = "hybrid", vit: ViTConfig = VIT, swin: SwinConfig = SWIN) -> Package:
        torch.manual_seed(7)
        if kind == "swin":
            about = replace(card, kind=kind, architecture=dump(swin), label_names={})
            return Package(card=about, weights=weights_of(swin.build()), digest="")
        made = {"vit": weights_of(vit.build()), "unetrpp": weights_of(UNETRPP.build(1))}
        weights = {
            f"{part}.{name}" if kind == "hybrid" else name: array
            for part in parts
            for name, array in made[part].items()
            if not name.startswith("heads.")
        }
        architecture = {"vit": dump(vit), "unetrpp": dump(UNETRPP)} if kind == "hybrid" else dump(vit)
        about = replace(card, kind=kind, architecture=architecture, label_names={})
        return Package(card=about, weights=weights, digest="")

    return package


def segmenter_of(network: str) -> torch.nn.Module:
    parts = NETWORKS[network]
    torch.manual_seed(1)
    return SegmenterConfig(
        encoder=VIT if parts.has_encoder else None,
        network=network,
        unetrpp=UNETRPP if parts.unetrpp else None,
        deep_supervision=parts.unetrpp is not None,
        swin=SWIN if parts.has_swin else None,
    ).build()


def take(package: Package, network: str, what="encoder", floor: float = 1.0) -> tuple[Coverage, torch.nn.Module]:
    segmenter = segmenter_of(network)
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in package.weights.items()}
    return transfer(tensors, segmenter, rules_for(package, network, what), floor), segmenter


ENCODER, WHOLE, DECODER = "encoder", "decoder.unetrpp", "decoder.unetrpp.decoder"
TABLE = {
    (("vit",), "vit"): [ENCODER],
    (("vit",), "hybrid"): [ENCODER],
    (("vit",), "hybrid_decoder"): [ENCODER],
    (("unetrpp",), "unetrpp"): [WHOLE],
    (("unetrpp",), "hybrid"): [WHOLE],
    (("unetrpp",), "hybrid_decoder"): [DECODER],
    (("vit", "unetrpp"), "vit"): [ENCODER],
    (("vit", "unetrpp"), "unetrpp"): [WHOLE],
    (("vit", "unetrpp"), "hybrid"): [ENCODER, WHOLE],
    (("vit", "unetrpp"), "hybrid_decoder"): [ENCODER, DECODER],
}


def origin_of(name: str) -> str | None:
    """The package's name of a segmenter's tensor, by the table's plain words."""
    if name.startswith("encoder."):
        return f"vit.{name.removeprefix('encoder.')}"
    return name.removeprefix("decoder.") if name.startswith("decoder.unetrpp.") else None


@pytest.mark.parametrize(("parts", "network"), TABLE)
def test_a_hybrid_package_fills_what_the_table_says_and_nothing_else(make, parts, network):
    package = make(*parts)
    before = segmenter_of(network).state_dict()
    coverage, segmenter = take(package, network)
    assert list(coverage.ratios.items()) == [(part, 1.0) for part in TABLE[parts, network]]
    is_parameter = dict(segmenter.named_parameters())
    for name, tensor in segmenter.state_dict().items():
        part = next((p for p in TABLE[parts, network] if name.startswith(f"{p}.")), None)
        is_taken = part is not None and name in is_parameter and ".heads." not in name
        origin = origin_of(name)
        expected = torch.from_numpy(package.weights[origin]) if is_taken and origin else before[name]
        assert torch.equal(tensor, expected), name


@pytest.mark.parametrize("network", ["vit", "hybrid", "hybrid_decoder"])
def test_an_encoder_package_fills_the_vit_of_every_network(make, network):
    package = make("vit", kind="encoder")
    coverage, segmenter = take(package, network)
    assert coverage.ratios == {ENCODER: 1.0}
    assert (coverage.dropped, coverage.unused) == ((), ())
    assert all(
        np.array_equal(segmenter.state_dict()[f"encoder.{name}"].numpy(), array)
        for name, array in package.weights.items()
    )


def test_a_swin_package_fills_the_swin_and_nothing_else(make):
    package = make(kind="swin")
    before = segmenter_of("swin").state_dict()
    coverage, segmenter = take(package, "swin")
    assert (coverage.ratios, coverage.dropped, coverage.unused) == ({ENCODER: 1.0}, (), ())
    for name, tensor in segmenter.state_dict().items():
        origin = name.removeprefix("encoder.")
        expected = before[name] if origin == name else torch.from_numpy(package.weights[origin])
        assert torch.equal(tensor, expected), name
    assert {name.partition(".")[0] for name in package.weights} == {"embed", "blocks", "norms"}


def test_what_is_left_is_dropped_on_purpose_and_means_of_norms_are_not_copied(make):
    package = make("vit", "unetrpp")
    coverage, _ = take(package, "hybrid_decoder")
    assert {name.split(".")[1] for name in coverage.dropped} == {"encoder"}
    assert {name.rpartition(".")[2] for name in coverage.unused} == {
        "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    coverage, _ = take(package, "vit")
    assert {name.partition(".")[0] for name in coverage.dropped} == {"unetrpp"}


def test_fresh_heads_do_not_count_and_heads_of_a_package_are_not_taken(make):
    package = make("unetrpp")
    package.weights["unetrpp.heads.0.weight"] = np.ones((1, 4, 1, 1, 1), np.float32)
    package.weights["unetrpp.heads.0.bias"] = np.ones(1, np.float32)
    coverage, segmenter = take(package, "unetrpp")
    assert not any(".heads." in row.target for row in coverage.rows)
    assert {"unetrpp.heads.0.weight", "unetrpp.heads.0.bias"} <= set(coverage.dropped)
    torch.testing.assert_close(segmenter.state_dict()["decoder.unetrpp.heads.0.bias"].sigmoid().item(), 0.018)


@pytest.mark.parametrize(
    ("parts", "kind", "network", "what", "fix"),
    [
        (("vit",), "encoder", "unetrpp", "encoder", "network=vit or network=hybrid or network=hybrid_decoder"),
        (("vit",), "hybrid", "unetrpp", "encoder", "network=vit"),
        (("unetrpp",), "hybrid", "vit", "encoder", "network=unetrpp or network=hybrid or network=hybrid_decoder"),
        (("unetrpp",), "hybrid", "hybrid", "embedding", "another pre-training run"),
        (("vit", "unetrpp"), "hybrid", "unetrpp", "embedding", "network=vit"),
        ((), "hybrid", "hybrid", "encoder", "another pre-training run"),
        ((), "swin", "vit", "encoder", "network=swin"),
        ((), "swin", "hybrid", "embedding", "network=swin"),
        (("vit",), "encoder", "swin", "encoder", "network=vit or network=hybrid or network=hybrid_decoder"),
        (("vit",), "encoder", "swin", "embedding", "network=vit or network=hybrid or network=hybrid_decoder"),
        (("vit", "unetrpp"), "hybrid", "swin", "encoder", "network=vit or network=unetrpp"),
    ],
)
def test_nothing_to_take_is_refused_and_says_what_would_take_it(make, parts, kind, network, what, fix):
    with pytest.raises(ModelError, match="takes nothing") as caught:
        rules_for(make(*parts, kind=kind), network, what)
    assert caught.value.code == "MODEL_SHAPE"
    assert fix in caught.value.fix


def test_the_embedding_alone_is_a_swins(make):
    package = make(kind="swin")
    coverage, segmenter = take(package, "swin", "embedding")
    assert coverage.ratios == {"encoder.embed": 1.0}
    assert {row.target for row in coverage.rows} == {
        "encoder.embed.project.weight", "encoder.embed.project.bias", "encoder.embed.norm.weight",
        "encoder.embed.norm.bias",
    }  # fmt: skip
    fresh = segmenter_of("swin").state_dict()
    changed = {name for name, tensor in segmenter.state_dict().items() if not torch.equal(tensor, fresh[name])}
    assert changed == {"encoder.embed.project.weight", "encoder.embed.project.bias"}  # norms begin alike


RENAMED = {
    "another prefix": lambda name: f"backbone.{name}",
    "the names of the published code": lambda name: name.replace("blocks", "layers").replace("embed", "patch_embed"),
}


@pytest.mark.parametrize("how", RENAMED)
@pytest.mark.parametrize("what", ["encoder", "embedding"])
def test_a_swin_whose_weights_have_other_names_cannot_pass_for_loaded(make, how, what):
    package = make(kind="swin")
    keeps = ("norms.",) if how != "another prefix" else ()
    renamed = {name if name.startswith(keeps) else RENAMED[how](name): w for name, w in package.weights.items()}
    with pytest.raises(ModelError, match="nothing was loaded") as caught:
        take(replace(package, weights=renamed), "swin", what, floor=0.01)
    assert caught.value.code == "MODEL_SHAPE"
    assert "missing" in caught.value.what


def test_a_swin_whose_names_fit_and_whose_widths_do_not_cannot_pass_for_loaded(make):
    wide = make(kind="swin", swin=replace(SWIN, dim=8))
    assert set(wide.weights) == set(make(kind="swin").weights)
    segmenter = segmenter_of("swin")
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in wide.weights.items()}
    with pytest.raises(ModelError, match=r"only \d\.\d% of the parameters of encoder") as caught:
        transfer(tensors, segmenter, rules_for(wide, "swin", "encoder"))
    assert "shape differs" in caught.value.what
    assert all(torch.equal(tensor, before[name]) for name, tensor in segmenter.state_dict().items())


@pytest.mark.parametrize(
    "change",
    [
        {"convention": "monai-1.4", "depths": (1, 1, 2, 1)},
        {"heads": (2, 2, 2, 4)},
        {"dim": 8},
        {"depths": (1, 1, 1, 2)},
        {"window": (2, 2, 4)},
        {"mlp_ratio": 2},
        {"qkv_bias": True},
        {"patch": (1, 1, 1)},
        {"normalises_embedding": False},
    ],
)
def test_a_swin_of_another_shape_is_refused_whether_its_weights_would_fit_or_not(make, change):
    with pytest.raises(ModelError, match=next(iter(change))) as caught:
        refuse_another_swin(replace(SWIN, **change), make(kind="swin"), "encoder")
    assert (caught.value.code, bool(caught.value.fix)) == ("MODEL_SHAPE", True)


def test_of_a_swins_embedding_only_what_it_depends_on_is_compared(make):
    package = make(kind="swin")
    other = replace(SWIN, depths=(2, 1, 1, 1), heads=(1, 1, 1, 1), window=(2, 2, 2), convention="monai")
    refuse_another_swin(other, package, "embedding")
    for change in ({"dim": 8}, {"patch": (1, 1, 1)}, {"normalises_embedding": False}):
        with pytest.raises(ModelError, match=next(iter(change))):
            refuse_another_swin(replace(SWIN, **change), package, "embedding")


def test_a_swin_may_see_another_crop_and_drop_more_and_others_are_not_asked(make):
    package = make(kind="swin")
    refuse_another_swin(replace(SWIN, crop=(16, 32, 8), drop_path=0.3), package, "encoder")
    refuse_another_swin(None, package, "encoder")
    refuse_another_swin(SWIN, None, "encoder")
    refuse_another_swin(SWIN, make("vit", kind="encoder"), "encoder")


@pytest.mark.parametrize("kind", ["encoder", "hybrid"])
def test_the_embedding_alone_is_the_vits(make, kind):
    parts = ("vit",) if kind == "encoder" else ("vit", "unetrpp")
    coverage, segmenter = take(make(*parts, kind=kind), "hybrid", "embedding")
    assert coverage.ratios == {"encoder.embed": 1.0}
    fresh = segmenter_of("hybrid").state_dict()
    changed = {name for name, tensor in segmenter.state_dict().items() if not torch.equal(tensor, fresh[name])}
    assert changed == {"encoder.embed.weight"}  # its bias is zero in both


def test_a_part_that_does_not_fit_does_not_hide_behind_a_larger_one(make):
    """The ViT is most of the weights; UNETR++ of another crop would be left at random."""
    vit = replace(VIT, dim=240, heads=12, depth=4)
    package = make("vit", "unetrpp", vit=vit)
    torch.manual_seed(1)
    other = UNETRPPShape(preset="tiny", stem=(1, 2, 1), widths=(8, 16, 32, 64)).config(CROP, WINDOWS)
    segmenter = SegmenterConfig(encoder=vit, network="hybrid", unetrpp=other).build()
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in package.weights.items()}
    rules = rules_for(package, "hybrid", "encoder")
    with pytest.raises(ModelError, match=r"of the parameters of decoder\.unetrpp would be loaded") as caught:
        transfer(tensors, segmenter, rules, 0.5)
    assert "shape differs" in caught.value.what
    assert all(torch.equal(tensor, before[name]) for name, tensor in segmenter.state_dict().items())
    coverage = transfer(tensors, segmenter, rules, 0.001)
    assert coverage.ratio > 0.5
    assert coverage.ratios["encoder"] == 1.0


@pytest.mark.parametrize("change", [{"num_blocks": 2}, {"heads": 1}, {"stem": (1, 1, 1)}, {"widths": (4, 8, 16, 64)}])
def test_a_unetrpp_of_another_shape_is_refused_though_some_of_it_would_fit(make, change):
    other = UNETRPPShape(preset="tiny", **({"stem": (1, 2, 1)} | change)).config(CROP, WINDOWS)
    with pytest.raises(ModelError, match=next(iter(change))):
        refuse_another_unetrpp(other, make("vit", "unetrpp"))


def test_dropout_may_differ_and_networks_without_a_unetrpp_do_not_ask(make):
    shape = UNETRPPShape(preset="tiny", stem=(1, 2, 1), dropout=0.3, attention_dropout=0.0).config(CROP, WINDOWS)
    refuse_another_unetrpp(shape, make("vit", "unetrpp"))
    refuse_another_unetrpp(None, make("vit", "unetrpp"))
    refuse_another_unetrpp(shape, make("vit", kind="encoder"))
    refuse_another_unetrpp(shape, None)


@pytest.mark.parametrize("architecture", [{}, {"vit": None, "unetrpp": None}, {"vit": "x", "unetrpp": [1, 2]}])
def test_a_card_that_does_not_say_what_its_weights_are_is_refused(make, architecture):
    package = make("unetrpp")
    package = replace(package, card=replace(package.card, architecture=architecture))
    with pytest.raises(ModelError, match="its UNETR"):
        refuse_another_unetrpp(UNETRPP, package)


def test_other_windows_are_refused(make):
    package = make("vit", kind="encoder")
    windows = package.card.input.windows_hu
    others = tuple((low - 1, high + 1) for low, high in windows)
    refuse_other_windows(package, windows, crosses_units=False)
    refuse_other_windows(None, windows, crosses_units=False)
    refuse_other_windows(package, others, crosses_units=True)
    for crosses_units, wanted in ((False, others), (False, (*windows, (0.0, 50.0))), (True, (*windows, (0.0, 50.0)))):
        with pytest.raises(ConfigError, match="pre-trained with windows"):
            refuse_other_windows(package, wanted, crosses_units=crosses_units)
