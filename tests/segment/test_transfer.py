"""What a transfer loads is exactly what its table says, and too little is refused."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from apatite.core.errors import ConfigError, ModelError
from apatite.nn.vit import ViTConfig
from apatite.segment.transfer import TAKES, Rule, transfer


class Encoder(nn.Module):
    """A weight matrix of unequal edges, a norm, and a fixed table that is no weight."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 3)
        self.norm = nn.LayerNorm(3)
        self.register_buffer("positions", torch.zeros(7, 3))


class Segmenter(nn.Module):
    """The encoder under another name, a look-alike name, and a head."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.backbone = Encoder(width)
        self.backbone2 = nn.Linear(2, 2)
        self.head = nn.Linear(3, 2)


RULES = [Rule(source="student.encoder", target="backbone"), Rule(source="student.decoder", target=None)]


def source(width: int = 5) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    tensors = {f"student.encoder.{name}": torch.randn_like(t) for name, t in Encoder(width).state_dict().items()}
    return tensors | {"student.decoder.weight": torch.ones(4), "teacher.bias": torch.ones(2)}


def test_loads_the_encoder_and_nothing_else() -> None:
    target, tensors = Segmenter(), source()
    before = copy.deepcopy(target.state_dict())
    coverage = transfer(tensors, target, RULES)
    after = target.state_dict()
    for name in ("proj.weight", "proj.bias", "norm.weight", "norm.bias"):
        assert torch.equal(after[f"backbone.{name}"], tensors[f"student.encoder.{name}"])
    for name in ("backbone.positions", "backbone2.weight", "backbone2.bias", "head.weight", "head.bias"):
        assert torch.equal(after[name], before[name])
    assert coverage.ratio == 1.0
    assert [(row.target, row.numel) for row in coverage.rows] == [
        ("backbone.proj.weight", 15),
        ("backbone.proj.bias", 3),
        ("backbone.norm.weight", 3),
        ("backbone.norm.bias", 3),
    ]
    assert coverage.dropped == ("student.decoder.weight",)
    assert coverage.unused == ("student.encoder.positions", "teacher.bias")


def test_ratio_counts_numbers_not_tensors() -> None:
    tensors = source()
    del tensors["student.encoder.norm.bias"]
    tensors["student.encoder.proj.bias"] = torch.zeros(4)
    target = Segmenter()
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(ModelError, match=r"only 75\.0%") as caught:  # 18 of 24
        transfer(tensors, target, RULES)
    words = " ".join(str(caught.value).split())
    assert "backbone.norm.bias missing 3" in words
    assert "backbone.proj.bias shape differs 3" in words
    assert caught.value.code == "MODEL_SHAPE"
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())
    coverage = transfer(tensors, target, RULES, floor=0.75)
    assert coverage.ratio == 0.75
    assert [row.status for row in coverage.rows] == ["loaded", "shape differs", "loaded", "missing"]
    assert torch.equal(target.backbone.norm.bias, before["backbone.norm.bias"])


@pytest.mark.parametrize(
    "rules", [[], [Rule(source="encoder", target="backbone")], [Rule(source="student", target=None)]]
)
def test_rules_that_cover_nothing_are_refused(rules: list[Rule]) -> None:
    with pytest.raises(ModelError, match=r"only 0\.0%"):
        transfer(source(), Segmenter(), rules)


def test_another_width_is_refused() -> None:
    with pytest.raises(ModelError, match="shape differs"):
        transfer(source(width=6), Segmenter(), RULES)


def test_the_empty_prefix_covers_every_name() -> None:
    encoder = Encoder()
    target = Segmenter()
    assert transfer(encoder.state_dict(), target, [Rule(source="", target="backbone")]).ratio == 1.0
    again = Encoder()
    assert transfer(target.state_dict(), again, [Rule(source="backbone", target="")]).ratio == 1.0
    assert torch.equal(again.proj.weight, encoder.proj.weight)


def test_the_first_rule_decides() -> None:
    rules = [Rule(source="student.encoder.norm", target=None), *RULES]
    coverage = transfer(source(), Segmenter(), rules, floor=0.5)
    assert [row.status for row in coverage.rows] == ["loaded", "loaded", "missing", "missing"]


def test_weights_that_are_not_finite_change_nothing() -> None:
    tensors, target = source(), Segmenter()
    tensors["student.encoder.norm.bias"][1] = torch.nan
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(ModelError, match="not finite"):
        transfer(tensors, target, RULES)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="floor"):
        transfer(source(), Segmenter(), RULES, floor=0.0)
    twice = source() | {"teacher.encoder.norm.bias": torch.zeros(3)}
    with pytest.raises(ConfigError, match="both go to"):
        transfer(twice, Segmenter(), [*RULES, Rule(source="teacher.encoder", target="backbone")])


def test_lines_show_what_was_not_loaded_first() -> None:
    tensors = source()
    del tensors["student.encoder.norm.bias"]
    lines = transfer(tensors, Segmenter(), RULES, floor=0.5).lines(most=2)
    assert lines[0].split() == ["backbone.norm.bias", "missing", "3", "from", "student.encoder.norm.bias"]
    assert lines[-1] == "... and 2 more"


def segmenter_and_encoder(**changes: object) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A tiny segmenter, and the weights of an encoder drawn apart from it; `changes` are the encoder's."""
    shape = ViTConfig(crop=(4, 6, 10), patch=(2, 3, 5), dim=12, depth=2, heads=2)
    torch.manual_seed(3)
    encoder = replace(shape, **changes).build().state_dict()
    return nn.ModuleDict({"encoder": replace(shape, stem=changes.get("stem", "linear")).build()}), encoder


@pytest.mark.parametrize("stem", ["linear", "conv"])
def test_the_embedding_alone_is_taken_and_nothing_of_the_blocks(stem: str) -> None:
    target, encoder = segmenter_and_encoder(stem=stem)
    before = copy.deepcopy(target.state_dict())
    coverage = transfer(encoder, target, TAKES["embedding"])
    assert coverage.ratio == 1.0
    assert {row.target for row in coverage.rows} == {name for name in before if name.startswith("encoder.embed.")}
    assert set(coverage.dropped) == {name for name in encoder if not name.startswith("embed.")}
    for name, tensor in target.state_dict().items():
        is_taken = name.startswith("encoder.embed.")
        assert torch.equal(tensor, encoder[name.removeprefix("encoder.")] if is_taken else before[name]), name


def test_the_floor_is_a_share_of_what_is_taken() -> None:
    """With another patch the blocks would fit and cover most of the encoder; the embedding fits nowhere."""
    target, encoder = segmenter_and_encoder(patch=(2, 3, 10))
    with pytest.raises(ModelError, match=r"only 1\.6%"):  # of 12 * 60 weights and 12 biases the biases
        transfer(encoder, target, TAKES["embedding"])
    assert transfer(encoder, target, TAKES["encoder"], floor=0.7).ratio > 0.7
