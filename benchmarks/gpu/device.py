"""The one place that knows the device: which it is, waiting for it, its memory, its limits, and how much time is left.

Without a GPU every row still runs, on the CPU and at toy size, and its result says so.
"""

import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harness import FOLDER, Benchmark, median_of
from limits import GPU_EXPS_PER_CLOCK, Gpu

MATRIX = 8192
STREAM_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU, or the CPU at toy size.

    Attributes:
        name: As torch writes it: `cuda` or `cpu`.
        label: In the name of the result: `nvidia-h200`.
        deadline: When to stop, by `time.monotonic`.
    """

    name: str
    label: str
    deadline: float

    @property
    def is_toy(self) -> bool:
        """Whether this only shows that the script runs."""
        return self.name == "cpu"

    @property
    def has_time(self) -> bool:
        """Whether another measurement may begin."""
        return time.monotonic() < self.deadline

    @property
    def memory_bytes(self) -> int:
        """All memory of the GPU."""
        return torch.cuda.get_device_properties(0).total_memory

    def wait(self) -> None:
        """Let the device finish what it was given."""
        if not self.is_toy:
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give back memory that torch keeps for later."""
        if not self.is_toy:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def limits(self) -> Gpu:
        """Measured products and streams, exponentials from the clock; for a toy, an H200's as published."""
        if self.is_toy:
            return Gpu()
        facts = torch.cuda.get_device_properties(0)
        # Kilohertz; older versions of torch do not tell.
        clock_hz = getattr(facts, "clock_rate", 1.83e6) * 1e3
        exps = GPU_EXPS_PER_CLOCK * facts.multi_processor_count * clock_hz
        return Gpu(flops=self._gemm_flops(), stream=self._stream_bytes(), exps=exps)

    def _gemm_flops(self) -> float:
        a, b = (torch.randn(MATRIX, MATRIX, device=self.name, dtype=torch.bfloat16) for _ in range(2))
        return 2 * MATRIX**3 / median_of(lambda: a @ b, repeats=20, wait=self.wait)

    def _stream_bytes(self) -> float:
        source = torch.ones(STREAM_BYTES // 4, device=self.name)
        target = torch.empty_like(source)
        return 2 * STREAM_BYTES / median_of(lambda: target.copy_(source), repeats=20, wait=self.wait)


def start(
    about: str | None, script: str, packages: tuple[str, ...], arguments: list[str] | None
) -> tuple[Benchmark, Device]:
    """Read the command line, and find the device; the result's name carries the device's."""
    bench = Benchmark.start(about, script, packages=packages, arguments=arguments, options=_options)
    name = "cuda" if torch.cuda.is_available() and not bench.options.cpu else "cpu"
    label = "cpu" if name == "cpu" else torch.cuda.get_device_name().lower().replace(" ", "-")
    device = Device(name=name, label=label, deadline=time.monotonic() + 60 * bench.options.minutes)
    if bench.options.out is None and not bench.quick:
        bench.options.out = FOLDER / "results" / f"{bench.name}-{label}.json"
    bench.facts |= {"device": label, "toy": device.is_toy, "minutes": bench.options.minutes}
    return bench, device


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=8, help="begin no new measurement after this (default 8)")
    parser.add_argument("--cpu", action="store_true", help="toy size on the CPU although there is a GPU")


def fits(function: Callable[[], Any], device: Device) -> bool:
    """Do it, unless the memory of the GPU does not suffice."""
    did_fit = True
    try:
        function()
        device.wait()
    except torch.OutOfMemoryError:
        did_fit = False
    # Only here: until now the exception held the tensors of the frames it came through.
    device.free()
    return did_fit


def peak_bytes(function: Callable[[], Any], device: Device) -> int:
    """The most memory that tensors held on the GPU meanwhile."""
    device.free()
    torch.cuda.reset_peak_memory_stats()
    function()
    device.wait()
    return torch.cuda.max_memory_allocated()
