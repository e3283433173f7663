"""What a figure was measured on, and what that machine could do at best: matrix products, streams, exponentials."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from numba import njit, types
from numba.extending import intrinsic

from apatite.core.cores import num_cores
from apatite.nn.linear import has_onednn
from apatite.nn.vectors import VECTOR, Vectors

MATRIX = 1536
"""Edge of the matrices multiplied: large enough to hide a call, small enough for 0.1 s on one core."""
STREAM_BYTES = 1 << 28
EXPONENTIALS = 1 << 13
"""Small enough to stay in the first-level cache of one core, so that no memory is measured."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The best this machine did in this run, with the threads of this run.

    Attributes:
        gemm_fp32, gemm_bf16: Floating-point operations per second of a large matrix product.
        stream: Bytes read plus bytes written per second when copying.
        exps: fp32 exponentials per second, data in cache; of one thread, times the threads.
    """

    gemm_fp32: float
    gemm_bf16: float
    stream: float
    exps: float


def describe_machine() -> dict[str, str | int | float]:
    """CPU, cores that this process may use, memory, system, and the accelerator if there is one."""
    found: dict[str, str | int | float] = {
        "cpu": _cpu_model(),
        "cores": num_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name()
    return found


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of the packages compared; one that is not installed is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def measure_limits(repeats: int = 7) -> Limits:
    """Micro-benchmarks of a few seconds; the fastest of the repeats counts, since noise only slows down.

    Args:
        repeats: Of each.
    """
    return Limits(
        gemm_fp32=_gemm_flops(torch.float32, repeats),
        gemm_bf16=_gemm_flops(torch.bfloat16, repeats),
        stream=_stream_bytes(repeats),
        exps=_exps(repeats),
    )


def _gemm_flops(format_: torch.dtype, repeats: int) -> float:
    """The better of torch's own library and oneDNN: on some processors one of them uses half of the machine."""
    a, b = torch.randn(MATRIX, MATRIX).to(format_), torch.randn(MATRIX, MATRIX).to(format_)
    out = torch.empty_like(a)
    seconds = _fastest(lambda: torch.mm(a, b, out=out), repeats)
    if has_onednn():
        layer = torch.ops.mkldnn._linear_pointwise
        seconds = min(seconds, _fastest(lambda: layer(a, b, None, "none", [], ""), repeats))
    return 2 * MATRIX**3 / seconds


def _stream_bytes(repeats: int) -> float:
    source = torch.ones(STREAM_BYTES // 4)
    target = torch.zeros_like(source)
    return 2 * STREAM_BYTES / _fastest(lambda: target.copy_(source), repeats)


def _exps(repeats: int) -> float:
    """Powers of two by the package's own vector operations, which are faster than torch's exponential."""
    numbers = np.linspace(-20, 0, EXPONENTIALS, dtype=np.float32).reshape(-1, VECTOR)
    one = EXPONENTIALS / _fastest(lambda: _exponentiate(numbers), repeats)
    return one * torch.get_num_threads()


@intrinsic
def _exp2_in_place(_, numbers):
    def build(context, builder, signature, values):
        write = Vectors(context, builder)
        (place,) = write.pointers(signature.args, values)
        write.store(write.exp2(write.load(place, write.number(0), 0)), place, write.number(0), 0)
        return context.get_dummy_value()

    return types.void(numbers), build


@njit
def _exponentiate(rows):
    for row in rows:
        _exp2_in_place(row)


def _fastest(function: Callable[[], object], repeats: int) -> float:
    function()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def _cpu_model() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
