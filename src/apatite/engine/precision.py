"""Device, number format and attention kernel: measured once per run, written down, then reused.

On a CPU without matrix units bf16 makes linear layers several times faster and attention slower; which mix wins
depends on the machine and on the head width. So a few real steps are timed and the fastest mix is kept in the run's
`config.yaml`. A resumed run reuses it and never measures again: what is chosen by timing must not change a result
half-way.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from apatite.core.errors import ConfigError
from apatite.nn.attention import AttentionKernel

Format = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How a run computes.

    Attributes:
        device: `cpu`, `cuda` or `mps`.
        format: Of the linear layers; weights, norms' statistics and losses stay fp32.
        attention_in_fp32: Attention scores in fp32 although the linear layers are in bf16.
        head_multiple: Heads are stored at a multiple of this width.
        threads: CPU threads.
    """

    device: str = "cpu"
    format: Format = "fp32"
    attention_in_fp32: bool = False
    head_multiple: int = 1
    threads: int = 1

    @property
    def name(self) -> str:
        """The mix in words."""
        attention = "+fp32 attention" if self.attention_in_fp32 else ""
        return f"{self.format}{attention}, heads x{self.head_multiple}"

    @property
    def kernel(self) -> AttentionKernel:
        """How modules compute attention."""
        return AttentionKernel(head_multiple=self.head_multiple, in_fp32=self.attention_in_fp32)

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which a forward pass runs."""
        if self.format == "fp32":
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)  # type: ignore[return-value]

    def apply_threads(self) -> None:
        """Use the recorded number of CPU threads: sums depend on it."""
        torch.set_num_threads(self.threads)


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}", fix="use auto, cpu, cuda or mps") from None
    if (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    ):
        raise ConfigError(f"there is no {device.type} device on this machine", fix="use auto or cpu")
    return device


def supports_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is done in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def candidates(device: torch.device) -> Iterator[Precision]:
    """The mixes worth timing on a device."""
    threads = torch.get_num_threads()
    formats: list[tuple[Format, bool]] = [("fp32", False)]
    if supports_bf16(device):
        formats.append(("bf16", False))
        if device.type == "cpu":
            formats.append(("bf16", True))
    for chosen, in_fp32 in formats:
        for multiple in (1, 16):
            yield Precision(
                device=str(device), format=chosen, attention_in_fp32=in_fp32, head_multiple=multiple, threads=threads
            )


def measure_precision(
    device: torch.device, make_step: Callable[[Precision], Callable[[], None]], repeats: int = 3
) -> tuple[Precision, dict[str, float]]:
    """Time a real training step in each mix and return the fastest, with all times.

    Args:
        device: Where the run will compute.
        make_step: From a mix, a function that does one step of this run's size.
        repeats: Timed steps per mix, after one to warm up; the fastest counts, since noise only adds.

    Returns:
        The fastest mix, and seconds per step of every mix.
    """
    seconds: dict[str, float] = {}
    best: tuple[float, Precision] | None = None
    for precision in candidates(device):
        step = make_step(precision)
        step()
        fastest = min(_timed(step, device) for _ in range(repeats))
        seconds[precision.name] = fastest
        if best is None or fastest < best[0]:
            best = (fastest, precision)
    assert best is not None
    return best[1], seconds


def _timed(step: Callable[[], None], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """Let the device finish what it was given: it computes while Python goes on."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if device.type == "mps":
        torch.mps.synchronize()
