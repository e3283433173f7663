"""What two processes gain over one, beside a model of it, and what the model says of many GPUs.

Measured: the package's own training loop, masked autoencoding in fp32 with patches of 8, two processes started by
torchrun and joined by gloo, one thread each, against one process with one thread. Weak: each process has the samples
that the one had, efficiency T(b) / T₂(b); strong: both share the samples of one, T(2b) / 2 T₂(b). All are medians of
rounds in which the sides take turns. `together` is a step of both at once that exchange nothing: what is lost there is
lost to the shared memory bus and to whatever else the machine does. The exchange efficiency, together over shared, is
what the exchange costs, and what the model speaks of: it knows no shared memory bus.

Model: efficiency = T / (T + max(0, T_ar - 0.7 T_bwd) + σ √(2 ln G)). T is a step alone, T_ar the all-reduce of the
gradients, of which 0.7 of the backward pass T_bwd can hide as much, σ the spread of step times, G the processes: all
wait for the slowest. σ √(2 ln G) bounds the mean of the slowest of G normal draws; for two the bound is 1.18 σ, the
mean 0.56 σ. For strong scaling T alone is divided by what a smaller batch costs per sample, T(2b) / 2 T(b).

Derived, not measured: the rows of 8 and 64 GPUs. T is 64 samples of 4,096 tokens at 35 % of the roofline of an H200
(benchmarks/limits.py), T_bwd two thirds of it, σ 1 % of it; gradients are fp32 and a ring sends 2 (G-1)/G of them per
GPU at 300 GB/s (NVLink, within a node), 50 GB/s (400 Gb/s InfiniBand per GPU) or 12.5 GB/s (100 Gb/s Ethernet).
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import Benchmark, median
from limits import counts, floor_gpu, parameters, vitiac
from scaling_pair import Case, Times

HIDDEN_IN_BACKWARD = 0.7
ROOFLINE_REACHED, SPREAD_OF_STEP = 0.35, 0.01
GPU_TOKENS, GPU_BATCH = 4096, 64
LINKS = ((8, "NVLink", 300e9), (64, "InfiniBand 400 Gb/s", 50e9), (64, "Ethernet 100 Gb/s", 12.5e9))
CASES = (
    Case(model="vitiac-xs", crop=(32, 96, 96), batch=2, rounds=21),
    Case(model="vitiac-s", crop=(32, 96, 96), batch=1, rounds=9),
)
QUICK = (Case(model="vitiac-xs", crop=(16, 32, 48), batch=1, rounds=3),)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the model is made of, in seconds."""

    alone: float
    backward: float
    all_reduce: float
    spread: float

    def shared(self, processes: int) -> float:
        """A step of that many processes with as many samples each."""
        exposed = max(0.0, self.all_reduce - HIDDEN_IN_BACKWARD * self.backward)
        return self.alone + exposed + self.spread * math.sqrt(2 * math.log(processes))

    def efficiency(self, processes: int) -> float:
        """Of weak scaling: 1 where others cost nothing."""
        return self.alone / self.shared(processes)


def run_pair(cases: tuple[Case, ...]) -> list[Times]:
    """Start two processes and read what they measured."""
    torchrun = Path(sys.executable).parent / "torchrun"
    script = Path(__file__).resolve().with_name("scaling_pair.py")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "times.json"
        command = [torchrun, "--standalone", "--nproc-per-node", "2", script]
        subprocess.run([*command, json.dumps([asdict(case) for case in cases]), out], check=True)
        return [Times(**found) for found in json.loads(out.read_text(encoding="utf-8"))]


def report_measured(bench: Benchmark, case: Case, times: Times) -> None:
    """Two rows and two ratios of a model: how much faster two processes are per sample, weak and strong."""
    step = Step(
        alone=median(times.alone),
        backward=median(times.backward),
        all_reduce=median(times.all_reduce),
        spread=statistics.stdev(times.alone),
    )
    weak = median(one / two for one, two in zip(times.alone, times.shared, strict=True))
    strong = median(one / two / 2 for one, two in zip(times.alone_double, times.shared, strict=True))
    exchange = median(one / two for one, two in zip(times.together, times.shared, strict=True))
    per_sample = median(times.alone_double) / 2 / step.alone
    for scaling, measured, factor in (("weak", weak, 1.0), ("strong", strong, per_sample)):
        bench.row(
            kind="measured",
            model=case.model,
            processes=2,
            link="gloo",
            scaling=scaling,
            step_ms=1e3 * step.alone,
            backward_ms=1e3 * step.backward,
            all_reduce_ms=1e3 * step.all_reduce,
            spread_ms=1e3 * step.spread,
            shared_ms=1e3 * median(times.shared),
            together_ms=1e3 * median(times.together),
            exchange_efficiency=exchange if scaling == "weak" else None,
            efficiency=measured,
            model_efficiency=step.efficiency(2) * factor,
        )
        bench.ratio(f"{case.model}_{scaling}_speedup_of_two", 2 * measured)


def gpu_step(size: str, processes: int, bytes_per_s: float) -> Step:
    """A derived step: see the head of this file."""
    shape = vitiac(size)
    alone = GPU_BATCH * floor_gpu(counts(shape, GPU_TOKENS)) / ROOFLINE_REACHED
    sent = 2 * (processes - 1) / processes * 4 * parameters(shape)
    return Step(alone=alone, backward=2 / 3 * alone, all_reduce=sent / bytes_per_s, spread=SPREAD_OF_STEP * alone)


def report_derived(bench: Benchmark) -> None:
    """A row per size and link."""
    for size in "SML":
        for processes, link, bytes_per_s in LINKS:
            step = gpu_step(size, processes, bytes_per_s)
            bench.row(
                kind="derived",
                model=f"vitiac-{size.lower()}",
                processes=processes,
                link=link,
                scaling="weak",
                step_ms=1e3 * step.alone,
                backward_ms=1e3 * step.backward,
                all_reduce_ms=1e3 * step.all_reduce,
                spread_ms=1e3 * step.spread,
                model_efficiency=step.efficiency(processes),
            )


def main(arguments: list[str] | None = None) -> None:
    """Measure two processes, then derive many."""
    bench = Benchmark.start(__doc__, __file__, arguments=arguments)
    cases = QUICK if bench.quick else CASES
    for case, times in zip(cases, run_pair(cases), strict=True):
        report_measured(bench, case, times)
    report_derived(bench)
    bench.facts["threads_per_process"] = 1
    bench.finish()


if __name__ == "__main__":
    main()
