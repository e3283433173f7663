"""The topological loss of one volume, one thread: new diagrams, a matching and a gradient, against GUDHI and cripser.

The given volume is white noise (`noise`) or the same smoothed by 1 or 2 voxels, from 0 to 1; the made one is the same
but in three of four 8³ cubes, where it is the mean of it and of another such volume, as half of a reconstruction. The
given one's diagrams are ready-made on all sides, as in training; one loss makes those of the other volume (voxels as
vertices, dimensions 0 to 2), their 2-Wasserstein distances (ground norm L2) and the gradient. The peers do the same
with `gudhi.wasserstein` (POT) and the gathering one has to write for it, and with cripser's own differentiable
diagrams and distance.

Points: `kept` is the package's default (persistence of at least 0.02, at most 512 per dimension), the same points for
all sides; `all` leaves none out. `share of all` is the kept loss over that of all points: what truncation does, and no
error of a side. The error of a side is against GUDHI + POT for the same points; the script stops where sides differ by
1 %. Peers are left out where a table of all pairs has more than 15 million entries in a dimension, all sides above
40,000 points. Times are medians of 5 rounds in turns, or one where a single loss takes 5 s or more.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from apatite.core.rng import generator
from apatite.losses.topology import TopologyLoss, TopologyLossConfig
from apatite.topology.diagrams import DiagramConfig, Diagrams, diagrams
from apatite.topology.matching import match
from harness import Benchmark, compare, median, ratio_of, timed
from topology_peers import Kept, Step, cripser_with_its_own, gudhi_with_pot

SMOOTHING = {"noise": 0.0, "smooth 1": 1.0, "smooth 2": 2.0}
KEPT = {"kept": Kept(least=0.02, most=512), "all": Kept()}
MOST_PAIRS = 15_000_000
"""Of a peer's table: a minute and 0.5 GB."""
MOST_POINTS = 40_000
"""Of ours in one dimension: half a minute."""
SMALL = 48
"""Up to this edge, ours with the slower backend is timed for all points, too."""
LONG_S = 5.0
TOLERANCE = 0.01
PEERS = {
    "GUDHI + POT": (gudhi_with_pot, ("gudhi", "ot")),
    "cripser + its own": (cripser_with_its_own, ("cripser", "ot")),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One pair of volumes and one choice of points."""

    edge: int
    texture: str
    points: str
    given: Tensor
    made: Tensor

    @property
    def name(self) -> str:
        return f"{self.edge} {self.texture} {self.points}"

    @property
    def kept(self) -> Kept:
        return KEPT[self.points]

    def counts(self) -> list[tuple[int, ...]]:
        """Points of dimensions 0, 1, 2: of the given and of the made volume."""
        return [tuple(len(each.births) for each in _diagrams(v, "auto", self.kept)) for v in (self.given, self.made)]


def main(arguments: list[str] | None = None) -> None:
    bench = Benchmark.start(
        __doc__, __file__, packages=("gudhi", "cripser", "pot", "numba", "numpy"), arguments=arguments, options=_options
    )
    bench.options.threads = 1
    torch.set_num_threads(1)
    peers = available(bench)
    for edge in bench.options.edges or ([16] if bench.quick else [48, 64, 96]):
        for texture in SMOOTHING:
            given, made = volumes((edge, edge, edge), texture)
            steps = {name: partial(_count, made, name) for name in _backends()}
            made_s = {name: median(seconds) for name, seconds in in_turns(bench, steps)[1].items()}
            cases = [Case(edge=edge, texture=texture, points=points, given=given, made=made) for points in KEPT]
            losses = {case.points: one_case(bench, case, peers, made_s) for case in cases}
            say_share(bench, cases[0], losses)
    bench.facts |= {"least_persistence": KEPT["kept"].least, "most_points": KEPT["kept"].most}
    bench.finish()


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--edges", type=int, nargs="*", help="edges of the volumes, instead of 48 64 96")


def volumes(shape: tuple[int, int, int], texture: str) -> tuple[Tensor, Tensor]:
    """A given and a made volume, `1 1 depth height width`, fp32."""
    given, other = (_texture(shape, texture, number) for number in range(2))
    is_cube = generator(0, "topology", "cubes").random([-(-edge // 8) for edge in shape]) < 0.75
    is_hidden = np.kron(is_cube, np.ones((8, 8, 8), dtype=bool))[tuple(slice(edge) for edge in shape)]
    made = np.where(is_hidden, (given + other) / 2, given)
    return torch.from_numpy(given)[None, None], torch.from_numpy(made)[None, None]


def _texture(shape: tuple[int, int, int], texture: str, number: int) -> np.ndarray:
    values = generator(0, "topology", texture, number).random(shape)
    if SMOOTHING[texture]:
        values = gaussian_filter(values, SMOOTHING[texture])
    return ((values - values.min()) / np.ptp(values)).astype(np.float32)


def available(bench: Benchmark) -> dict[str, Callable[[Tensor, Tensor, Kept], Step]]:
    """The peers whose packages are installed."""
    found = {}
    for peer, (make, modules) in PEERS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            bench.skip(peer, f"{' and '.join(missing)} not installed")
        else:
            found[peer] = make
    return found


def _backends() -> list[str]:
    """The fastest first."""
    return ["cripser", "gudhi"] if find_spec("cripser") else ["gudhi"]


def one_case(
    bench: Benchmark,
    case: Case,
    peers: dict[str, Callable[[Tensor, Tensor, Kept], Step]],
    made_s: dict[str, float],
) -> float | None:
    """Rows and ratios of one case; the loss, where ours had one."""
    counts = case.counts()
    if max(max(each) for each in counts) > MOST_POINTS:
        bench.skip(case.name, f"more than {MOST_POINTS:,} points in a dimension")
        return None
    steps: dict[str, Step] = {}
    for number, backend in enumerate(_backends()):
        if number == 0 or case.points == "kept" or case.edge <= SMALL:
            steps[f"ours, {backend}"] = our_loss(case.made, case.given, backend, case.kept)
    if max(one * other for one, other in zip(*counts, strict=True)) <= MOST_PAIRS:
        for peer, make in peers.items():
            steps[peer] = make(case.made.clone().requires_grad_(), case.given, case.kept)
    else:
        bench.skip(f"{case.name}, the peers", f"a table of more than {MOST_PAIRS:,} pairs")
    losses, seconds = in_turns(bench, steps)
    refuse_different(case, losses)
    matching = in_turns(bench, {"matching": matching_of(case)})[1]["matching"]
    _rows(bench, case, (counts[0], losses, seconds), {**made_s, "matching": median(matching)})
    return losses[next(iter(steps))]


def our_loss(made: Tensor, given: Tensor, backend: str, kept: Kept) -> Step:
    """One loss with its gradient; the given volume's diagrams are remembered before the first one."""
    config = TopologyLossConfig(pool=1, diagram=_config(backend, kept), per_point=False, workers=1)
    loss = TopologyLoss(config)
    loss.jobs.remembered(given[0, 0].numpy())
    image = made.clone().requires_grad_()

    def step() -> float:
        image.grad = None
        value = loss.start(image, given)()
        value.backward()
        return value.item()

    return step


def in_turns(bench: Benchmark, steps: dict[str, Step]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """What each step gives, and its seconds: of five rounds after a first one, or of that alone where it is long."""
    values: dict[str, float] = {}
    first = {name: timed(lambda name=name, step=step: values.update({name: step()})) for name, step in steps.items()}
    short = {name: step for name, step in steps.items() if first[name] < LONG_S}
    return values, {name: [first[name]] for name in steps} | compare(short, 1 if bench.quick else 5, warmups=0)


def refuse_different(case: Case, losses: dict[str, float]) -> None:
    """A benchmark of different answers is worth nothing."""
    least, most = min(losses.values()), max(losses.values())
    if most - least > TOLERANCE * most:
        raise RuntimeError(f"{case.name}: the sides differ: {losses}")


def matching_of(case: Case) -> Step:
    """The three matchings alone."""
    found, wanted = (_diagrams(volume, "auto", case.kept) for volume in (case.made, case.given))
    return lambda: sum(match(*pair).squared_distance for pair in zip(found, wanted, strict=True)) / 2


def _count(volume: Tensor, backend: str) -> float:
    return float(sum(len(each.births) for each in _diagrams(volume, backend, KEPT["kept"])))


def _diagrams(volume: Tensor, backend: str, kept: Kept) -> Diagrams:
    return diagrams(volume[0, 0].numpy(), _config(backend, kept))


def _config(backend: str, kept: Kept) -> DiagramConfig:
    return DiagramConfig(backend=backend, least_persistence=kept.least, most_points=kept.most)  # type: ignore[arg-type]


def _rows(
    bench: Benchmark,
    case: Case,
    found: tuple[tuple[int, ...], dict[str, float], dict[str, list[float]]],
    parts_s: dict[str, float],
) -> None:
    counts, losses, seconds = found
    exact, best = losses.get("GUDHI + POT"), next(iter(losses))
    for side, loss in losses.items():
        is_ours = side.startswith("ours")
        bench.row(
            edge=case.edge,
            texture=case.texture,
            points=case.points,
            H0_H1_H2="/".join(str(count) for count in counts),
            side=side,
            loss_s=median(seconds[side]),
            of_it_diagrams_s=parts_s[side.removeprefix("ours, ")] if is_ours else None,
            of_it_matching_s=parts_s["matching"] if is_ours else None,
            time_over_ours=_ratio(seconds, side, best),
            loss=loss,
            error=abs(loss - exact) / exact if exact else None,
        )
    for peer in (side for side in losses if not side.startswith("ours")):
        for side in (side for side in losses if side.startswith("ours")):
            name = f"{case.name} {peer} over {side}".replace(", ", " ").replace(" + ", " ")
            bench.ratio(name.replace(" ", "_"), _ratio(seconds, peer, side))


def _ratio(seconds: dict[str, list[float]], peer: str, ours: str) -> float:
    """Of rounds that met the same minute, where both have them."""
    if len(seconds[peer]) == len(seconds[ours]):
        return ratio_of(seconds, peer, ours)
    return median(seconds[peer]) / median(seconds[ours])


def say_share(bench: Benchmark, case: Case, losses: dict[str, float | None]) -> None:
    """How much of the loss of all points is left by those that are kept, in the rows of these."""
    kept, whole = losses["kept"], losses["all"]
    if kept is None or not whole:
        return
    for row in bench.rows:
        if (row["edge"], row["texture"], row["points"]) == (case.edge, case.texture, "kept"):
            row["share_of_all"] = kept / whole


if __name__ == "__main__":
    main()
