"""A decoder is looked at as it is: its maps, their periods, and one case that is not of the test split."""

import json

import numpy as np
import pytest
import torch

from apatite.core.config import dump
from apatite.core.errors import ConfigError, DataError
from apatite.engine.weights import weights_of
from apatite.io.model_card import InputSpec, ModelCard, Provenance
from apatite.io.model_package import write_package
from apatite.io.store import Prepared
from apatite.metrics.checkerboard import PeriodicPower
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.decoders.sfpn import SFPNConfig
from apatite.nn.decoders.unetr import UNETRConfig
from apatite.nn.models import model_size
from apatite.nn.vit import ViTConfig
from apatite.segment.model import Segmenter, SegmenterConfig
from apatite.study.checkerboard import (
    ScaleFound,
    chosen_row,
    crop_around_labels,
    draw_checkerboard,
    first_component,
    look_at,
    ratio_table,
)


def segmenter(name: str, upsampling: str, seed: int) -> Segmenter:
    torch.manual_seed(seed)
    encoder = ViTConfig(crop=(10, 24, 40), patch=(2, 4, 8), dim=24, depth=1, heads=2)
    decoder = DecoderConfig(
        name=name,
        upsampling=upsampling,  # pyright: ignore[reportArgumentType]
        sfpn=SFPNConfig(width=8),
        unetr=UNETRConfig(width=8),
    )
    return SegmenterConfig(encoder=encoder, decoder=decoder).build()


@pytest.mark.parametrize("name", ["upscale", "sfpn", "unetr"])
def test_a_fresh_transposed_decoder_leaves_a_grid_and_a_nearest_one_does_not(name):
    smooth = torch.nn.functional.interpolate(300 * torch.randn(1, 1, 5, 6, 5), size=(10, 24, 40), mode="trilinear")
    ratios = {
        upsampling: [look_at(segmenter(name, upsampling, seed), smooth)[-1].ratio for seed in range(4)]
        for upsampling in ("nearest", "transposed")
    }
    assert np.median(ratios["nearest"]) < 1.5
    assert np.median(ratios["transposed"]) > 2 * np.median(ratios["nearest"]) + 0.5
    assert min(ratios["transposed"]) > max(ratios["nearest"])


def test_scales_run_from_coarse_to_the_logits_with_the_periods_of_the_patch():
    found = look_at(segmenter("sfpn", "nearest", 0), torch.zeros(1, 1, 10, 24, 40))
    assert [scale.stride for scale in found] == [(4, 8, 16), (2, 4, 8), (2, 4, 4), (2, 2, 2), (1, 1, 1), (1, 1, 1)]
    assert [scale.what for scale in found] == ["features"] * 5 + ["logits"]
    periods = [sorted({(power.axis, power.period) for power in scale.powers}) for scale in found]
    # Along depth, height, width there are 5, 6, 5 tokens, each 2, 4, 8 voxels.
    assert periods[:2] == [[], []]
    assert periods[2] == [("width", 2)]
    assert periods[3] == [("height", 2), ("width", 2), ("width", 4)]
    whole = [("depth", 2), ("height", 2), ("height", 4), ("width", 2), ("width", 4), ("width", 8)]
    assert periods[4] == periods[5] == whole
    (width,) = (power for power in found[3].to_dict()["powers"] if (power["axis"], power["period"]) == ("width", 4))
    assert width["period_voxels"] == 8
    assert found[3].slice_shown.shape == (12, 20)


def test_the_first_component_is_what_channels_share():
    draw = np.random.default_rng(0)
    shared = draw.standard_normal((3, 4, 5))
    values = np.stack([2 * shared, shared, 0.5 * shared]) + 0.01 * draw.standard_normal((3, 3, 4, 5)) + 7
    component = first_component(values)
    assert np.corrcoef(component.ravel(), shared.ravel())[0, 1] > 0.999
    assert np.corrcoef(first_component(-values).ravel(), -shared.ravel())[0, 1] > 0.999


@pytest.fixture
def make_model(tmp_path, head_study):
    """A package of fresh weights for the head study, by the name of its decoder."""

    def make(name: str, **changes: object):
        prepared = head_study.open()
        shape = tuple(prepared.images.shape[1:])
        torch.manual_seed(0)
        encoder = model_size("vitiac-xs").encoder(crop=shape, patch=(4, 8, 8))
        config = SegmenterConfig(encoder=encoder, decoder=DecoderConfig(name=name, **changes))  # pyright: ignore
        card = ModelCard(
            kind="segmenter",
            architecture=dump(config),
            recipe=name,
            input=InputSpec(shape=shape, spacing_mm=prepared.grid(0).spacing_mm, windows_hu=encoder.windows_hu),
            label_names={1: "calcium"},
            domains={"pretraining": [], "training": ["phantom"], "calibration": [], "reference": []},
            provenance=Provenance(apatite_version="0", seed=0),
        )
        write_package(tmp_path / name, card, weights_of(config.build()))
        return tmp_path / name

    return make


def test_models_of_different_decoders_are_laid_side_by_side(make_model, head_study, tmp_path):
    models = [make_model("mae"), make_model("unetr", upsampling="transposed")]
    made = draw_checkerboard(models, head_study.open(), tmp_path / "out")
    values = json.loads((tmp_path / "out" / "checkerboard.json").read_text())
    assert values == made.values
    assert values["case_id"] == "head-09"  # the first of development
    assert [(about["decoder"], about["upsampling"]) for about in values["models"].values()] == [
        ("mae", None),
        ("unetr", "transposed"),
    ]
    scales = values["models"]["unetr"]["scales"]
    assert [scale["stride"] for scale in scales] == [[4, 8, 8], [4, 4, 4], [2, 2, 2], [1, 1, 1], [1, 1, 1]]
    # 2 by 2 by 3 tokens are too few to measure; that is said, not guessed.
    assert [scale["ratio"] for scale in scales] == [None] * 5
    page = made.report.read_text()
    assert page.count("data:image/png") == 1
    assert "(unetr, transposed)" in page
    assert [row[:2] for row in made.tables[0].rows][:3] == [
        ["mae", "stride 4×8×8"],
        ["mae", "logits"],
        ["unetr", "stride 4×8×8"],
    ]


def test_the_table_names_the_worst_axis_and_its_period_in_voxels():
    powers = tuple(
        PeriodicPower(axis=axis, period=period, ratio=ratio, share=0.1)  # pyright: ignore[reportArgumentType]
        for axis, period, ratio in (("depth", 2, 1.0), ("height", 2, 3.0), ("width", 4, 8.0))
    )
    scale = ScaleFound(what="features", stride=(1, 2, 4), num_channels=3, powers=powers, slice_shown=np.zeros((2, 2)))
    (row,) = ratio_table({"m": [scale]}).rows
    assert row == ["m", "stride 1×2×4", 4.0, 8.0, "width", 16, 10.0]


def test_a_case_of_the_test_split_or_an_unknown_one_is_refused(head_study, body_study):
    prepared = head_study.open()
    assert prepared.cases[chosen_row(prepared, "head-05")].split == "finetune"
    with pytest.raises(ConfigError, match="belongs to the test split"):
        chosen_row(prepared, "head-20")
    with pytest.raises(ConfigError, match="no case 'head-99'"):
        chosen_row(prepared, "head-99")
    assert prepared.cases[chosen_row(prepared, None)].case_id == "head-09"
    assert body_study.open().cases[chosen_row(body_study.open(), None)].split == "development"


def test_there_must_be_a_labelled_case_to_choose(head_study):
    whole = head_study.open()
    cases = tuple(case for case in whole.cases if case.split in ("pretrain", "test"))
    manifest = type(whole.manifest)(root=whole.manifest.root, cases=cases, label_names=whole.manifest.label_names)
    without = Prepared(folder=whole.folder, kind=whole.kind, manifest=manifest, about=whole.about)
    with pytest.raises(DataError, match="no labelled case") as refused:
        chosen_row(without, None)
    assert refused.value.code == "EMPTY_SPLIT"


def test_a_model_of_another_grid_is_refused(make_model, body_study, tmp_path):
    with pytest.raises(ConfigError, match="another grid"):
        draw_checkerboard([make_model("mae")], body_study.open(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_crop_of_a_whole_volume_holds_what_is_labelled(body_study):
    prepared = body_study.open()
    row = chosen_row(prepared, None)
    volume = prepared.volume(prepared.cases[row].case_id)
    crop = crop_around_labels(prepared, row, (8, 16, 24))
    assert crop.shape == (8, 16, 24)
    assert volume.labels is not None
    middle = np.argwhere(np.asarray(volume.labels[:]) > 0).mean(axis=0)
    whole = np.asarray(volume.image[:])
    starts = [
        int(np.clip(np.round(at - edge / 2), 0, have - edge))
        for at, edge, have in zip(middle, (8, 16, 24), whole.shape, strict=True)
    ]
    assert np.array_equal(crop, whole[tuple(slice(s, s + e) for s, e in zip(starts, (8, 16, 24), strict=True))])
    with pytest.raises(ConfigError, match="smaller than the crop"):
        crop_around_labels(prepared, row, (64, 16, 24))
