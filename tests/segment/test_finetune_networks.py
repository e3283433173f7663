"""The whole chain with every network: trained, cut and gone on, packed, predicted with, begun from what was learned."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from apatite.cli import main
from apatite.core.config import dump
from apatite.core.errors import ConfigError, ModelError
from apatite.engine.checkpoint import load_state
from apatite.engine.weights import weights_of
from apatite.io.model_card import InputSpec, ModelCard, Provenance
from apatite.io.model_package import read_package, write_package
from apatite.io.nifti import read_scan
from apatite.io.run_folder import RunFolder
from apatite.nn.models import MODELS, model_size
from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.presets import SwinSize
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.nn.vit import HEAD_CT_WINDOWS_HU
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import finetune
from apatite.segment.networks import NETWORKS
from apatite.segment.predict import open_predictor
from apatite.study.checkerboard import draw_checkerboard

CROP = (8, 16, 24)
SHAPE = UNETRPPShape(preset="tiny", stem=(1, 2, 1))
BESIDE_VIT = [name for name in NETWORKS if name != "vit"]
WITH_UNETRPP = [name for name, network in NETWORKS.items() if network.unetrpp]
SETTINGS = {"swin": {"model": "swin-tiny", "patch": None}}
RECIPES = {"unetrpp": "unetrpp, UNETR++ tiny", "swin": "swin-tiny, decoder of Swin UNETR"}


@pytest.fixture(scope="module", autouse=True)
def swin_tiny():
    """A Swin for the crop of the heads among the models."""
    shape = SwinConfig(
        crop=CROP,
        patch=(1, 2, 1),
        windows_hu=HEAD_CT_WINDOWS_HU,
        dim=4,
        depths=(1, 1, 2, 1),
        heads=(2, 2, 4, 4),
        window=(2, 3, 4),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "swin-tiny", SwinSize(shape=shape, note="for tests"))
        yield


@pytest.fixture(scope="module")
def short(tiny) -> FinetuneConfig:
    return replace(tiny, unetrpp=SHAPE, steps=3, batch=2, check_every=2, save_every_s=0.0)


@pytest.fixture(scope="module")
def runs(head_study, short, tmp_path_factory) -> dict[str, Path]:
    """A finished run of every network."""
    folder = tmp_path_factory.mktemp("networks")
    for name in BESIDE_VIT:
        finetune(replace(short, network=name, **SETTINGS.get(name, {})), head_study.prepared, folder / name)
    return {name: folder / name for name in BESIDE_VIT}


@pytest.fixture(scope="module")
def both(head_study, tmp_path_factory) -> Path:
    """A package of a ViT and a UNETR++ for the crop of the heads, with random weights."""
    torch.manual_seed(5)
    vit = model_size("vitiac-xs").encoder(crop=CROP, patch=(4, 8, 8))
    unetrpp = SHAPE.config(CROP, HEAD_CT_WINDOWS_HU)
    weights = {
        **{f"vit.{name}": array for name, array in weights_of(vit.build()).items()},
        **{
            f"unetrpp.{name}": array
            for name, array in weights_of(unetrpp.build(2)).items()
            if not name.startswith("heads.")
        },
    }
    card = ModelCard(
        kind="hybrid",
        architecture={"vit": dump(vit), "unetrpp": dump(unetrpp)},
        recipe="topo_mae_hybrid",
        input=InputSpec(shape=CROP, spacing_mm=(1.0, 1.25, 2.5), windows_hu=HEAD_CT_WINDOWS_HU),
        label_names={},
        domains={"pretraining": ["phantom", "real"], "training": [], "calibration": [], "reference": []},
        provenance=Provenance(apatite_version="0", seed=5),
    )
    folder = tmp_path_factory.mktemp("hybrids") / "model"
    write_package(folder, card, weights)
    return folder


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", BESIDE_VIT)
def test_a_run_leaves_a_package_that_predicts(head_study, runs, name):
    package = read_package(runs[name] / "model")
    assert package.card.architecture["network"] == name
    parts = {part for part in ("encoder", "unetrpp", "swin") if package.card.architecture[part] is not None}
    network = NETWORKS[name]
    assert ("encoder" in parts, "unetrpp" in parts, "swin" in parts) == (
        network.has_encoder, network.unetrpp is not None, network.has_swin
    )  # fmt: skip
    assert package.card.recipe == RECIPES.get(name, f"{name}, UNETR++ tiny, vitiac-xs")
    assert (package.card.input.shape, package.card.input.windows_hu) == (CROP, HEAD_CT_WINDOWS_HU)
    heads = {key.split(".")[3] for key in package.weights if ".heads." in key}
    assert heads == ({"0", "1", "2"} if network.unetrpp else set())
    rows = rows_of(runs[name])
    assert all({"dice_loss", "cross_entropy", "gradient_norm"} <= set(row) for row in rows)
    assert [row["step"] for row in rows if "score" in row] == [1, 2]
    prepared = head_study.open()
    case = prepared.cases[6]
    found = open_predictor(runs[name], "cpu").predict_case(case, read_scan(prepared.manifest.image_path(case)))
    assert found.is_counted.any()
    assert np.isfinite(found.probability).all()
    assert found.probability.max() <= 1


class Cut(Exception):
    """Ends a run in the middle."""


def cut_after(number: int):
    def watch(rows, *_):
        for place, row in enumerate(rows, start=1):
            yield row
            if place == number:
                raise Cut

    return watch


@pytest.mark.parametrize("name", BESIDE_VIT)
def test_a_run_that_was_cut_goes_on_bit_for_bit(head_study, short, runs, tmp_path, name):
    """With dropout, stochastic depth and norms whose means are part of the state."""
    config = replace(short, network=name, **SETTINGS.get(name, {}))
    with pytest.raises(Cut):
        finetune(config, head_study.prepared, tmp_path / "run", watch=cut_after(2))
    assert load_state(RunFolder(path=tmp_path / "run").last)[1]["step"] == 2
    finetune(config, head_study.prepared, tmp_path / "run", resume=True)
    for kind in ("last", "best"):
        (tensors, values), (whole, whole_values) = (
            load_state(getattr(RunFolder(path=folder), kind)) for folder in (tmp_path / "run", runs[name])
        )
        assert values == whole_values
        assert tensors.keys() == whole.keys()
        assert all(torch.equal(tensors[key], whole[key]) for key in tensors)
        seen = any(key.endswith("running_mean") and tensors[key].abs().max() > 0 for key in tensors)
        assert seen == (name in WITH_UNETRPP)
    one, other = (read_package(folder / "model").weights for folder in (tmp_path / "run", runs[name]))
    assert all(np.array_equal(one[key], other[key]) for key in other)
    assert rows_of(tmp_path / "run") == rows_of(runs[name])


@pytest.mark.parametrize("name", ["vit", *WITH_UNETRPP])
def test_every_network_of_these_parts_begins_from_a_hybrid_package(
    head_study, short, both, tmp_path, monkeypatch, name
):
    begun = {}

    def stop(module, config, depth):
        begun.update(module.state_dict())
        raise Cut

    monkeypatch.setattr("apatite.segment.finetune.build_optimizer", stop)
    with pytest.raises(Cut):
        finetune(replace(short, network=name), head_study.prepared, tmp_path / "run", init_from=both)
    weights = read_package(both).weights
    for part, prefix in (("encoder.", "vit."), ("decoder.unetrpp.decoder.", "unetrpp.decoder.")):
        names = [key for key in begun if key.startswith(part) and "running" not in key and "tracked" not in key]
        assert bool(names) == (part == "encoder." if name == "vit" else name != "unetrpp" or part != "encoder.")
        for key in names:
            assert np.array_equal(begun[key].numpy(), weights[prefix + key.removeprefix(part)]), key


def test_the_domains_and_the_table_of_a_hybrid(head_study, short, both, tmp_path):
    made = finetune(replace(short, network="hybrid", steps=1), head_study.prepared, tmp_path / "run", init_from=both)
    assert made.coverage is not None
    assert made.coverage.ratios == {"encoder": 1.0, "decoder.unetrpp": 1.0}
    domains = read_package(made.package).card.domains
    assert (domains["pretraining"], domains["training"]) == (["phantom", "real"], ["phantom"])


def test_from_scratch_and_pretrained_begin_with_the_same_rest(head_study, short, both, tmp_path, monkeypatch):
    begun = []

    def stop(module, config, depth):
        begun.append(dict(module.state_dict()))
        raise Cut

    monkeypatch.setattr("apatite.segment.finetune.build_optimizer", stop)
    for number, init_from in enumerate((None, both)):
        with pytest.raises(Cut):
            config = replace(short, network="hybrid_decoder")
            finetune(config, head_study.prepared, tmp_path / f"run{number}", init_from=init_from)
    scratch, tuned = begun
    same = {name for name in scratch if torch.equal(scratch[name], tuned[name])}
    assert {name for name in scratch if name.startswith(("decoder.states.", "decoder.unetrpp.heads."))} <= same
    assert "encoder.embed.weight" not in same
    assert "decoder.unetrpp.decoder.ups.0.weight" not in same


REFUSED = {
    "a crop that the stem does not divide": (
        {"unetrpp": replace(SHAPE, stem=(1, 4, 4))},
        r"multiples of \(8, 32, 32\)",
    ),
    "the same beside a ViT": (
        {"network": "hybrid", "unetrpp": UNETRPPShape(preset="acdc")},
        r"multiples of \(8, 32, 32\)",
    ),
    "a stem as large as the crop": ({"unetrpp": replace(SHAPE, stem=(2, 2, 2))}, r"multiples of \(16, 16, 16\)"),
    "a patch that does not divide": ({"network": "hybrid", "patch": (3, 8, 8)}, "divide"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_crop_that_does_not_fit_is_refused_and_nothing_is_written(head_study, short, tmp_path, what):
    changes, fix = REFUSED[what]
    config = replace(short, **{"network": "unetrpp", **changes})
    with pytest.raises(ConfigError) as caught:
        finetune(config, head_study.prepared, tmp_path / "run")
    assert re.search(fix, caught.value.fix)
    assert list(tmp_path.iterdir()) == []


def test_a_vit_alone_gives_unetrpp_nothing(head_study, short, make_encoder, tmp_path):
    with pytest.raises(ModelError, match="takes nothing"):
        finetune(replace(short, network="unetrpp"), head_study.prepared, tmp_path / "run", init_from=make_encoder())
    assert list(tmp_path.iterdir()) == []


def test_a_unetrpp_of_another_crop_is_refused(head_study, short, both, tmp_path):
    config = replace(short, network="unetrpp", unetrpp=UNETRPPShape(preset="tiny"))
    with pytest.raises(ModelError, match=r"its UNETR\+\+ has stem"):
        finetune(config, head_study.prepared, tmp_path / "run", init_from=both)
    assert list(tmp_path.iterdir()) == []


def test_the_checkerboard_is_of_patches_only(head_study, runs, tmp_path):
    with pytest.raises(ConfigError, match="no decoder from patches to voxels") as caught:
        draw_checkerboard([runs["hybrid"]], head_study.open(), tmp_path / "out")
    assert str(runs["hybrid"]) in caught.value.where
    with pytest.raises(ConfigError, match="no decoder from patches to voxels"):
        draw_checkerboard([runs["swin"]], head_study.open(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_deep_supervision_there_is_one_output(head_study, short, tmp_path):
    config = replace(short, network="unetrpp", deep_supervision=False, steps=1)
    made = finetune(config, head_study.prepared, tmp_path / "run")
    names = {name for name in read_package(made.package).weights if ".heads." in name}
    assert names == {"decoder.unetrpp.heads.0.weight", "decoder.unetrpp.heads.0.bias"}


def test_from_the_command_line_to_a_report(head_study, both, tmp_path, capsys):
    def run(*arguments: object) -> dict:
        code = main.run([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out)

    settings = [
        "network=hybrid",
        "unetrpp.preset=tiny",
        "unetrpp.stem=[1,2,1]",
        "patch=[4,8,8]",
        "model=vitiac-xs",
        "steps=2",
        "batch=4",
        "precision={device: cpu, format: fp32, attention_in_fp32: false, head_multiple: 1, threads: 1}",
    ]
    data, tuned, better = head_study.prepared, tmp_path / "tuned", tmp_path / "better"
    made = run("finetune", "-d", data, "-o", tuned, "--init-from", both, *settings)
    assert (made["coverage"], made["cases"]) == (1.0, 5)
    assert set(run("calibrate", "-m", tuned, "-d", data, "-o", better)["calibration"]["labels"]["1"]) == {
        "ungated",
        "gated",
    }
    architecture = run("inspect", "-m", better)["card"]["architecture"]
    assert (architecture["network"], architecture["unetrpp"]["stem"]) == ("hybrid", [1, 2, 1])
    summary = run("evaluate", "-m", better, "-d", data, "-o", tmp_path / "page", "--resamples", 5)
    assert summary["apatite"]["models"] == ["better", "better + calibrated"]
    bad = ["finetune", "-d", str(data), "-o", str(tmp_path / "no"), "network=unetrpp"]
    for setting, word in (
        ("unetrpp.preset=tinny", "tiny"),
        ("unetrpp.presett=tiny", "preset"),
        ("network=unetr", "unetrpp"),
    ):
        assert main.run([*bad, setting]) == 2
        assert word in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
