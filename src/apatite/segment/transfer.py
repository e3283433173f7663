"""Weights go from one network to another by an explicit name map, a printed table, and a floor.

`load_state_dict(strict=False)` loads what happens to fit and says nothing of the rest; a whole encoder left at random
looks like a poor method. Here every target tensor under a rule is accounted for, and too small a share is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from apatite.core.errors import ConfigError, ModelError

Status = Literal["loaded", "missing", "shape differs"]
FLOOR = 0.9
"""Share of the target's parameters under a rule that must find their source."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Tensors whose name begins with `source` go to the name that begins with `target`.

    No target drops them; no source leaves what is there, on purpose, so that it does not count. Prefixes end where a
    name's part ends: `encoder` covers `encoder.norm.weight`, not `encoder2.weight`. The empty prefix covers every name.
    The first rule that covers a name decides.
    """

    source: str | None
    target: str | None


Take = Literal["encoder", "embedding"]
TAKES: Final[dict[Take, tuple[Rule, ...]]] = {
    "encoder": (Rule(source="", target="encoder"),),
    "embedding": (Rule(source="embed", target="encoder.embed"), Rule(source="", target=None)),
}
"""What of a pre-trained ViT or Swin goes into a segmenter; where only the embedding is taken, the blocks start with
fresh weights. The floor then asks for its share of the embedding."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one tensor of the target; `numel` counts its numbers, `part` is its rule's prefix."""

    target: str
    source: str
    status: Status
    numel: int
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The table of a transfer.

    Attributes:
        rows: One per target parameter that a rule covers, in the target's order.
        dropped: Source tensors that a rule drops on purpose.
        unused: Source tensors that no rule covers, or that have no place in the target.
    """

    rows: tuple[Row, ...]
    dropped: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Loaded parameters divided by the target's parameters under a rule; 0 where no rule covers any."""
        return _share_loaded(self.rows)

    @property
    def ratios(self) -> dict[str, float]:
        """The same for each rule's part: a small one that is left out whole does not hide behind a large one."""
        parts = dict.fromkeys(row.part for row in self.rows)
        return {part: _share_loaded([row for row in self.rows if row.part == part]) for part in parts}

    def lines(self, most: int | None = None) -> list[str]:
        """The table as text, what was not loaded first; at most `most` rows of it."""
        rows = sorted(self.rows, key=lambda row: row.status == "loaded")
        width = max((len(row.target) for row in rows[:most]), default=0)
        text = [f"{row.target:<{width}}  {row.status:<13}  {row.numel:>9}  from {row.source}" for row in rows[:most]]
        hidden = len(rows) - len(text)
        return [*text, f"... and {hidden} more"] if hidden else text


def transfer(source: Mapping[str, Tensor], target: nn.Module, rules: Sequence[Rule], floor: float = FLOOR) -> Coverage:
    """Copy weights by name, all or nothing.

    Only parameters count and are copied: fixed buffers, such as position tables, are the target's own.

    Args:
        source: Tensors by name.
        target: Takes the values in its own types and on its own device.
        rules: For example `[Rule(source="encoder", target="encoder"), Rule(source="decoder", target=None)]`.
        floor: Smallest share of each rule's parameters in the target that must be loaded, above 0 and at most 1.

    Returns:
        The table, to be printed and kept with the run.

    Raises:
        ModelError: less than `floor` is covered (`MODEL_SHAPE`), or a source tensor is not finite (`NONFINITE`). The
            target is unchanged then.
        ConfigError: `floor` is not a share, or two rules send tensors to one place.
    """
    if not 0 < floor <= 1:
        raise ConfigError(f"floor {floor} is not a share", where="transfer", fix="give a number above 0 and up to 1")
    parameters = dict(target.named_parameters())
    origin, dropped = _origins(source, rules)
    chosen = {name: origin[name] for name in parameters if name in origin}
    coverage = Coverage(
        rows=tuple(_rows(source, parameters, chosen, rules)),
        dropped=tuple(dropped),
        unused=tuple(sorted(set(source) - set(dropped) - set(chosen.values()))),
    )
    part, ratio = min(coverage.ratios.items(), key=lambda item: item[1], default=("the network", 0.0))
    if ratio < floor:
        table = "".join(f"\n  {line}" for line in coverage.lines(most=6))
        raise ModelError(
            f"only {ratio:.1%} of the parameters of {part or 'the network'} would be loaded, at least {floor:.1%} are"
            f" required; nothing was loaded{table}",
            where="transfer",
            fix="use the configuration that the weights were made with, or correct the name map",
            code="MODEL_SHAPE",
        )
    loaded = [row for row in coverage.rows if row.status == "loaded"]
    for row in loaded:
        if not torch.isfinite(source[row.source]).all():
            raise ModelError(
                f"{row.source} is not finite", where="transfer", fix="use another checkpoint", code="NONFINITE"
            )
    with torch.no_grad():
        for row in loaded:
            parameters[row.target].copy_(source[row.source])
    return coverage


def _origins(source: Mapping[str, Tensor], rules: Sequence[Rule]) -> tuple[dict[str, str], list[str]]:
    """Target name to source name, and the source names that are dropped on purpose."""
    origin: dict[str, str] = {}
    dropped = []
    for name in source:
        rule = next((rule for rule in rules if rule.source is not None and _covers(rule.source, name)), None)
        if rule is None or rule.source is None:
            continue
        if rule.target is None:
            dropped.append(name)
            continue
        place = _renamed(name, rule.source, rule.target)
        if place in origin:
            raise ConfigError(
                f"{origin[place]} and {name} both go to {place}", where="transfer", fix="correct the rules"
            )
        origin[place] = name
    return origin, dropped


def _rows(
    source: Mapping[str, Tensor], parameters: Mapping[str, Tensor], chosen: Mapping[str, str], rules: Sequence[Rule]
) -> Iterator[Row]:
    for name, parameter in parameters.items():
        rule = next((rule for rule in rules if rule.target is not None and _covers(rule.target, name)), None)
        if rule is None or rule.target is None or rule.source is None:
            continue
        found, status = _renamed(name, rule.target, rule.source), "missing"
        if name in chosen:
            found = chosen[name]
            status = "loaded" if source[found].shape == parameter.shape else "shape differs"
        yield Row(target=name, source=found, status=status, numel=parameter.numel(), part=rule.target)


def _share_loaded(rows: Sequence[Row]) -> float:
    total = sum(row.numel for row in rows)
    return sum(row.numel for row in rows if row.status == "loaded") / total if total else 0.0


def _covers(prefix: str, name: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


def _renamed(name: str, before: str, after: str) -> str:
    """`name` with the prefix `before` replaced by `after`; either may be empty."""
    rest = name[len(before) :].removeprefix(".")
    return ".".join(part for part in (after, rest) if part)
