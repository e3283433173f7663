"""One region through a fine-tuned network: ViTiac-S with its MAE decoder against the same network of timm's blocks.

Nothing is hidden any more, so the encoder sees all tokens: 64×64×64 and 32×96×96 voxels in patches of 8 (512 and 576
tokens), and 64×64×64 in patches of 4 (4,096). The timm side has our weights in its own blocks (attention through
torch's fused kernel), and the script stops when the logits differ. Ours stores its heads as the package would after
measuring them on this machine. Rows: fp32 on both sides, then the fastest mix of formats of ours against timm's fastest
of fp32 and bf16. MONAI's UNETR with its usual patch of 16 is there for context: another network, with 64 or 72 tokens.
The limit is the roofline of `limits.py` for one forward pass in fp32.
"""

import warnings
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from apatite.core.types import Edges
from apatite.engine.precision import Precision, candidates
from apatite.nn.models import model_size
from apatite.segment.model import Segmenter, SegmenterConfig
from harness import Benchmark, compare, median, ratio_of, timed
from limits import counts, floor_cpu, vitiac
from timm_blocks import TimmSegmenter

MODEL = "vitiac-s"
WINDOW_HU = (-1024.0, 3071.0)
TOLERANCE = 1e-3
CASES = (((64, 64, 64), 8), ((32, 96, 96), 8), ((64, 64, 64), 4))
"""Region and patch; the last has 4,096 tokens, where a pass of the slower sides takes ten seconds."""
Side = Callable[[], Tensor]


def main(arguments: list[str] | None = None) -> None:
    bench = Benchmark.start(__doc__, __file__, packages=("timm", "monai", "torchvision"), arguments=arguments)
    for crop, patch in (((16, 32, 48), 8),) if bench.quick else CASES:
        measure(bench, crop, patch)
    bench.finish()


def measure(bench: Benchmark, crop: Edges, patch: int) -> None:
    """All sides on one size of region and patch."""
    torch.manual_seed(0)
    image = torch.randn(1, 1, *crop) * 300
    config = SegmenterConfig(
        encoder=model_size(MODEL).encoder(crop=crop, patch=(patch,) * 3, windows_hu=(WINDOW_HU,)), num_labels=1
    )
    plain = config.build().eval()
    ranked = by_speed(plain, image)
    best, fp32 = ranked[0], next(mix for mix in ranked if mix.format == "fp32")
    fp32_sides = {"ours": ours(plain, image, fp32)} | peers(bench, plain, image, crop, bench.quick)
    refuse_different(fp32_sides)
    kind = f"{'x'.join(map(str, crop))}_patch{patch}"
    report(bench, f"{kind}_fp32", config, fp32_sides, fp32)
    best_sides = {"ours": ours(plain, image, best)}
    if "timm" in fp32_sides:
        best_sides["timm"] = quicker(fp32_sides["timm"], in_bf16(fp32_sides["timm"]))
    report(bench, f"{kind}_best", config, best_sides, best)


def report(bench: Benchmark, kind: str, config: SegmenterConfig, sides: dict[str, Side], mix: Precision) -> None:
    """Time all sides in turn; one row each."""
    tokens, values = config.encoder.num_tokens, config.encoder.patch_voxels
    count = counts(vitiac("S", values), tokens, hidden_ratio=0)
    limit = floor_cpu(count, bench.limits.gemm_fp32, bench.limits.stream, bench.limits.exps, train=False)
    with torch.inference_mode():
        seconds = compare(sides, repeats=3 if bench.quick else 5)
    for side, times in seconds.items():
        is_ours = side == "ours"
        bench.row(
            region=kind,
            tokens=tokens if not side.startswith("unetr") else tokens * values // 16**3,
            side=side,
            computed_in=mix.name if is_ours else None,
            ms=1e3 * median(times),
            time_over_ours=ratio_of(seconds, side),
            limit_fraction=None if side.startswith("unetr") else limit / median(times),
        )
        if not is_ours:
            bench.ratio(f"{kind}_{side}", ratio_of(seconds, side))


def ours(plain: Segmenter, image: Tensor, mix: Precision) -> Side:
    """The same weights, stored and computed as a mix wants it."""
    model = plain.config.build(mix.kernel).eval()
    model.load_state_dict(plain.state_dict(), strict=True)

    def work() -> Tensor:
        with mix.autocast():
            return model(image)

    return work


def by_speed(plain: Segmenter, image: Tensor) -> list[Precision]:
    """The mixes among which the package would choose on this machine, the fastest first."""
    seconds: list[tuple[float, Precision]] = []
    with torch.inference_mode():
        for mix in candidates(torch.device("cpu")):
            side = ours(plain, image, mix)
            side()
            seconds.append((timed(side), mix))
    return [mix for _, mix in sorted(seconds, key=lambda pair: pair[0])]


def peers(bench: Benchmark, plain: Segmenter, image: Tensor, crop: Edges, is_small: bool) -> dict[str, Side]:
    """Those that are installed."""
    sides: dict[str, Side] = {}
    try:
        timm = TimmSegmenter(plain).eval()
        sides["timm"] = lambda: timm(image)
    except ImportError as error:
        bench.skip("timm", str(error))
    try:
        unetr = monai_unetr(crop)
        if not is_small:
            sides["unetr_patch16"] = lambda: unetr(image)
    except ImportError:
        bench.skip("monai", "not installed")
    return sides


def monai_unetr(crop: Edges) -> nn.Module:
    """Its encoder at our width, its decoder at its default width."""
    from monai.networks.nets import UNETR

    return UNETR(1, 1, crop, feature_size=16, hidden_size=240, mlp_dim=960, num_heads=12).eval()


def in_bf16(side: Side) -> Side:
    """The same under autocast."""

    def work() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return side()

    return work


def quicker(one: Side, other: Side) -> Side:
    """The faster of two, so that the peer has its best format too."""
    with torch.inference_mode(), nullcontext():
        one(), other()
        return min((one, other), key=timed)


def refuse_different(sides: dict[str, Side]) -> None:
    """A benchmark of different answers is worth nothing."""
    if "timm" not in sides:
        return
    with torch.inference_mode():
        worst = float((sides["ours"]() - sides["timm"]()).abs().max())
    if worst > TOLERANCE:
        raise RuntimeError(f"the logits differ by {worst:.2g}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the peers' own
    main()
