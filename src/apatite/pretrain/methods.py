"""Pre-training methods as a table: weighted terms, a view plan, a hiding law, the rules of a teacher.

There is no branch on a method's name anywhere. A new mixture is one entry here; a new term is one class (`term`), one
loss, one entry in `TERMS`. What the entries of self-distillation are, and what they are not, stands in
docs/explanation/self-distillation.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from apatite.core.errors import ConfigError
from apatite.core.registry import nearest
from apatite.data.hiding import HidingLaw
from apatite.data.views import ViewPlan
from apatite.pretrain.teaching import Teaching

JIN2025 = "He et al. 2022 (arXiv 2111.06377); 90 % hidden after Jin et al. 2025 (arXiv 2507.01744)"
GU2024 = "after Gu et al. 2024 (arXiv 2406.10519), whose weights and settings are not known"
SMIT2022 = "Jiang et al. 2022 (arXiv 2205.10342) and its released code"
ZHOU2022 = "Zhou et al. 2022 (arXiv 2111.07832), in 3D"
CARON2021 = "Caron et al. 2021 (arXiv 2104.14294), in 3D, without changes of colour"
OQUAB2023 = "after Oquab et al. 2023 (arXiv 2304.07193), in 3D, without changes of colour"
SIMEONI2025 = "after Siméoni et al. 2025 (arXiv 2508.10104), in 3D, without changes of colour"
XIE2022 = "Xie et al. 2022 (arXiv 2111.09886), in 3D"
CHEN2021 = "Chen et al. 2021 (arXiv 2104.02057), in 3D, without changes of colour"
GIDARIS2018 = "Gidaris et al. 2018 (arXiv 1803.07728), in the axial plane"
OURS = "ours, on the terms of Jiang et al. 2022 (arXiv 2205.10342)"
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
        hiding: Which cells the networks do not see.
        paper: Where it comes from.
        between: Weights of the terms over two branches (`between.BETWEEN`).
        views: Which views are cut from a crop; one that is all of it, where nothing else is said.
        teaching: The rules of a student's teacher; `None` where no term has one.
        balances: Whether terms are scaled so that their gradients at the tap are as their weights (`balance`).
        hidden_spread: Of the first values of what stands for a hidden cell, where a network has such a thing.
        normalises_deep: Whether a student's last tokens pass a norm before they are made voxels.
    """

    branches: Mapping[str, Weights]
    hiding: HidingLaw
    paper: str
    between: Weights = field(default_factory=dict)
    views: ViewPlan = field(default_factory=ViewPlan)
    teaching: Teaching | None = None
    balances: bool = False
    hidden_spread: float = 0.02
    normalises_deep: bool = False

    def weights(self) -> Iterator[tuple[str, Weight]]:
        """Each term's name in the journal, and its weight."""
        for branch, weights in self.branches.items():
            for name, weight in weights.items():
                yield self.named(branch, name), weight
        yield from self.between.items()

    @property
    def summary(self) -> str:
        """Its terms and their weights, what is hidden and shown, and where it comes from, in one line."""
        terms = ", ".join(f"{name} {weight.value:g}" for name, weight in self.weights())
        networks = " and ".join(self.branches)
        tap = "" if self.teaching is None else f"read at {self.teaching.tap}"
        teacher = "" if self.teaching is None or self.teaching.copies_student else "teacher of its own draw"
        balanced = "balanced" if self.balances else ""
        parts = (f"{networks}: {terms}", balanced, self.hiding.summary, self.views.summary, tap, teacher, self.paper)
        return "; ".join(part for part in parts if part)

    def named(self, branch: str, name: str) -> str:
        """What the journal calls a number of a branch: the branch is named where there are two."""
        return name if len(self.branches) == 1 else f"{branch}.{name}"

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
        return replace(
            self,
            branches={
                branch: {
                    name: _valued(weight, values.get(f"{branch}.{name}", values.get(name)))
                    for name, weight in weights.items()
                }
                for branch, weights in self.branches.items()
            },
            between={name: _valued(weight, values.get(name)) for name, weight in self.between.items()},
        )


def _long(branch: str, weights: Weights) -> Iterator[str]:
    return (f"{branch}.{name}" for name in weights)


def _valued(weight: Weight, value: float | None) -> Weight:
    return weight if value is None else replace(weight, value=value)


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
GU_HIDING: Final = HidingLaw(ratio=0.75)

# As SMIT: two views of one crop, both always hidden in part, 70 % of their cells.
SMIT_TERMS: Final[Weights] = {"mip": Weight(), "mpd": Weight(value=0.1), "itd": Weight(value=0.1)}
TWO: Final = ViewPlan(count=2)
SMIT_HIDING: Final = HidingLaw(ratio=0.7)
TAUGHT: Final = Teaching()
# Local views of a sample: 3DINO has 8 (arXiv 2501.11755), iBOT 10; 4 is ours, for crops of a volume need memory.
WITH_LOCALS: Final = replace(TWO, local_count=4)
NOTHING: Final = HidingLaw(ratio=None)
SOME_BLOCKS: Final = HidingLaw(kind="blocks", ratio=0.5, lowest=0.1, share=0.5)
DINOV2_TERMS: Final[Weights] = {"itd": Weight(), "mpd": Weight(), "koleo": Weight(value=0.1)}


def _student(  # noqa: PLR0913 - what an entry leaves out is SMIT's
    terms: Weights,
    paper: str,
    *,
    hiding: HidingLaw = SMIT_HIDING,
    views: ViewPlan = TWO,
    teaching: Teaching | None = TAUGHT,
    balances: bool = False,
    hidden_spread: float = 0.02,
    normalises_deep: bool = False,
) -> Method:
    return Method(
        branches={"student": terms},
        hiding=hiding,
        paper=paper,
        views=views,
        teaching=teaching,
        balances=balances,
        hidden_spread=hidden_spread,
        normalises_deep=normalises_deep,
    )


METHODS: Final[dict[str, Method]] = {
    "mae": Method(branches={"vit": {"reconstruct_hidden": Weight()}}, hiding=HidingLaw(ratio=0.9), paper=JIN2025),
    "mae_voxels": Method(branches={"vit": RECONSTRUCTION}, hiding=GU_HIDING, paper=GU2024),
    "mae_topology": Method(branches={"vit": {**RECONSTRUCTION, **TOPOLOGY}}, hiding=GU_HIDING, paper=GU2024),
    "mae_position": Method(branches={"vit": {**RECONSTRUCTION, **POSITION}}, hiding=GU_HIDING, paper=GU2024),
    "topo_mae": Method(branches={"vit": ALL}, hiding=GU_HIDING, paper=GU2024),
    "topo_mae_unetrpp": Method(branches={"unetrpp": ALL}, hiding=GU_HIDING, paper=GU2024),
    "topo_mae_parallel": Method(branches={"vit": ALL, "unetrpp": ALL}, hiding=GU_HIDING, paper=GU2024),
    "topo_mae_hybrid": Method(
        branches={"vit": ALL, "unetrpp": ALL}, between=CONSISTENCY, hiding=GU_HIDING, paper=GU2024
    ),
    "mae_euler": Method(
        branches={"vit": {**RECONSTRUCTION, "euler": Weight(value=0.001, begin=0.1, ramp=0.1)}},
        hiding=GU_HIDING,
        paper=SURROGATE,
    ),
    "mae_critical": Method(
        branches={"vit": {**RECONSTRUCTION, "critical_voxels": Weight(value=0.1, begin=0.1, ramp=0.1)}},
        hiding=GU_HIDING,
        paper=SURROGATE,
    ),
    "smit": _student(SMIT_TERMS, SMIT2022),
    "smit_released": _student(
        SMIT_TERMS,
        SMIT2022,
        teaching=Teaching(
            momentum_rises=False, copies_student=False, drops_paths=True, tap="merged3", cells_ramp_begins=0.06
        ),
        hidden_spread=0.0,
    ),
    "smit_without_mip": _student({"mpd": Weight(), "itd": Weight()}, SMIT2022),
    "itd_only": _student({"itd": Weight()}, SMIT2022),
    "smit_twins": _student(
        {"mip": Weight(), "mpd": Weight(value=0.1), "twin_tokens": Weight(value=0.1)},
        OURS,
        views=replace(TWO, snaps=True),
    ),
    "smit_balanced": _student(SMIT_TERMS, OURS, balances=True),
    "simmim": _student(
        {"mip": Weight()}, XIE2022, views=ViewPlan(), hiding=HidingLaw(ratio=0.6), teaching=None, normalises_deep=True
    ),
    "ibot": _student(
        {"mpd": Weight(), "itd": Weight()},
        ZHOU2022,
        hiding=SOME_BLOCKS,
        views=WITH_LOCALS,
        teaching=replace(TAUGHT, shares_heads=True),
    ),
    "dino": _student({"itd": Weight()}, CARON2021, hiding=NOTHING, views=WITH_LOCALS),
    "dinov2": _student(
        DINOV2_TERMS, OQUAB2023, hiding=SOME_BLOCKS, views=WITH_LOCALS, teaching=replace(TAUGHT, centring="sinkhorn")
    ),
    "dinov3": _student(
        {**DINOV2_TERMS, "gram": Weight(value=1.0, begin=0.5)},
        SIMEONI2025,
        hiding=SOME_BLOCKS,
        views=WITH_LOCALS,
        teaching=replace(TAUGHT, centring="sinkhorn"),
    ),
    "mocov3": _student(
        {"contrast": Weight()},
        CHEN2021,
        hiding=NOTHING,
        teaching=replace(TAUGHT, momentum=0.99),
    ),
    "rotation": _student(
        {"rotation": Weight()}, GIDARIS2018, hiding=NOTHING, views=ViewPlan(turns=True), teaching=None
    ),
}
