"""Which pre-training a network can begin from: one that made every part of it that is taken over.

A network that begins from half of what it is made of is another experiment, whose name nobody would guess.
"""

from collections.abc import Mapping
from typing import Final

from apatite.core.errors import ConfigError
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import STUDENT
from apatite.segment.networks import NETWORKS
from apatite.study.sweep.rows import SWIN, UNETRPP, VIT, SweepRow, Value, is_swin, method_of

PARTS: Final[dict[str, frozenset[str]]] = {
    name: frozenset(
        part
        for part, is_there in (
            (VIT, network.has_encoder),
            (UNETRPP, network.unetrpp is not None),
            (SWIN, network.has_swin),
        )
        if is_there
    )
    for name, network in NETWORKS.items()
}
"""Network → the parts that its pre-training must have made."""


def refuse_strange_beginnings(rows: Mapping[str, SweepRow]) -> None:
    """Refuse rows whose model does not fit their network or method, or whose pre-training lacks a part of the network.

    Raises:
        ConfigError: there is one; the methods that have all parts are named.
    """
    for row in rows.values():
        if row.kind == "pretrain":
            _refuse_left_out_patches(row)
        elif row.kind == "vit":
            _refuse_other_model(row)
            if row.encoder:
                _refuse_missing_parts(row, rows[row.encoder])


def parts_made(method: str, model: Value) -> frozenset[str]:
    """What a method pre-trains of a model: the keys of `PARTS`' values."""
    student = SWIN if is_swin(model) else VIT
    return frozenset(student if branch == STUDENT else branch for branch in METHODS[method].branches)


def _refuse_left_out_patches(row: SweepRow) -> None:
    """A Swin's windows need every token; only a ViT can be shown what is visible alone."""
    method, _ = method_of(str(row.axes["init"]))
    if is_swin(row.axes["model"]) and VIT in METHODS[method].branches:
        able = [name for name, known in METHODS.items() if set(known.branches) == {STUDENT}]
        raise ConfigError(
            f"{method} leaves hidden patches out, which a Swin cannot",
            where=row.name,
            fix=f"use one of {', '.join(able)}, or a ViT",
        )


def _refuse_other_model(row: SweepRow) -> None:
    network, model = str(row.axes["network"]), row.axes["model"]
    if (network == SWIN) != is_swin(model) and model is not None:
        right = f"network {SWIN}" if is_swin(model) else "a model whose name begins with swin-"
        raise ConfigError(
            f"the network {network} is not made of {model}", where=row.name, fix=f"use {right}, or both axes of a ViT"
        )


def _refuse_missing_parts(row: SweepRow, encoder: SweepRow) -> None:
    method, _ = method_of(str(encoder.axes["init"]))
    network, model = str(row.axes["network"]), encoder.axes["model"]
    parts = PARTS[network]
    if missing := sorted(parts - parts_made(method, model)):
        able = [name for name in METHODS if parts <= parts_made(name, model)]
        raise ConfigError(
            f"the network {network} cannot begin from {method}, which pre-trains no {missing[0]}",
            where=row.name,
            fix=f"let it begin from one of {', '.join(able)}, or from scratch",
        )
