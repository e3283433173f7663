"""A Swin is fine-tuned from what was pre-trained, on regions and on crops of whole volumes; and what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from apatite.cli import main
from apatite.core.config import dump, load, read_yaml
from apatite.core.errors import ConfigError, ModelError
from apatite.engine.weights import weights_of
from apatite.io.model_card import InputSpec, ModelCard, Provenance
from apatite.io.model_package import read_package, write_package
from apatite.io.nifti import read_scan
from apatite.io.run_folder import RunFolder
from apatite.nn.models import MODELS
from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.presets import SwinSize
from apatite.nn.vit import HEAD_CT_WINDOWS_HU
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.stage import pretrain
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import finetune
from apatite.segment.model import Segmenter
from apatite.segment.predict import open_predictor

CROP = (8, 16, 24)
SHAPE = SwinConfig(
    crop=CROP,
    patch=(1, 2, 1),
    windows_hu=HEAD_CT_WINDOWS_HU,
    dim=4,
    depths=(1, 1, 2, 1),
    heads=(2, 2, 4, 4),
    window=(2, 3, 4),
)


@pytest.fixture(scope="module", autouse=True)
def swin_tiny():
    """A Swin for the crop of the heads among the models, and one whose heads alone are others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "swin-tiny", SwinSize(shape=SHAPE, note="for tests"))
        patch.setitem(MODELS, "swin-other", SwinSize(shape=replace(SHAPE, heads=(1, 1, 1, 1)), note="for tests"))
        yield


@pytest.fixture(scope="module")
def short(tiny) -> FinetuneConfig:
    return replace(tiny, network="swin", model="swin-tiny", patch=None, steps=2, batch=2, check_every=2)


@pytest.fixture
def make_package(tmp_path):
    """Write a package of a Swin as pre-training leaves it; `named` changes the names of its weights."""

    def make(
        shape: SwinConfig = SHAPE,
        named=lambda name: name,
        provenance: Provenance = Provenance(apatite_version="0", seed=5),  # noqa: B008 - it is frozen
        **changes: object,
    ) -> Path:
        torch.manual_seed(5)
        card = ModelCard(
            kind="swin",
            architecture=dump(shape) | changes,
            recipe="smit",
            input=InputSpec(shape=CROP, spacing_mm=(1.0, 1.25, 2.5), windows_hu=shape.windows_hu),
            label_names={},
            domains={"pretraining": ["phantom", "real"], "training": [], "calibration": [], "reference": []},
            provenance=provenance,
        )
        folder = tmp_path / "packages" / "swin"
        write_package(folder, card, {named(name): array for name, array in weights_of(shape.build()).items()})
        return folder

    return make


class Stop(Exception):
    """Ends a run where the test has seen enough."""


@pytest.fixture
def begun(monkeypatch) -> dict[str, torch.Tensor]:
    """The weights before the first step of a run, which ends there."""
    found: dict[str, torch.Tensor] = {}

    def stop(module, config, depth):
        found.update({name: tensor.clone() for name, tensor in module.state_dict().items()}, depth=depth)
        raise Stop

    monkeypatch.setattr("apatite.segment.finetune.build_optimizer", stop)
    return found


def test_all_of_a_packages_swin_is_taken_and_the_decoder_is_that_from_scratch(
    head_study, short, make_package, tmp_path, begun
):
    package = make_package()
    with pytest.raises(Stop):
        finetune(short, head_study.prepared, tmp_path / "scratch")
    scratch = dict(begun)
    with pytest.raises(Stop):
        finetune(short, head_study.prepared, tmp_path / "tuned", init_from=package)
    weights = read_package(package).weights
    assert {name.removeprefix("encoder.") for name in begun if name.startswith("encoder.")} == set(weights)
    assert all(np.array_equal(begun[f"encoder.{name}"].numpy(), array) for name, array in weights.items())
    assert all(torch.equal(begun[name], scratch[name]) for name in scratch if name.startswith("decoder."))
    assert begun["depth"] == sum(SHAPE.depths)


def test_what_a_pretraining_run_leaves_is_taken_whole(head_study, short, tmp_path, begun):
    before = PretrainConfig(
        method="simmim", model="swin-tiny", epochs=1, batch=2, check_epochs=1, precision=short.precision
    )
    pretrain(before, head_study.prepared, tmp_path / "before")
    with pytest.raises(Stop):
        finetune(short, head_study.prepared, tmp_path / "tuned", init_from=tmp_path / "before")
    package = read_package(tmp_path / "before" / "model")
    assert package.card.kind == "swin"
    assert {name.removeprefix("encoder.") for name in begun if name.startswith("encoder.")} == set(package.weights)
    assert all(np.array_equal(begun[f"encoder.{name}"].numpy(), array) for name, array in package.weights.items())


def test_the_table_the_domains_and_the_patch_that_is_written_down(head_study, short, make_package, tmp_path):
    made = finetune(short, head_study.prepared, tmp_path / "run", init_from=make_package())
    assert made.coverage is not None
    assert (made.coverage.ratio, made.coverage.unused, made.coverage.dropped) == (1.0, (), ())
    card = read_package(made.package).card
    assert (card.domains["pretraining"], card.domains["training"]) == (["phantom", "real"], ["phantom"])
    used = load(FinetuneConfig, read_yaml(RunFolder(path=tmp_path / "run").config))
    assert used == replace(short, patch=(1, 2, 1))
    assert card.architecture["swin"] == dump(replace(SHAPE, drop_path=short.drop_path))


def test_what_others_said_of_their_weights_stands_in_what_was_made_of_them(head_study, short, make_package, tmp_path):
    theirs = Provenance(
        apatite_version="0",
        seed=5,
        licence="CC-BY-NC-4.0",
        citation="nobody 2026",
        use="Not for sale, nor in a hospital.",
    )
    for out, begun in (("tuned", make_package(provenance=theirs)), ("scratch", None)):
        finetune(replace(short, steps=1, seed=3), head_study.prepared, tmp_path / out, init_from=begun)
    tuned, scratch = (read_package(tmp_path / out / "model").card.provenance for out in ("tuned", "scratch"))
    assert (tuned.licence, tuned.citation, tuned.use) == (theirs.licence, theirs.citation, theirs.use)
    assert (scratch.licence, scratch.citation) == ("Apache-2.0", "")
    assert tuned.seed == scratch.seed == 3
    assert tuned.data_digest == scratch.data_digest != ""


def test_the_embedding_alone_may_be_taken(head_study, short, make_package, tmp_path):
    made = finetune(replace(short, take="embedding"), head_study.prepared, tmp_path / "run", init_from=make_package())
    assert made.coverage is not None
    assert made.coverage.ratios == {"encoder.embed": 1.0}


LIKE_THE_PUBLISHED = {"embed.": "patch_embed.", "blocks.": "layers."}

UNLIKE = {
    "other names": ({"named": lambda name: f"module.{name}"}, {}, "only 0.0%"),
    "names of the published code": (
        {"named": lambda name: re.sub(r"^(embed|blocks)\.", lambda m: LIKE_THE_PUBLISHED[m[0]], name)},
        {},
        "nothing was loaded",
    ),
    "widths that the card denies": ({"shape": replace(SHAPE, dim=8), "dim": 4}, {}, "nothing was loaded"),
    "another width": ({"shape": replace(SHAPE, dim=8)}, {}, "its Swin has dim 8, not 4"),
    "other heads alone": ({}, {"model": "swin-other"}, r"its Swin has heads \[2, 2, 4, 4\], not \[1, 1, 1, 1\]"),
    "another convention, which every weight fits": (
        {"convention": "monai"}, {}, "its Swin has convention monai, not smit",
    ),
    "a card that does not say": ({"heads": None}, {}, "its Swin has heads None"),
    "a network of a ViT": ({}, {"network": "vit", "model": "vitiac-xs", "patch": (4, 8, 8)}, "takes nothing"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNLIKE)
def test_what_would_not_be_loaded_whole_is_refused_and_nothing_is_written(
    head_study, short, make_package, tmp_path, what
):
    made, changes, said = UNLIKE[what]
    package = make_package(**made)
    with pytest.raises(ModelError) as caught:
        finetune(replace(short, **changes), head_study.prepared, tmp_path / "run", init_from=package)
    assert re.search(said, caught.value.what)
    assert (caught.value.code, bool(caught.value.fix)) == ("MODEL_SHAPE", True)
    assert not (tmp_path / "run").exists()


def test_a_vit_gives_a_swin_nothing(head_study, short, make_encoder, tmp_path):
    with pytest.raises(ModelError, match="takes nothing") as caught:
        finetune(short, head_study.prepared, tmp_path / "run", init_from=make_encoder())
    assert "network=vit" in caught.value.fix


def test_other_windows_are_refused(head_study, short, make_package, tmp_path):
    package = make_package(replace(SHAPE, windows_hu=((-100.0, 300.0), (0.0, 50.0))))
    with pytest.raises(ConfigError, match="pre-trained with windows"):
        finetune(short, head_study.prepared, tmp_path / "run", init_from=package)


REFUSED = {
    "a ViT as a Swin": ({"model": "vitiac-xs"}, "is a ViT", "model=swin-"),
    "a Swin as a ViT": ({"network": "vit"}, "is a Swin", "model=vitiac-"),
    "a Swin beside UNETR++": ({"network": "hybrid"}, "is a Swin", "model=vitiac-"),
    "broken cells": ({"patch": (1, 2, 2)}, "whole cells", "multiples"),
    "a crop below one cell": ({"patch": (2, 2, 1)}, "whole cells", "multiples"),
    "a stem of convolutions": ({"stem": "conv"}, "no conv stem", "ViT"),
    "an unknown Swin": ({"model": "swin-tyni"}, "unknown model", "swin-tiny"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_swin_or_no_crop_for_one_is_refused_and_nothing_is_written(head_study, short, tmp_path, what):
    changes, said, fix = REFUSED[what]
    with pytest.raises(ConfigError, match=said) as caught:
        finetune(replace(short, **changes), head_study.prepared, tmp_path / "run")
    assert fix in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_without_a_patch_a_vit_has_patches_of_4(head_study, tiny, tmp_path):
    made = finetune(replace(tiny, patch=None, steps=1), head_study.prepared, tmp_path / "run")
    assert read_package(made.package).card.architecture["encoder"]["patch"] == [4, 4, 4]
    assert read_yaml(RunFolder(path=tmp_path / "run").config)["patch"] == [4, 4, 4]


def test_crops_of_whole_volumes_are_learned_from_and_slid_over(body_study, short, tmp_path, monkeypatch):
    window = ((-1000.0, 1000.0),)
    made = finetune(replace(short, crop=CROP, windows_hu=window), body_study.prepared, tmp_path / "run")
    package = read_package(made.package)
    assert (package.card.input.kind, package.card.input.shape) == ("volume", CROP)
    assert package.card.label_names == {2: "left organ", 5: "right organ"}
    looked, ours = [], Segmenter.probability
    monkeypatch.setattr(Segmenter, "probability", lambda net, image: looked.append(len(image)) or ours(net, image))
    prepared = body_study.open()
    scan = read_scan(prepared.manifest.image_path(prepared.cases[5]))
    found = open_predictor(tmp_path / "run", "cpu").predict_case(prepared.cases[5], scan)
    assert found.probability.shape == (2, *scan.stack.shape)
    assert found.is_counted.all()
    assert np.isfinite(found.probability).all()
    assert 0 < found.probability.max() <= 1
    assert sum(looked) > 1, "the body is larger than a crop"


def test_the_command_line_prints_what_was_loaded(head_study, make_package, tmp_path, capsys):
    settings = [
        "network=swin",
        "model=swin-tiny",
        "steps=1",
        "batch=2",
        "precision={device: cpu, format: fp32, attention_in_fp32: false, head_multiple: 1, threads: 1}",
    ]
    flags = ["finetune", "-d", str(head_study.prepared), "--init-from", str(make_package())]
    assert main.run([*flags, "-o", str(tmp_path / "run"), *settings]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"encoder\.embed\.project\.weight +loaded +16 +from embed\.project\.weight", printed)
    assert "100.0% of the parameters that were to be filled were loaded" in printed
    assert main.run([*flags, "-o", str(tmp_path / "no"), *settings, "model=swin-other"]) == 3
    assert "its Swin has heads" in " ".join(capsys.readouterr().err.split())
    assert main.run(["inspect", "-m", str(tmp_path / "run" / "model"), "--json"]) == 0
    architecture = json.loads(capsys.readouterr().out)["card"]["architecture"]
    assert (architecture["network"], architecture["swin"]["dim"], architecture["encoder"]) == ("swin", 4, None)
