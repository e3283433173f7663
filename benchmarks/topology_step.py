"""What the topological loss adds to a training step: `mae_topology` over `mae_voxels`, and the hybrid with and without.

Crops are smooth noise (a Gaussian of 1.5 voxels), 0 to 1 over a window; the network first learns for some steps, so
that its reconstructions, whose diagrams are computed, are those of a run that has begun and not those of fresh weights.
`every` is how often the loss is computed; a step's time is the mean over that many. The ratio is the overhead, the step
with the loss over the step without it: here 1 is best. Diagrams and matchings of the samples are computed in as many
threads as there are cores, beside the network's step. Sides take turns; the overhead is the median over rounds. Both
with the same threads, in fp32, with the GUDHI backend, and with cripser where installed; the hybrid with the latter.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from apatite.core.types import Edges
from apatite.data.batches import Batch
from apatite.data.places import CropPlaces
from apatite.engine.optim import OptimConfig, build_optimizer
from apatite.losses.topology import TopologyLossConfig
from apatite.nn.attention import AttentionKernel
from apatite.nn.models import model_size
from apatite.nn.unetrpp.presets import UNETRPPShape
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS, Method, Weight
from apatite.pretrain.task import PretrainTask
from apatite.pretrain.term import TermSettings
from harness import Benchmark, compare, median, ratio_of

WINDOW_HU = (-160.0, 240.0)
LEARNED_STEPS = 10
SIZES: dict[str, tuple[str, Edges, Edges, int]] = {
    "xs": ("vitiac-xs", (64, 64, 64), (8, 8, 8), 8),
    "s": ("vitiac-s", (96, 96, 96), (8, 8, 8), 2),
}
"""Model, crop, patch, batch."""
ROWS = (
    ("xs", "mae_topology", 2, 1),
    ("xs", "mae_topology", 2, 4),
    ("xs", "mae_topology", 4, 1),
    ("xs", "mae_topology", 4, 4),
    ("s", "mae_topology", 2, 1),
    ("xs", "topo_mae_hybrid", 2, 1),
)
"""Size, method, how many voxels along each axis are averaged into one before the diagrams, every so many steps."""


def batch_of(crop: Edges, samples: int) -> Batch:
    """Smooth crops that fill the window."""
    draw = np.random.default_rng(0)
    volumes = [gaussian_filter(draw.normal(size=crop), 1.5) for _ in range(samples)]
    low, high = WINDOW_HU
    scaled = [low + (high - low) * (volume - volume.min()) / np.ptp(volume) for volume in volumes]
    images = torch.from_numpy(np.stack(scaled)[:, None].astype(np.float32))
    places = CropPlaces(points=torch.rand(samples, 9, 3), extent_mm=torch.full((samples, 3), 300.0))
    return Batch(case_ids=tuple(map(str, range(samples))), images_hu=images, places=places)


def without_topology(method: Method) -> Method:
    """The same method with its reconstruction, position and consistency alone."""
    branches = {
        name: {term: weight for term, weight in weights.items() if term != "topology"}
        for name, weights in method.branches.items()
    }
    return replace(method, branches=branches)


def from_the_start(method: Method, every: int) -> Method:
    """The same method, its topology counting from the first step on, every so many steps."""
    branches = {
        name: {term: Weight(value=w.value, every=every) if term == "topology" else w for term, w in weights.items()}
        for name, weights in method.branches.items()
    }
    return replace(method, branches=branches)


def steps_of(method: Method, size: str, backend: str, pool: int, every: int) -> Callable[[], None]:
    """A function that does `every` training steps, after a few that bring the reconstruction into shape."""
    model, crop, patch, samples = SIZES[size]
    shape, windows = model_size(model), (WINDOW_HU,)
    unetrpp = UNETRPPShape(preset="small").config(crop, windows) if "unetrpp" in method.branches else None
    shapes = Shapes(
        encoder=shape.encoder(crop=crop, patch=patch, windows_hu=windows), decoder=shape.decoder, unetrpp=unetrpp
    )
    topology = TopologyLossConfig(pool=pool)
    topology = replace(topology, diagram=replace(topology.diagram, backend=backend))  # type: ignore[arg-type]
    torch.manual_seed(0)
    task = PretrainTask(method, shapes, AttentionKernel(), 0, steps=10**6, settings=TermSettings(topology=topology))
    optimizer, batch = build_optimizer(task, OptimConfig(lr=1e-3)), batch_of(crop, samples)
    done = 0

    def step(losses: Callable[[Batch, int], dict[str, torch.Tensor]]) -> None:
        nonlocal done
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses(batch, done).values())).sum().backward()
        optimizer.step()
        done += 1

    whole, task.method = task.method, without_topology(method)
    for _ in range(LEARNED_STEPS):
        step(task.losses)
    task.method, done = whole, 0

    def steps() -> None:
        for _ in range(every):
            step(task.losses)

    return steps


def measure(bench: Benchmark, backend: str, row: tuple[str, str, int, int]) -> None:
    """One row."""
    size, name, pool, every = row
    method = METHODS[name]
    sides = {
        "with": steps_of(from_the_start(method, every), size, backend, pool, every),
        "without": steps_of(without_topology(method), size, backend, pool, every),
    }
    seconds = compare(sides, repeats=2 if bench.quick else 5)
    overhead = ratio_of(seconds, "with", "without")
    bench.row(
        size=size,
        method=name,
        backend=backend,
        diagrams_of=" × ".join(str(edge // pool) for edge in SIZES[size][1]),
        every=every,
        ms_per_step_with=1e3 * median(seconds["with"]) / every,
        ms_per_step_without=1e3 * median(seconds["without"]) / every,
        overhead=overhead,
    )
    bench.ratio(f"{size}_{name}_pool_{pool}_{backend}_every_{every}", overhead)


def main(arguments: list[str] | None = None) -> None:
    """All rows."""
    bench = Benchmark.start(__doc__, __file__, packages=("gudhi", "cripser", "scipy", "numpy"), arguments=arguments)
    backends = ["gudhi", *(["cripser"] if find_spec("cripser") else [])]
    if "cripser" not in backends:
        bench.skip("cripser", "not installed")
    for row in ROWS[:1] if bench.quick else ROWS:
        for backend in backends if row[1] == "mae_topology" else backends[-1:]:
            measure(bench, backend, row)
    bench.finish()


if __name__ == "__main__":
    main()
