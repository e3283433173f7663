"""Device, number format and attention kernel: measured once per run, written down, then reused.

On a CPU without matrix units bf16 makes linear layers faster and torch's attention slower; our own attention and
oneDNN's products may or may not beat torch's. Which mix wins depends on the machine and on the head width, so a few
real steps are timed and the fastest mix is kept in the run's `config.yaml`. A resumed run reuses it and never measures
again: what is chosen by timing must not change a result half-way.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch

from apatite.core.errors import ConfigError
from apatite.nn.attention import AttentionKernel
from apatite.nn.linear import has_onednn

Format = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How a run computes.

    Attributes:
        device: `cpu`, `cuda` or `mps`.
        format: Of the linear layers; weights, norms' statistics and losses stay fp32.
        attention_in_fp32: Attention scores in fp32 although the linear layers are in bf16.
        head_multiple: Heads are stored at a multiple of this width.
        compiled_attention: Attention by the package's own kernel for CPUs, always in fp32.
        onednn_linear: Linear layers in fp32 by oneDNN.
        threads: CPU threads.
    """

    device: str = "cpu"
    format: Format = "fp32"
    attention_in_fp32: bool = False
    head_multiple: int = 1
    compiled_attention: bool = False
    onednn_linear: bool = False
    threads: int = 1

    @property
    def name(self) -> str:
        """The mix in words."""
        attention = "+fp32 attention" if self.attention_in_fp32 else ""
        heads = "compiled attention" if self.compiled_attention else f"heads x{self.head_multiple}"
        return f"{self.format}{attention}, {heads}{', oneDNN' if self.onednn_linear else ''}"

    @property
    def kernel(self) -> AttentionKernel:
        """How modules compute attention."""
        return AttentionKernel(
            head_multiple=self.head_multiple,
            in_fp32=self.attention_in_fp32,
            compiled=self.compiled_attention,
            by_onednn=self.onednn_linear,
        )

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
    plain = Precision(device=str(device), threads=torch.get_num_threads())
    is_cpu = device.type == "cpu"
    formats = [plain]
    if supports_bf16(device):
        formats.append(replace(plain, format="bf16"))
        if is_cpu:
            formats.append(replace(plain, format="bf16", attention_in_fp32=True))
    for chosen in formats:
        yield chosen
        yield replace(chosen, head_multiple=16)
    if is_cpu:
        by_onednn = has_onednn()
        if by_onednn:
            yield replace(plain, head_multiple=16, onednn_linear=True)
        for chosen in formats[:2]:
            # In bf16 torch uses oneDNN by itself.
            is_onednn = by_onednn and chosen.format == "fp32"
            yield replace(chosen, compiled_attention=True, onednn_linear=is_onednn)


def carried_over(precision: Precision, device: torch.device) -> Precision:
    """A run's mix on another machine: what that has of it, with the threads it offers.

    Number format and padding stay, whatever would be fastest there: moments in a checkpoint have the stored shapes.
    """
    is_cpu = device.type == "cpu"
    return replace(
        precision,
        device=str(device),
        threads=torch.get_num_threads(),
        compiled_attention=precision.compiled_attention and is_cpu,
        onednn_linear=precision.onednn_linear and is_cpu and has_onednn(),
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
