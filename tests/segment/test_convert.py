"""A converted encoder computes what the published network computed on the same scan, and nothing less is written.

The peer is MONAI's own `SwinTransformer`, with random weights saved in the published layouts. It is given the scan as
MONAI's pipelines give it: scaled to 0 ... 1 and along i, j, k; ours gets HU along depth, height, width.
"""

import copy
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from apatite.core.config import load
from apatite.core.errors import ConfigError, DataError, ModelError
from apatite.engine import foreign_torch
from apatite.engine.weights import build_with_weights
from apatite.io.model_package import read_package
from apatite.nn.swin.config import CONVENTIONS, SwinConfig
from apatite.nn.swin.network import Swin
from apatite.nn.swin.presets import SWINS
from apatite.segment import convert as converting
from apatite.segment.beginning import read_pretrained, refuse_another_swin, rules_for
from apatite.segment.convert import convert, scale_input
from apatite.segment.foreign_axes import published_order, slots_of
from apatite.segment.foreign_layouts import LAYOUTS
from apatite.segment.model import SegmenterConfig
from apatite.segment.transfer import transfer

NEIGHBOURS = {
    "smit": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1)),
    "monai-ijk": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)),
    "monai-1.4-ijk": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
}
"""Which of eight neighbours a merging's channels come from, in the files: offsets along i, j, k."""
SHAPE: dict[str, Any] = {
    "windows_hu": ((0.0, 1.0),),
    "dim": 12,
    "depths": (2, 1, 2, 2),
    "heads": (3, 3, 6, 6),
    "qkv_bias": True,
}
UNETR = SwinConfig(crop=(48, 32, 16), window=(3, 3, 3), normalises_embedding=False, convention="monai-ijk", **SHAPE)
TINY = {
    "swin-unetr-ijk": UNETR,
    "swin-unetr-1.4-ijk": replace(UNETR, convention="monai-1.4-ijk"),
    "swin-smit": SwinConfig(crop=(64, 32, 96), window=(2, 2, 2), **SHAPE),
}
HU = (-1100.0, 1100.0)


@pytest.fixture(autouse=True)
def tiny_and_here(monkeypatch):
    """Small shapes under the published names; files are read in this process, which the tests of the reader do not."""
    for name, shape in TINY.items():
        monkeypatch.setitem(SWINS, name, replace(SWINS[name], shape=shape))
    monkeypatch.setattr(converting, "read_foreign", foreign_torch.read_torch)


class Neighbours(nn.Module):
    """A merging that takes its eight neighbours in a given order, with the names of the published ones."""

    def __init__(self, dim: int, order: tuple[tuple[int, int, int], ...]) -> None:
        super().__init__()
        self.order = order
        self.norm, self.reduction = nn.LayerNorm(8 * dim), nn.Linear(8 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pad = [edge % 2 for edge in x.shape[1:4]]
        x = nn.functional.pad(x, (0, 0, 0, pad[2], 0, pad[1], 0, pad[0]))
        return self.reduction(self.norm(torch.cat([x[:, i::2, j::2, k::2] for i, j, k in self.order], -1)))


def peer(shape: SwinConfig) -> nn.Module:
    """MONAI's encoder with the merging of the convention, and with weights that are far from their start."""
    from monai.networks.nets.swin_unetr import SwinTransformer

    torch.manual_seed(5)
    network = SwinTransformer(
        in_chans=1,
        embed_dim=shape.dim,
        window_size=shape.window,
        patch_size=shape.patch,
        depths=shape.depths,
        num_heads=shape.heads,
        qkv_bias=shape.qkv_bias,
        patch_norm=shape.normalises_embedding,
    )
    for number, dim in enumerate(shape.stage_dims):
        stage = getattr(network, f"layers{number + 1}")[0]
        stage.downsample = Neighbours(dim, NEIGHBOURS[shape.convention])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def published(network: nn.Module, *, wrap: str = "module.", is_original: bool = False) -> OrderedDict[str, Tensor]:
    """The state of the peer under the names of a published file."""
    state = OrderedDict()
    for name, tensor in network.state_dict().items():
        name = name.replace("mlp.linear", "mlp.fc")
        if is_original:
            for number in range(4):
                name = name.replace(f"layers{number + 1}.0.", f"layers.{number}.")
        state[wrap + name] = tensor.clone()
    return state


def scan(shape: SwinConfig, seed: int = 3) -> Tensor:
    """HU beyond both ends of the window, along depth, height, width."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand((1, 1, *shape.crop), generator=draw) * (HU[1] - HU[0]) + HU[0]


def as_given_to_monai(image_hu: Tensor, window: tuple[float, float]) -> Tensor:
    """Scaled by MONAI's own transform, along i, j, k."""
    from monai.transforms import ScaleIntensityRange

    scale = ScaleIntensityRange(a_min=window[0], a_max=window[1], b_min=0.0, b_max=1.0, clip=True)
    return torch.as_tensor(scale(image_hu.permute(0, 1, 4, 3, 2))).as_subclass(Tensor)


def in_our_order(maps: Tensor) -> Tensor:
    return maps.permute(0, 1, 4, 3, 2)


def loaded(package: Path) -> Swin:
    read = read_package(package)
    return build_with_weights(lambda: load(SwinConfig, read.card.architecture).build(), read).eval()


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


def largest_difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """As a share of the largest value."""
    assert [a.shape for a in ours] == [b.shape for b in theirs]
    pairs = zip(ours, theirs, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("layout", ["monai-swin-ssl", "monai-swin-unetr", "monai-swin-unetr-1.4"])
@pytest.mark.parametrize("crop", [(48, 32, 16), (96, 48, 80)])
def test_the_same_maps_as_monais_encoder_on_the_same_hu(layout, crop, tmp_path, monkeypatch):
    model = LAYOUTS[layout].model
    shape = replace(TINY[model], crop=crop)
    monkeypatch.setitem(SWINS, model, replace(SWINS[model], shape=shape))
    network, window = peer(shape), (-1000.0, 1000.0)
    wrap = "module." if layout == "monai-swin-ssl" else "swinViT."
    file = saved(tmp_path / "model.pt", {"state_dict": published(network, wrap=wrap)})
    made = convert(file, tmp_path / "package", layout, window_hu=window, spacing_mm=(1.5, 1.5, 2.0))
    image_hu, swin = scan(shape), loaded(made.package)
    with torch.no_grad():
        theirs = [in_our_order(maps) for maps in network(as_given_to_monai(image_hu, window), True)]
        ours = list(swin.encode(image_hu).maps)
    assert largest_difference(ours, theirs) < 1e-5
    assert made.coverage.ratio == 1.0
    assert made.coverage.unused == ()


def test_the_published_names_are_those_that_monais_own_loader_reads(tmp_path):
    from monai.networks.nets.swin_unetr import SwinUNETR

    shape, window = UNETR, (-1000.0, 1000.0)
    content = {"state_dict": published(peer(shape))}
    theirs = SwinUNETR(1, 2, depths=shape.depths, num_heads=shape.heads, window_size=3, feature_size=shape.dim).eval()
    theirs.load_from(content)
    made = convert(
        saved(tmp_path / "model_swinvit.pt", content),
        tmp_path / "package",
        "monai-swin-unetr",
        window_hu=window,
        spacing_mm=(1.5, 1.5, 2.0),
    )
    image_hu = scan(shape)
    with torch.no_grad():
        maps = theirs.swinViT(as_given_to_monai(image_hu, window), True)
        ours = list(loaded(made.package).encode(image_hu).maps)
    assert largest_difference(ours, [in_our_order(grid) for grid in maps]) < 1e-5


def smit_stages(network: nn.Module, image: Tensor) -> list[Tensor]:
    """The tokens of each stage after its blocks and before its merging, and the last merging."""
    from monai.networks.nets.swin_unetr import compute_mask, get_window_size

    x = network.patch_embed(image)
    found = []
    for number in range(4):
        stage = getattr(network, f"layers{number + 1}")[0]
        grid = tuple(x.shape[2:])
        window, shift = get_window_size(grid, stage.window_size, stage.shift_size)
        padded = [-(-edge // size) * size for edge, size in zip(grid, window, strict=True)]
        x = x.movedim(1, -1)
        for block in stage.blocks:
            x = block(x, compute_mask(padded, window, shift, x.device))
        found.append(x.movedim(-1, 1))
        x = stage.downsample(x).movedim(-1, 1)
    return [*found, x]


def smit_state(network: nn.Module, shape: SwinConfig, wrap: str) -> OrderedDict[str, Tensor]:
    """The peer in SMIT's layout, with what its pre-training holds beside the encoder."""
    state = published(network, wrap=wrap, is_original=True)
    for number, dim in enumerate(shape.stage_dims):
        state[f"{wrap}norm{number}.weight"] = torch.linspace(0.5, 1.5, dim)
        state[f"{wrap}norm{number}.bias"] = torch.linspace(-0.1, 0.1, dim)
    state[f"{wrap}mask_token"] = torch.zeros(1, 1, shape.dim)
    return state


@pytest.mark.parametrize("wrap", ["", "module.", "module.transformer."])
@pytest.mark.parametrize("key", ["", "state_dict"])
def test_smits_layout(wrap, key, tmp_path):
    shape = TINY["swin-smit"]
    network, window = peer(shape), (-175.0, 250.0)
    state = smit_state(network, shape, wrap)
    head = {f"{wrap.removesuffix('transformer.')}head.mlp.0.weight": torch.ones(3)}
    content = {"epoch": 1, key: {**state, **head}} if key else {**state, **head}
    made = convert(saved(tmp_path / "model.pt", content), tmp_path / "package", "smit")
    image_hu, swin = scan(shape), loaded(made.package)
    assert swin.config.windows_hu == (window,)
    with torch.no_grad():
        theirs = smit_stages(network, as_given_to_monai(image_hu, window))
        for number, maps in enumerate(theirs[:4]):
            weight, bias = (state[f"{wrap}norm{number}.{part}"] for part in ("weight", "bias"))
            normalised = nn.functional.layer_norm(maps.movedim(1, -1), (maps.shape[1],), weight, bias)
            theirs[number] = normalised.movedim(-1, 1)
        ours = list(swin.encode(image_hu).maps)
    assert largest_difference(ours, [in_our_order(maps) for maps in theirs]) < 1e-5
    assert set(made.dropped) >= {f"{wrap}mask_token", *head}
    assert made.coverage.unused == ()


def test_the_later_layout_of_smit_takes_the_student(tmp_path, monkeypatch):
    shape = TINY["swin-smit"]
    monkeypatch.setitem(SWINS, "swin-heart", replace(SWINS["swin-heart"], shape=shape))
    network = peer(shape)
    student = smit_state(network, shape, "module.backbone.")
    teacher = {name: torch.zeros_like(tensor) for name, tensor in student.items()}
    student |= {"module.head.last_layer.weight_v": torch.ones(2)}
    file = saved(tmp_path / "model.pth", {"teacher": teacher, "student": student, "epoch": 3})
    with pytest.raises(ConfigError, match="window"):
        convert(file, tmp_path / "package", "smit-heart", spacing_mm=(1.0, 1.0, 3.0))
    with pytest.raises(ConfigError, match="spacing"):
        convert(file, tmp_path / "package", "smit-heart", window_hu=(-200.0, 300.0))
    made = convert(
        file, tmp_path / "package", "smit-heart", window_hu=(-200.0, 300.0), spacing_mm=(1.0, 1.0, 3.0), licence="MIT"
    )
    card = read_package(made.package).card
    assert (card.input.windows_hu, card.input.spacing_mm) == (((-200.0, 300.0),), (1.0, 1.0, 3.0))
    assert card.provenance.licence == "MIT"
    assert made.dropped["teacher"] == "stands beside the weights"
    assert loaded(made.package).blocks[0].mlp[0].weight.abs().max() > 0


def test_norms_that_a_file_leaves_out_stay_one_and_zero(tmp_path):
    shape = TINY["swin-smit"]
    state = published(peer(shape), wrap="", is_original=True)
    made = convert(saved(tmp_path / "model.pt", state), tmp_path / "package", "smit")
    norm = loaded(made.package).norms[2]
    assert norm.weight.eq(1).all()
    assert norm.bias.eq(0).all()
    assert not any(row.target.startswith("norms") for row in made.coverage.rows)


def test_the_scale_of_the_input_is_folded_exactly():
    torch.manual_seed(2)
    embedding = nn.Conv3d(2, 5, (1, 2, 3), (1, 2, 3)).double().requires_grad_(False)
    folded = copy.deepcopy(embedding)
    scale_input(folded)
    image = torch.rand(1, 2, 3, 4, 6, dtype=torch.float64)
    assert float((folded(2 * image - 1) - embedding(image)).abs().max()) < 1e-12
    # What would go wrong in silence without it.
    assert float((embedding(2 * image - 1) - embedding(image)).abs().max()) > 0.1


@pytest.mark.parametrize("convention", NEIGHBOURS)
def test_every_neighbour_of_the_files_has_one_place_in_ours(convention):
    wanted, ours = NEIGHBOURS[convention], CONVENTIONS[convention].neighbours
    assert published_order(CONVENTIONS[convention]) == wanted
    slots = slots_of(wanted, ours)
    assert sorted(slots) == list(range(8))
    assert [wanted[place][::-1] for place in slots] == list(ours)


def broken(change: str) -> dict[str, Any]:
    state = published(peer(TINY["swin-unetr-1.4-ijk"]))
    name = "module.layers2.0.blocks.0.attn.proj.weight"
    index = "module.layers1.0.blocks.0.attn.relative_position_index"
    match change:
        case "one is missing":
            del state[name]
        case "one has another shape":
            state[name] = state[name][:6]
        case "one is there twice":
            state[name.removeprefix("module.")] = state[name]
        case "one holds counts":
            state[name] = state[name].round().long()
        case "one is not finite":
            state[name][0, 0] = torch.nan
        case "offsets are numbered otherwise":
            state[index] = state[index].T.contiguous()
        case "names are those of something else":
            state = OrderedDict((f"net.{key}", tensor) for key, tensor in state.items())
    return {"state_dict": state}


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("one is missing", "MODEL_SHAPE", "blocks.2.attention.proj.weight +missing"),
        ("one has another shape", "MODEL_SHAPE", "shape differs"),
        ("one is there twice", "MODEL_SHAPE", "the same tensor"),
        ("one holds counts", "MODEL_SHAPE", "counts"),
        ("one is not finite", "NONFINITE", "not finite"),
        ("offsets are numbered otherwise", "MODEL_SHAPE", "numbers the offsets"),
        ("names are those of something else", "MODEL_SHAPE", "only 0.0%"),
    ],
)
def test_less_than_all_of_it_is_refused(change, code, said, tmp_path):
    file = saved(tmp_path / "model.pt", broken(change))
    with pytest.raises(ModelError, match=said) as caught:
        convert(file, tmp_path / "package", "monai-swin-ssl")
    assert caught.value.code == code
    assert str(file) in str(caught.value)
    assert not (tmp_path / "package").exists()


def test_what_nobody_knows_is_listed_and_not_guessed(tmp_path):
    content = broken("")
    content["state_dict"] |= {"module.adapter.weight": torch.ones(3), "module.rotation_head.bias": torch.ones(4)}
    # Ours by name and by shape, and yet nothing that MONAI writes.
    content["state_dict"]["blocks.0.attention.proj.bias"] = torch.full((12,), 7.0)
    made = convert(saved(tmp_path / "model.pt", content), tmp_path / "package", "monai-swin-ssl")
    assert made.coverage.unused == ("module.adapter.weight", "blocks.0.attention.proj.bias")
    assert loaded(made.package).blocks[0].attention.proj.bias.abs().max() < 7
    assert made.dropped["module.rotation_head.bias"] == "a head of pre-training"
    assert all(row.source.startswith("module.") for row in made.coverage.rows)


def test_other_types_of_numbers_become_fp32(tmp_path):
    content = broken("")
    state = content["state_dict"]
    wanted = {name: tensor.clone() for name, tensor in state.items()}
    for dtype, name in ((torch.float64, "norm1.weight"), (torch.bfloat16, "norm2.weight")):
        place = f"module.layers1.0.blocks.0.{name}"
        state[place] = state[place].to(dtype)
    made = convert(saved(tmp_path / "model.pt", content), tmp_path / "package", "monai-swin-ssl")
    block = loaded(made.package).blocks[0]
    assert torch.equal(block.attention_norm.weight, wanted["module.layers1.0.blocks.0.norm1.weight"])
    assert torch.equal(block.mlp_norm.weight, wanted["module.layers1.0.blocks.0.norm2.weight"].bfloat16().float())


def test_the_card_says_where_they_come_from_and_whose_they_are(tmp_path):
    file = saved(tmp_path / "model.pt", broken(""))
    made = convert(file, tmp_path / "package", "monai-swin-ssl")
    card = read_package(made.package).card
    assert card.kind == "swin"
    assert card.recipe == "convert monai-swin-ssl"
    assert made.sha256 in card.provenance.citation
    assert "arXiv 2111.14791" in card.provenance.citation
    assert card.provenance.licence == "NOASSERTION"
    assert "keep their owner's licence" in card.provenance.use
    assert "must not be used for diagnosis" in card.provenance.use
    assert card.domains["pretraining"] == ["real"]
    assert (card.input.kind, card.input.intensity) == ("volume", "hu")
    with pytest.raises(DataError, match="exists already"):
        convert(file, tmp_path / "package", "monai-swin-ssl")


def test_a_run_can_begin_from_it_with_the_layouts_model_and_no_other(tmp_path):
    made = convert(saved(tmp_path / "model.pt", broken("")), tmp_path / "package", "monai-swin-ssl")
    package = read_pretrained(made.package)
    shape = replace(SWINS[LAYOUTS["monai-swin-ssl"].model].shape, crop=(16, 48, 32), drop_path=0.1)
    refuse_another_swin(shape, package, "encoder")
    with pytest.raises(ModelError, match="convention"):
        refuse_another_swin(replace(shape, convention="monai"), package, "encoder")
    segmenter = SegmenterConfig(encoder=None, network="swin", swin=shape, num_labels=2).build()
    weights = {name: torch.from_numpy(array) for name, array in package.weights.items()}
    assert transfer(weights, segmenter, rules_for(package, "swin", "encoder")).ratio == 1.0


def test_an_unknown_layout_suggests_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="monai-swin-ssl"):
        convert(tmp_path / "model.pt", tmp_path / "package", "monai-swin-sl")


def test_every_layout_has_a_shape_and_says_what_is_not_known_of_it():
    for layout in LAYOUTS.values():
        assert layout.shape((0.0, 1.0)).convention in NEIGHBOURS
        assert layout.spacing((1.0, 1.0, 1.0)) == (1.0, 1.0, 1.0)
        assert layout.note and layout.citation and layout.doubt
