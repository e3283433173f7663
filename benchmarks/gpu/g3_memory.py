"""Memory of a pre-training step at 8,192 tokens: how much one sample takes, and the largest batch that fits.

64×64×128 voxels in patches of 4, 90 % hidden, ViTiac-S, the same three sides as `g1_mae_step`. On a GPU the peak is
what torch's allocator held; the largest batch is guessed from two peaks and then tried, to within an eighth. The model
column is what `limits.py` expects a step without recomputation to keep for one sample. Without a GPU: 512 tokens, peak
resident memory of a fresh process above what it held before the step, no search.
"""

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from device import Device, fits, peak_bytes, start
from steps import MAKERS, Problem, fastest_precision, make_step, our_step

from harness import Benchmark, peak_memory
from limits import bytes_saved, counts, vitiac

MOST = 1024
Numbers = dict[str, int]


def main(arguments: list[str] | None = None) -> None:
    bench, device = start(__doc__, __file__, ("monai", "timm"), arguments)
    crop = (32, 32, 32) if device.is_toy else (64, 64, 128)
    problem = Problem(model="vitiac-s", crop=crop, patch=4, batch=1, device=device.name)
    expected = bytes_saved(counts(vitiac("S", 4**3), problem.encoder.num_tokens), element_bytes=2)
    found: dict[str, Numbers] = {}
    for side in MAKERS:
        if not device.has_time:
            bench.skip(side, "no time left")
            continue
        try:
            numbers = toy(side, problem, bench.threads) if device.is_toy else on_gpu(side, problem, device)
        except ImportError as error:
            bench.skip(side, str(error))
            continue
        if numbers is None:
            bench.skip(side, "two samples do not fit")
        else:
            found[side] = numbers
    for side, numbers in found.items():
        per_sample = numbers["peak_two"] - numbers["peak_one"]
        bench.row(
            side=side,
            tokens=problem.encoder.num_tokens,
            peak_mib_batch1=numbers["peak_one"] / 2**20,
            mib_per_further_sample=per_sample / 2**20,
            model_mib_per_sample=expected / 2**20,
            largest_batch=numbers.get("largest"),
        )
    compare_sides(bench, found)
    bench.finish()


def compare_sides(bench: Benchmark, found: dict[str, Numbers]) -> None:
    """Peer over ours for memory; ours over peer for the batch: above 1 we are better."""
    own = found.get("ours")
    for side, numbers in found.items():
        if own is None or side == "ours":
            continue
        bench.ratio(f"peak_batch1_{side}", numbers["peak_one"] / own["peak_one"])
        if "largest" in numbers and "largest" in own:
            bench.ratio(f"largest_batch_{side}", own["largest"] / numbers["largest"])


def on_gpu(side: str, problem: Problem, device: Device) -> Numbers | None:
    """Peaks of one and of two samples, and the largest batch; `None` where not even two fit."""
    at = at_batch(side, problem, device)
    peaks: list[int] = []
    for batch in (1, 2):
        if not fits(lambda batch=batch: peaks.append(peak_bytes(at(batch), device)), device):
            return None
    per_sample = max(peaks[1] - peaks[0], 1)
    guess = int((device.memory_bytes * 0.95 - peaks[0]) / per_sample) + 1
    return {
        "peak_one": peaks[0],
        "peak_two": peaks[1],
        "largest": largest(min(guess, MOST), lambda batch: fits(at(batch), device), device),
    }


def at_batch(side: str, problem: Problem, device: Device) -> Callable[[int], Callable[[], None]]:
    """Two steps at a batch: the second one also holds the optimiser's state."""
    precision = fastest_precision(replace(problem, batch=1)) if side == "ours" else None
    device.free()

    def at(batch: int) -> Callable[[], None]:
        def twice() -> None:
            asked = replace(problem, batch=batch)
            step = our_step(asked, precision) if side == "ours" else MAKERS[side](asked)
            step()
            step()

        return twice

    return at


def largest(guess: int, does_fit: Callable[[int], bool], device: Device) -> int:
    """From a guess up or down by eighths; two are known to fit."""
    if does_fit(guess):
        while guess < MOST and device.has_time and does_fit(more := max(guess + 1, guess * 9 // 8)):
            guess = more
        return guess
    while guess > 2 and device.has_time:
        guess = max(guess * 7 // 8, 2)
        if does_fit(guess):
            return guess
    return 2


def toy(side: str, problem: Problem, threads: int) -> Numbers | None:
    """Peaks in fresh processes."""
    found = {}
    for name, batch in (("peak_one", 1), ("peak_two", 2)):
        plain = (problem.model, problem.crop, problem.patch, batch, problem.device)
        memory = peak_memory(make_step, side, *plain, threads=threads)
        if memory is None:
            return None
        found[name] = memory.added_bytes
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the peers' own
    main()
