"""Pre-training methods as a table of weighted terms; there is no branch on a method's name anywhere.

A new mixture is one entry here; a new term is one class in `terms`, one loss, one entry.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from apatite.core.errors import ConfigError
from apatite.core.registry import nearest

JIN2025 = "He et al. 2022 (arXiv 2111.06377); 90 % hidden after Jin et al. 2025 (arXiv 2507.01744)"
GU2024 = "after Gu et al. 2024 (arXiv 2406.10519), whose weights and settings are not known"
SURROGATE = "ours, in place of the topological loss of Gu et al. 2024 (arXiv 2406.10519)"


@dataclass(frozen=True, kw_only=True)
class Weight:
    """How much a term counts, and when.

    Attributes:
        value: Factor on the loss once it counts in full.
        begin: Share of the run before which it does not count, and is not computed.
        ramp: Share of the run over which it then grows from 0 to `value`.
        every: It is computed every so many steps, and does not count in between.
    """

    value: float = 1.0
    begin: float = 0.0
    ramp: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.value < float("inf") or not 0 <= self.begin < 1 or not 0 <= self.ramp <= 1 or self.every < 1:
            raise ConfigError(
                f"a weight of {self.value} from {self.begin} of the run on, over {self.ramp}, every {self.every} steps",
                where="weights",
                fix="value at least 0, begin in [0, 1), ramp in [0, 1], every at least 1",
            )

    @property
    def is_constant(self) -> bool:
        """Whether it counts in full at every step."""
        return self.value > 0 and self.begin == self.ramp == 0 and self.every == 1

    def at(self, step: int, steps: int) -> float:
        """The factor at a step of so many; 0 where the term is left out."""
        if step % self.every:
            return 0.0
        done = step / steps - self.begin
        if done < 0:
            return 0.0
        return self.value * (min(done / self.ramp, 1.0) if self.ramp else 1.0)


Weights = Mapping[str, Weight]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What is learned from an unlabelled crop.

    Attributes:
        branches: For every network (`branches.BRANCHES`) the weights of its terms (`terms.TERMS`).
        hidden_ratio: Share of the patches that the networks do not see.
        paper: Where it comes from.
        between: Weights of the terms over two branches (`between.BETWEEN`).
    """

    branches: Mapping[str, Weights]
    hidden_ratio: float
    paper: str
    between: Weights = field(default_factory=dict)

    def weights(self) -> Iterator[tuple[str, Weight]]:
        """Each term's name in the journal, and its weight; the branch is named where there are two."""
        for branch, weights in self.branches.items():
            for name, weight in weights.items():
                yield (name if len(self.branches) == 1 else f"{branch}.{name}"), weight
        yield from self.between.items()

    def reweighted(self, values: Mapping[str, float]) -> "Method":
        """The same method with other weights.

        Args:
            values: New values by a term's name (in all branches), or by `branch.term`; the latter wins.

        Raises:
            ConfigError: the method has no such term.
        """
        known = {name for branch, weights in self.branches.items() for name in (*weights, *_long(branch, weights))}
        for name in values:
            if name not in known | set(self.between):
                fix = nearest(name, sorted(known | set(self.between)))
                raise ConfigError(f"the method has no term {name!r}", where="weights", fix=fix)
        return Method(
            branches={
                branch: {
                    name: _valued(weight, values.get(f"{branch}.{name}", values.get(name)))
                    for name, weight in weights.items()
                }
                for branch, weights in self.branches.items()
            },
            between={name: _valued(weight, values.get(name)) for name, weight in self.between.items()},
            hidden_ratio=self.hidden_ratio,
            paper=self.paper,
        )


def _long(branch: str, weights: Weights) -> Iterator[str]:
    return (f"{branch}.{name}" for name in weights)


def _valued(weight: Weight, value: float | None) -> Weight:
    return weight if value is None else Weight(value=value, begin=weight.begin, ramp=weight.ramp, every=weight.every)


RECONSTRUCTION: Final[Weights] = {"reconstruct_voxels": Weight()}
# The reconstructions of the first steps are noise, whose diagrams are large, slow and say nothing. Weights were chosen
# so that gradients on hidden patches stay below or near those of the reconstruction (docs/explanation/topology.md).
TOPOLOGY: Final[Weights] = {"topology": Weight(value=1.0, begin=0.1, ramp=0.1)}
POSITION: Final[Weights] = {"position": Weight(value=1.0)}
CONSISTENCY: Final[Weights] = {
    "reconstruction_consistency": Weight(value=0.1),
    "position_consistency": Weight(value=0.1),
}
ALL: Final[Weights] = {**RECONSTRUCTION, **TOPOLOGY, **POSITION}
HIDDEN: Final = 0.75


METHODS: Final[dict[str, Method]] = {
    "mae": Method(branches={"vit": {"reconstruct_hidden": Weight()}}, hidden_ratio=0.9, paper=JIN2025),
    "mae_voxels": Method(branches={"vit": RECONSTRUCTION}, hidden_ratio=HIDDEN, paper=GU2024),
    "mae_topology": Method(branches={"vit": {**RECONSTRUCTION, **TOPOLOGY}}, hidden_ratio=HIDDEN, paper=GU2024),
    "mae_position": Method(branches={"vit": {**RECONSTRUCTION, **POSITION}}, hidden_ratio=HIDDEN, paper=GU2024),
    "topo_mae": Method(branches={"vit": ALL}, hidden_ratio=HIDDEN, paper=GU2024),
    "topo_mae_unetrpp": Method(branches={"unetrpp": ALL}, hidden_ratio=HIDDEN, paper=GU2024),
    "topo_mae_parallel": Method(branches={"vit": ALL, "unetrpp": ALL}, hidden_ratio=HIDDEN, paper=GU2024),
    "topo_mae_hybrid": Method(
        branches={"vit": ALL, "unetrpp": ALL}, between=CONSISTENCY, hidden_ratio=HIDDEN, paper=GU2024
    ),
    "mae_euler": Method(
        branches={"vit": {**RECONSTRUCTION, "euler": Weight(value=0.001, begin=0.1, ramp=0.1)}},
        hidden_ratio=HIDDEN,
        paper=SURROGATE,
    ),
    "mae_critical": Method(
        branches={"vit": {**RECONSTRUCTION, "critical_voxels": Weight(value=0.1, begin=0.1, ramp=0.1)}},
        hidden_ratio=HIDDEN,
        paper=SURROGATE,
    ),
}
