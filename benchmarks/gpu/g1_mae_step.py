"""Samples per second of masked pre-training in bf16: ViTiac-S, M, L at 4,096 tokens, against MONAI and timm blocks.

64×64×64 voxels in patches of 4, 90 % hidden, 64 samples per step: forward, backward, AdamW. MONAI holds every attention
matrix, so it gets the largest batch that fits, which is stated. timm's blocks run under autocast and torch.compile: the
strong peer. The limit is the roofline of `limits.py` with this GPU's own measured products and streams; scores of heads
this narrow are bound by exponentials, not by products. Without a GPU: 512 tokens, 2 samples, S only.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from device import Device, fits, start
from steps import MAKERS, Problem, Step, fastest_precision, our_step

from harness import Benchmark, compare, median, ratio_of
from limits import counts, floor_gpu, vitiac


def main(arguments: list[str] | None = None) -> None:
    bench, device = start(__doc__, __file__, ("monai", "timm"), arguments)
    for size in ("s",) if device.is_toy else ("s", "m", "l"):
        if not device.has_time:
            bench.skip(f"vitiac-{size}", "no time left")
            continue
        measure(bench, device, size)
    bench.finish()


def measure(bench: Benchmark, device: Device, size: str) -> None:
    """All sides on one size of model."""
    crop, batch = ((32, 32, 32), 2) if device.is_toy else ((64, 64, 64), 64)
    problem = Problem(model=f"vitiac-{size}", crop=crop, patch=4, batch=batch, device=device.name)
    precision = fastest_precision(problem)
    steps: dict[str, tuple[int, Step]] = {"ours": (batch, our_step(problem, precision))}
    for side in ("timm", "monai"):
        try:
            made = largest(side, problem, device)
        except ImportError as error:
            bench.skip(side, str(error))
            continue
        if made is None:
            bench.skip(f"{side} {size}", "not even one sample fits")
            continue
        steps[side] = made
    # Seconds per sample, since batches differ; the tool divides times.
    seconds = compare({side: step for side, (_, step) in steps.items()}, 2 if device.is_toy else 7, wait=device.wait)
    per_sample = {side: [s / steps[side][0] for s in times] for side, times in seconds.items()}
    count = counts(vitiac(size.upper(), 4**3), problem.encoder.num_tokens)
    floor_s = floor_gpu(count, device.limits())
    for side, times in per_sample.items():
        bench.row(
            model=problem.model,
            tokens=problem.encoder.num_tokens,
            side=side,
            batch=steps[side][0],
            computed_in=precision.name if side == "ours" else "bf16",
            samples_per_s=1 / median(times),
            time_over_ours=ratio_of(per_sample, side),
            limit_fraction=None if device.is_toy else floor_s / median(times),
        )
        if side != "ours":
            bench.ratio(f"{size}_{problem.encoder.num_tokens}_tokens_{side}", ratio_of(per_sample, side))


def largest(side: str, problem: Problem, device: Device) -> tuple[int, Step] | None:
    """The step with the wanted batch, or with the largest half, quarter, … of it that fits."""
    batch = problem.batch
    while batch >= 1:
        made: list[Step] = []

        def attempt(batch: int = batch, made: list[Step] = made) -> None:
            step = MAKERS[side](replace(problem, batch=batch))
            step()
            step()
            made.append(step)

        if fits(attempt, device):
            return batch, made[0]
        batch //= 2
    return None


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the peers' own
    main()
