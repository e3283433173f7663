"""What is true of the segmenter of every network: it learns, it is packed and read again, and it says what it is."""

import json
import re
import resource
import time
from dataclasses import replace

import pytest
import torch

from apatite.core.config import dump, load
from apatite.core.errors import ConfigError, ModelError
from apatite.core.rng import generator
from apatite.data.batches import Batch
from apatite.engine.optim import OptimConfig, build_optimizer
from apatite.engine.weights import weights_of
from apatite.io.model_package import read_package, write_package
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.decoders.tokens import TokenDecoderConfig
from apatite.nn.swin.config import SwinConfig
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.nn.vit import ViTConfig
from apatite.segment.model import SegmenterConfig, SegmentTask
from apatite.segment.networks import NETWORKS, network_of
from apatite.segment.predict import Predictor, open_predictor

CROP = (8, 16, 24)
WINDOWS = ((-1000.0, 1000.0), (0.0, 300.0))
VIT = ViTConfig(crop=CROP, patch=(4, 8, 8), windows_hu=WINDOWS, dim=24, depth=2, heads=2)
UNETRPP = UNETRPPShape(preset="tiny", stem=(1, 2, 1)).config(CROP, WINDOWS)
SWIN = SwinConfig(
    crop=CROP, patch=(1, 2, 1), windows_hu=WINDOWS, dim=4, depths=(1, 1, 2, 1), heads=(2, 2, 4, 4), window=(2, 3, 4)
)
SINGLE = ("vit", "swin")
"""Networks without deep supervision."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shape_of(network: str, labels: int = 2) -> SegmenterConfig:
    parts = NETWORKS[network]
    return SegmenterConfig(
        encoder=VIT if parts.has_encoder else None,
        decoder=DecoderConfig(mae=TokenDecoderConfig(dim=12, depth=1, heads=2)),
        num_labels=labels,
        network=network,
        unetrpp=UNETRPP if parts.unetrpp else None,
        deep_supervision=parts.unetrpp is not None,
        swin=SWIN if parts.has_swin else None,
    )


def blob_batch() -> Batch:
    """A bright block in each of two images."""
    torch.manual_seed(0)
    image = 20 * torch.randn(2, 1, *CROP)
    is_blob = torch.zeros(2, 1, *CROP)
    is_blob[0, :, 1:4, 2:8, 5:12] = is_blob[1, :, 3:7, 9:15, 14:22] = 1
    return Batch(
        case_ids=("a", "b"),
        images_hu=image + 400 * is_blob,
        targets=is_blob,
        is_annotated=torch.ones(2, 1, dtype=torch.bool),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_logit_per_voxel_and_label(name):
    torch.manual_seed(0)
    segmenter = shape_of(name, labels=3).build().eval()
    image = torch.randn(2, 1, *CROP) * 300
    logits = segmenter(image)
    assert logits.shape == (2, 3, *CROP)
    assert (segmenter.config.crop, segmenter.config.windows_hu) == (CROP, WINDOWS)
    torch.testing.assert_close(segmenter.probability(image), logits.sigmoid())
    outputs = segmenter.supervised(image)
    assert torch.equal(outputs[0][0], logits)
    assert sum(weight for _, weight in outputs) == pytest.approx(1)
    assert len(outputs) == (1 if name in SINGLE else 3)
    coarser = [] if name in SINGLE else list(UNETRPP.stages[:2])
    assert [tuple(output.shape[2:]) for output, _ in outputs[1:]] == coarser


@pytest.mark.parametrize(("name", "steps"), [("hybrid", 14), ("hybrid_decoder", 14), ("swin", 24)])
def test_it_learns_where_a_bright_blob_is(name, steps):
    torch.manual_seed(1)
    task = SegmentTask(shape_of(name, labels=1).build())
    batch = blob_batch()
    optimizer = torch.optim.AdamW(task.module.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        losses = task.losses(batch, step)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert set(losses) == {"dice_loss", "cross_entropy"}
    assert batch.targets is not None
    found = task.module(batch.images_hu).sigmoid() > 0.5
    assert 2 * (found & (batch.targets > 0)).sum() / (found.sum() + batch.targets.sum()) > 0.8


@pytest.mark.parametrize("name", NETWORKS)
def test_it_comes_back_from_its_package_with_the_means_of_its_norms(name, card, tmp_path):
    torch.manual_seed(0)
    shape = shape_of(name)
    segmenter = shape.build()
    segmenter(torch.randn(2, 1, *CROP) * 300)  # in training, so that norms have seen something
    segmenter.eval()
    written = replace(card, architecture=dump(shape), label_names={1: "left", 2: "right"})
    write_package(tmp_path / "model", written, weights_of(segmenter))
    network = open_predictor(tmp_path / "model", "cpu").network
    image = torch.randn(1, 1, *CROP) * 300
    assert network.config == shape
    assert torch.equal(network.probability(image), segmenter.probability(image))


def test_a_card_from_before_there_were_networks_is_read_as_ever(card, tmp_path):
    torch.manual_seed(0)
    segmenter = shape_of("vit").build().eval()
    architecture = dump(segmenter.config)
    for key in ("network", "unetrpp", "deep_supervision", "swin"):
        del architecture[key]
    written = replace(card, architecture=architecture, label_names={1: "left", 2: "right"})
    write_package(tmp_path / "old", written, weights_of(segmenter))
    image = torch.randn(1, 1, *CROP) * 300
    found = open_predictor(tmp_path / "old", "cpu").network
    assert torch.equal(found.probability(image), segmenter.probability(image))


def test_the_parts_are_those_of_the_network():
    with pytest.raises(ConfigError, match="other parts"):
        SegmenterConfig(encoder=VIT, network="unetrpp", unetrpp=UNETRPP)
    with pytest.raises(ConfigError, match="other parts"):
        SegmenterConfig(encoder=VIT, network="hybrid")
    with pytest.raises(ConfigError, match="other parts"):
        SegmenterConfig(encoder=VIT, unetrpp=UNETRPP)
    with pytest.raises(ConfigError, match="other parts"):
        SegmenterConfig(encoder=VIT, network="swin")
    with pytest.raises(ConfigError, match="other parts"):
        SegmenterConfig(encoder=VIT, swin=SWIN)
    with pytest.raises(ConfigError, match="different crops"):
        SegmenterConfig(encoder=replace(VIT, crop=(8, 16, 32)), network="hybrid", unetrpp=UNETRPP)
    with pytest.raises(ConfigError) as caught:
        network_of("hybrd")
    assert caught.value.fix == "did you mean 'hybrid'?"
    assert all(network.note for network in NETWORKS.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_only_blocks_of_the_encoder_learn_more_slowly(name):
    shape = shape_of(name)
    segmenter = shape.build()
    optimizer = build_optimizer(segmenter, OptimConfig(layer_decay=0.5), shape.encoder_depth)
    scale = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    slow = {key for key, parameter in segmenter.named_parameters() if scale[id(parameter)] < 1}
    in_encoder = {key for key, _ in segmenter.named_parameters() if key.startswith("encoder.")}
    assert slow == {key for key in in_encoder if not key.startswith(("encoder.transformer.norm.", "encoder.norms."))}
    assert bool(slow) == (NETWORKS[name].has_encoder or NETWORKS[name].has_swin)


def test_a_swin_learns_the_faster_the_higher_and_a_merging_as_the_block_before_it():
    segmenter = shape_of("swin").build()
    optimizer = build_optimizer(segmenter, OptimConfig(layer_decay=0.5), SWIN.depth)
    scale = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    found: dict[str, set[float]] = {}
    for key, parameter in segmenter.named_parameters():
        part = re.sub(r"^(encoder\.embed|encoder\.blocks\.\d+(\.merge)?|encoder\.norms|decoder).*", r"\1", key)
        found.setdefault(part, set()).add(scale[id(parameter)])
    assert found == {
        "encoder.embed": {0.5**6},
        "encoder.blocks.0": {0.5**5},
        "encoder.blocks.0.merge": {0.5**5},
        "encoder.blocks.1": {0.5**4},
        "encoder.blocks.1.merge": {0.5**4},
        "encoder.blocks.2": {0.5**3},
        "encoder.blocks.3": {0.5**2},
        "encoder.blocks.3.merge": {0.5**2},
        "encoder.blocks.4": {0.5},
        "encoder.blocks.4.merge": {0.5},
        "encoder.norms": {1.0},
        "decoder": {1.0},
    }


HOSTILE = {
    "a large crop": {"crop": [2**18] * 3},
    "a long axis": {"crop": [2**20, 16, 24]},
    "a wide stage": {"widths": [4, 8, 16, 2**20]},
    "many blocks": {"num_blocks": 10**6},
    "a wide projection": {"projections": [2**20] * 4},
    "no heads": {"heads": 0},
    "a stem without extent": {"stem": [0, 1, 1]},
    "a crop that the stem does not divide": {"crop": [9, 16, 24]},
    "a wide end": {"base_width": 2**20},
    "another end": {"base_width": 8},
    "a fusion that is none": {"fusion": "product"},
    "text": {"widths": "import os"},
    "unknown": {"registers": 4},
}


@pytest.mark.parametrize(
    ("name", "what"),
    [("unetrpp", what) for what in HOSTILE]
    + [("hybrid_decoder", what) for what in HOSTILE if what != "a wide projection"],  # it has none
)
def test_a_hostile_card_is_refused_before_it_takes_memory(name, what, card, tmp_path):
    torch.manual_seed(0)
    shape = shape_of(name, labels=1)
    write_package(tmp_path / "model", replace(card, architecture=dump(shape)), weights_of(shape.build()))
    package = read_package(tmp_path / "model")
    architecture = dict(package.card.architecture)
    architecture["unetrpp"] = {**architecture["unetrpp"], **HOSTILE[what]}
    if "crop" in HOSTILE[what] and architecture["encoder"] is not None:
        architecture["encoder"] = {**architecture["encoder"], "crop": HOSTILE[what]["crop"]}
    refuse_without_memory(package, architecture)


HOSTILE_SWIN = {
    "a large crop": {"crop": [2**18] * 3},
    "a long axis": {"crop": [2**20, 16, 24]},
    "a wide stage": {"dim": 2**20},
    "another width": {"dim": 8},
    "many blocks": {"depths": [1, 10**6, 1, 1]},
    "no block": {"depths": [1, 0, 2, 1]},
    "no heads": {"heads": [2, 0, 4, 4]},
    "heads of another table": {"heads": [4, 4, 4, 4]},
    "a large window": {"window": [2**7] * 3},
    "another window": {"window": [2, 2, 4]},
    "a patch without extent": {"patch": [0, 2, 1]},
    "another patch": {"patch": [1, 1, 1]},
    "a crop of broken cells": {"crop": [8, 24, 24]},
    "a convention that is none": {"convention": "theirs"},
    "a wide perceptron": {"mlp_ratio": 2**20},
    "text": {"depths": "import os"},
    "unknown": {"registers": 4},
}


@pytest.mark.parametrize("what", HOSTILE_SWIN)
def test_a_hostile_card_of_a_swin_is_refused_before_it_takes_memory(what, card, tmp_path):
    torch.manual_seed(0)
    shape = shape_of("swin", labels=1)
    write_package(tmp_path / "model", replace(card, architecture=dump(shape)), weights_of(shape.build()))
    architecture = dump(shape)
    architecture["swin"] |= HOSTILE_SWIN[what]
    refuse_without_memory(read_package(tmp_path / "model"), architecture)


def test_a_window_whose_weights_are_there_and_whose_offsets_no_memory_holds_is_refused(card, tmp_path):
    """Its tables have 13 MB; the offsets between the tokens of one window would take 4.6 GB."""
    swin = replace(SWIN, window=(24, 24, 24))
    shape = SegmenterConfig(encoder=None, network="swin", swin=swin)
    write_package(tmp_path / "model", replace(card, architecture=dump(shape)), weights_of(shape.build()))
    refuse_without_memory(read_package(tmp_path / "model"), dump(shape))


def refuse_without_memory(package, architecture):
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError) as caught:
        Predictor(replace(package, card=replace(package.card, architecture=architecture)), "cpu")
    assert (caught.value.code, caught.value.exit_code, bool(caught.value.fix)) == ("MODEL_SHAPE", 3, True)
    assert str(caught.value).isprintable()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < 256 * 1024


def leaves(node, place=()):
    """Places of single values in nested ones."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from leaves(value, (*place, key)) if isinstance(value, dict | list) else [(*place, key)]


VALUES = (0, -1, 1, 3, 2**12, 2**20, 10**9, 6 * 10**400, 1e308, 0.5, True, None, "x", [], [2, 2, 2], {})


@pytest.mark.parametrize("name", ["hybrid", "swin"])
def test_a_card_with_any_value_changed_is_refused_by_name_or_harmless(name, card, tmp_path):
    """Within two seconds of work, without memory for what it asks."""
    torch.manual_seed(0)
    shape = shape_of(name, labels=1)
    write_package(tmp_path / "model", replace(card, architecture=dump(shape)), weights_of(shape.build()))
    package, draw = read_package(tmp_path / "model"), generator(31, "cards")
    places = list(leaves(package.card.architecture))
    peak_kib, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for _ in range(40):
        place, value = places[draw.integers(len(places))], VALUES[draw.integers(len(VALUES))]
        architecture = json.loads(json.dumps(package.card.architecture))
        node = architecture
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        began_s = time.process_time()
        try:
            Predictor(replace(package, card=replace(package.card, architecture=architecture)), "cpu")
        except ModelError as error:
            assert (error.code, bool(error.fix), str(error).isprintable()) == ("MODEL_SHAPE", True, True), place
            refused += 1
        assert time.process_time() - began_s < 2, (place, value)
    assert refused > 25
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < 256 * 1024


CHANGED = {
    "another network": ("hybrid", {"network": "hybrid_decoder"}),
    "no such network": ("hybrid", {"network": "../../x"}),
    "no unetrpp": ("hybrid", {"unetrpp": None}),
    "no encoder": ("hybrid", {"encoder": None}),
    "fewer heads": ("hybrid", {"deep_supervision": False}),
    "a Swin's that is a ViT's": ("swin", {"network": "vit"}),
    "no Swin": ("swin", {"swin": None}),
    "more labels than logits": ("swin", {"num_labels": 2}),
}


def test_another_network_than_the_weights_is_refused(card, tmp_path):
    for number, (what, (name, change)) in enumerate(CHANGED.items()):
        shape = shape_of(name, labels=1)
        folder = tmp_path / f"model{number}"
        write_package(folder, replace(card, architecture=dump(shape)), weights_of(shape.build()))
        package = read_package(folder)
        with pytest.raises(ModelError) as caught:
            Predictor(replace(package, card=replace(package.card, architecture={**dump(shape), **change})), "cpu")
        assert caught.value.code == "MODEL_SHAPE", what


def test_a_shape_survives_yaml_and_json():
    for name in NETWORKS:
        assert load(SegmenterConfig, dump(shape_of(name))) == shape_of(name)
