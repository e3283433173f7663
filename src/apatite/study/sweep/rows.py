"""A row of a sweep: one training run, named by its axes, and the rows that have to be done before it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from apatite.study.sweep.record import Kind

SCRATCH, EQUAL_TIME = "scratch", "scratch-equal-time"
"""Beginnings without an encoder: with the recipe's steps, and with as many more as fit into the time that another row
spent on pre-training."""
AS_LONG_AS, PACE = "-as-long-as-", "-pace"
"""Between two methods: the first is pre-trained for as long as the second took, at the pace that a short run of it
showed. That short run is a row of its own."""
PACE_SHARE: Final = 0.2
"""Of the epochs: how long a run is that only shows the pace. Terms that set in later in a run do so within it, too."""
ALL: Final = "all"
"""Labels: every labelled case of the split."""
VIT, NNUNET = "vit", "nnunet"
UNETRPP, HYBRID, HYBRID_DECODER = "unetrpp", "hybrid", "hybrid_decoder"
SWIN: Final = "swin"
"""The network of a Swin, whose decoder and whose patch are its own."""
AXES: Final = (
    "arm",
    "network",
    "model",
    "patch",
    "decoder",
    "upsampling",
    "init",
    "take",
    "labels",
    "draw",
    "seed",
    "reader",
)
"""Every axis, in the order of a row's name."""
UPSAMPLED: Final = ("upscale", "sfpn", "unetr")
"""Decoders that have a choice of upsampling."""

Value = str | int | None


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """One run.

    Attributes:
        name: Of its record and of its run folder.
        kind: `pretrain`, `vit` (a network of this package, whichever) or `nnunet`.
        axes: By the names of `AXES`; None where one means nothing here. For pre-training, `init` is the method, with
            the one whose time it is given.
        needs: Rows that have to be done before, in the order in which they are used.
        minutes: Expected before anything was measured.
        encoder: The pre-training row that it begins from; empty for none.
        pretrain: Changes to the pre-training recipe.
        finetune: Changes to the fine-tuning recipe.
    """

    name: str
    kind: Kind
    axes: Mapping[str, Value]
    needs: tuple[str, ...] = ()
    minutes: float
    encoder: str = ""
    pretrain: tuple[str, ...] = ()
    finetune: tuple[str, ...] = ()

    @property
    def reader(self) -> str:
        """Whose labels it learns from; those of any reader for pre-training, which sees none."""
        return str(self.axes["reader"] or "")

    @property
    def label_count(self) -> int:
        """Labelled cases that it asks for; 0 for all there are, or none."""
        labels = self.axes["labels"]
        return labels if isinstance(labels, int) else 0

    @property
    def is_timed(self) -> bool:
        """Whether its length follows from the seconds of the rows that it needs."""
        init = str(self.axes["init"])
        return init == EQUAL_TIME if self.kind != "pretrain" else AS_LONG_AS in init

    @property
    def cost_key(self) -> tuple[Value, ...]:
        """Rows with one key take about the same time."""
        method = self.axes["init"] if self.kind == "pretrain" else None
        shape = ("network", "model", "patch", "decoder", "upsampling")
        used = ("network",) if self.axes["network"] == UNETRPP else shape
        return (self.kind, method, *(self.axes[name] for name in used))


@dataclass(frozen=True, kw_only=True)
class Point:
    """One combination of axes, before it is known what of it matters.

    Attributes:
        values: By the names of `AXES`.
        tag: Of the block, where that changes a recipe; empty otherwise.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    tag: str = ""

    @property
    def axes(self) -> dict[str, Value]:
        """All axes, with None for those that make no difference, so that equal runs are one row."""
        axes = {name: self.values[name] for name in AXES}
        if axes["labels"] == ALL:
            axes["draw"] = 0
        if axes["arm"] == NNUNET:
            return axes | dict.fromkeys(("network", "model", "patch", "decoder", "upsampling", "init", "take"))
        if axes["network"] not in (None, VIT):
            axes["decoder"] = None
        if is_swin(axes["model"]):
            axes["patch"] = None
        if axes["decoder"] not in UPSAMPLED:
            axes["upsampling"] = None
        if axes["init"] in (SCRATCH, EQUAL_TIME):
            axes["take"] = None
        return axes | (self._of_unetrpp() if axes["network"] == UNETRPP else {})

    def _of_unetrpp(self) -> dict[str, Value]:
        """It has neither patches nor the transformer's size; but its pre-training does, and so a row that has one."""
        return dict.fromkeys(("take", "model", "patch") if self.values["init"] == SCRATCH else ("take",))

    def named(self, **changes: Value) -> str:
        """The name of the row at this point, perhaps with some axes changed: `vit-xs-p4-mae-scratch-n20-d1-s0`."""
        axes = Point(values=dict(self.values) | changes).axes
        labels = str(axes["labels"]) if axes["labels"] == ALL else f"{axes['labels']}-d{axes['draw']}"
        # The name of a Swin says which network it is.
        network = None if axes["network"] == SWIN else axes["network"]
        parts = [
            axes["arm"] if axes["network"] in (None, VIT) else network,
            _short(axes["model"]),
            None if axes["patch"] is None else f"p{axes['patch']}",
            axes["decoder"],
            axes["upsampling"],
            axes["init"],
            axes["take"] if axes["take"] != "encoder" else None,
            f"n{labels}",
            f"s{axes['seed']}",
            axes["reader"],
            self.tag,
        ]
        return "-".join(str(part) for part in parts if part)

    def encoder_name(self, method: str) -> str:
        """The name of the pre-training row that a row at this point begins from."""
        model = self.values["model"]
        parts = [
            "pretrain",
            method,
            _short(model),
            None if is_swin(model) else f"p{self.values['patch']}",
            f"s{self.values['seed']}",
            self.tag,
        ]
        return "-".join(str(part) for part in parts if part)


def method_of(init: str) -> tuple[str, str]:
    """The pre-training method of a beginning, and the one whose time it is given; the latter is mostly empty."""
    method, _, reference = init.partition(AS_LONG_AS)
    return method.removesuffix(PACE), reference


def is_swin(model: Value) -> bool:
    """Whether a model is a Swin, which has no patch to choose: it is part of the published shape."""
    return str(model).startswith(f"{SWIN}-")


def _short(model: Value) -> str | None:
    return None if model is None else str(model).removeprefix("vitiac-")


def patch_text(edges: int | tuple[int, int, int]) -> int | str:
    """A patch as an axis has it: the edge of a cube, or `2x4x4`."""
    if isinstance(edges, int):
        return edges
    return edges[0] if len(set(edges)) == 1 else "x".join(map(str, edges))


def patch_edges(value: Value) -> tuple[int, int, int]:
    """Edges along depth, height and width of what `patch_text` wrote."""
    edges = [int(part) for part in str(value).split("x")]
    depth, height, width = edges * 3 if len(edges) == 1 else edges
    return depth, height, width
