"""Attention alone, forward and backward in bf16: 12 heads of width 10, 20, 40 over 4,096 and 8,192 tokens.

`ours` is what the package's attention module calls: torch's fused attention on heads stored at a multiple of 16, with
the scale of the true width, whatever backend torch then takes. `flash` is torch's flash kernel at the true width (it
pads in every call), `efficient` its memory-efficient kernel, `cudnn` cuDNN's on widths padded to a multiple of 8,
`flex` a compiled FlexAttention on widths padded to a power of two. Every side's output and gradients must agree with a
plain fp32 softmax, or the script stops. T scores/s counts batch × heads × tokens² once for forward and backward
together; the limit is the slower of 14 operations per score and channel on the tensor cores and of two exponentials per
score. Without a GPU: 256 tokens, width 10, fp32, torch's CPU kernel alone.
"""

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from device import Device, start
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness import Benchmark, compare, median, ratio_of
from limits import Gpu

HEADS = 12
BATCH = 4
CALLS = 4
"""Calls per timing, so that a launch is not what is measured."""
TOLERANCE = 0.05
"""Of the largest value, in bf16."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One kernel: what heads are padded to, and the call itself, given the scale."""

    multiple: int
    mix: Callable[..., Tensor]
    backend: SDPBackend | None = None
    power_of_two: bool = False

    def width(self, head_width: int) -> int:
        """The stored width."""
        if self.power_of_two:
            return max(16, 1 << (head_width - 1).bit_length())
        return -(-head_width // self.multiple) * self.multiple


def main(arguments: list[str] | None = None) -> None:
    bench, device = start(__doc__, __file__, (), arguments)
    limits = device.limits()
    sizes = [(10, 256)] if device.is_toy else [(width, tokens) for tokens in (4096, 8192) for width in (10, 20, 40)]
    for width, tokens in sizes:
        if device.has_time:
            measure(bench, device, limits, (width, tokens))
        else:
            bench.skip(f"width {width}, {tokens} tokens", "no time left")
    bench.finish()


def measure(bench: Benchmark, device: Device, limits: Gpu, size: tuple[int, int]) -> None:
    """Every way that this device and this torch have."""
    width, tokens = size
    sides: dict[str, Callable[[], object]] = {}
    kernels = ways(device)
    for name, way in kernels.items():
        try:
            refuse_different(name, way, device, width)
            sides[name] = work(way, device, width, tokens)
            sides[name]()
        except RuntimeError as error:
            if str(error).startswith("differs"):
                raise
            sides.pop(name, None)
            bench.skip(f"{name}, width {width}, {tokens} tokens", str(error).splitlines()[0][:120])
    seconds = compare(sides, 2 if device.is_toy else 9, wait=device.wait)
    scores = BATCH * HEADS * tokens**2 * CALLS
    limit = min(limits.flops / (14 * width), limits.exps / 2)
    for side, times in seconds.items():
        rate = scores / median(times)
        bench.row(
            head_width=width,
            tokens=tokens,
            side=side,
            stored_width=kernels[side].width(width),
            ms=1e3 * median(times) / CALLS,
            tera_scores_per_s=rate / 1e12,
            time_over_ours=ratio_of(seconds, side),
            limit_fraction=None if device.is_toy else rate / limit,
        )
        if side != "ours":
            bench.ratio(f"width{width}_{tokens}_tokens_{side}", ratio_of(seconds, side))


def ways(device: Device) -> dict[str, Way]:
    """All kernels by name."""
    fused = functional.scaled_dot_product_attention
    if device.is_toy:
        return {"ours": Way(multiple=16, mix=fused), "unpadded": Way(multiple=1, mix=fused)}
    return {
        "ours": Way(multiple=16, mix=fused),
        "flash": Way(multiple=1, mix=fused, backend=SDPBackend.FLASH_ATTENTION),
        "efficient": Way(multiple=8, mix=fused, backend=SDPBackend.EFFICIENT_ATTENTION),
        "cudnn": Way(multiple=8, mix=fused, backend=SDPBackend.CUDNN_ATTENTION),
        "flex": Way(multiple=16, mix=compiled_flex(), power_of_two=True),
    }


def compiled_flex() -> Callable[..., Tensor]:
    """FlexAttention without a mask, compiled for each shape."""
    from torch.nn.attention.flex_attention import flex_attention

    compiled = torch.compile(flex_attention, dynamic=False)

    def mix(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        return compiled(q, k, v, scale=scale)

    return mix


def attend(way: Way, heads: tuple[Tensor, Tensor, Tensor], head_width: int) -> Tensor:
    """Call a kernel with the scale of the true width, on its backend."""
    scale = head_width**-0.5
    if way.backend is None:
        return way.mix(*heads, scale=scale)
    with sdpa_kernel(way.backend):
        return way.mix(*heads, scale=scale)


def work(way: Way, device: Device, width: int, tokens: int) -> Callable[[], object]:
    """Forward and backward, a few times."""
    heads = make_heads(way, device, width, tokens)
    gradient = torch.randn_like(heads[0])

    def several() -> None:
        for _ in range(CALLS):
            torch.autograd.grad(attend(way, heads, width), heads, gradient)

    return several


def make_heads(way: Way, device: Device, width: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys, values at the stored width, zero beyond the true one."""
    torch.manual_seed(0)
    dtype = torch.float32 if device.is_toy else torch.bfloat16
    extra = way.width(width) - width
    made = []
    for _ in range(3):
        # Drawn on the CPU at the true width: every way then sees the same numbers.
        true = torch.randn(BATCH, HEADS, tokens, width).to(device.name, dtype)
        made.append(functional.pad(true, (0, extra)).contiguous().requires_grad_())
    return made[0], made[1], made[2]


def refuse_different(name: str, way: Way, device: Device, width: int) -> None:
    """A benchmark of different answers is worth nothing: output and gradients against a plain softmax in fp32."""
    heads = make_heads(way, device, width, 128)
    out = attend(way, heads, width)
    found = [out, *torch.autograd.grad(out.float().square().sum(), heads)]
    plain = [part.detach().float()[..., :width].requires_grad_() for part in heads]
    expected_out = (plain[0] @ plain[1].transpose(-1, -2) * width**-0.5).softmax(-1) @ plain[2]
    expected = [expected_out, *torch.autograd.grad(expected_out.square().sum(), plain)]
    for one, other in zip(found, expected, strict=True):
        worst = float((one.float()[..., :width] - other).abs().max() / other.abs().max())
        if worst > TOLERANCE:
            raise RuntimeError(f"differs: {name} at width {width} by {worst:.2g}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
