"""Which pre-training a network can begin from: one that made every part of it that is taken over.

A network that begins from half of what it is made of is another experiment, whose name nobody would guess.
"""

from collections.abc import Mapping
from typing import Final

from apatite.core.errors import ConfigError
from apatite.pretrain.methods import METHODS
from apatite.segment.networks import NETWORKS
from apatite.study.sweep.rows import UNETRPP, VIT, SweepRow, method_of

PARTS: Final[dict[str, frozenset[str]]] = {
    name: frozenset(
        part for part, is_there in ((VIT, network.has_encoder), (UNETRPP, network.unetrpp is not None)) if is_there
    )
    for name, network in NETWORKS.items()
}
"""Network → the branches (`pretrain.branches.BRANCHES`) that its pre-training must have had."""


def refuse_strange_beginnings(rows: Mapping[str, SweepRow]) -> None:
    """Refuse rows whose pre-training lacks a part of their network.

    Raises:
        ConfigError: there is one; the methods that have all parts are named.
    """
    for row in rows.values():
        if row.kind != "vit" or not row.encoder:
            continue
        method, _ = method_of(str(rows[row.encoder].axes["init"]))
        parts = PARTS[str(row.axes["network"])]
        if missing := sorted(parts - set(METHODS[method].branches)):
            able = [name for name, known in METHODS.items() if parts <= set(known.branches)]
            raise ConfigError(
                f"the network {row.axes['network']} cannot begin from {method}, which pre-trains no {missing[0]}",
                where=row.name,
                fix=f"let it begin from one of {', '.join(able)}, or from scratch",
            )
