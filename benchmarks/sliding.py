"""A large volume through a small network: the package's sliding window against MONAI's, 230×230×160, windows of 64³.

What is measured is the engine around the network: cutting windows, blending, memory. The network is one cheap 3×3×3
convolution (`conv`), or none at all, the window handed back once per label (`copy`). Windows overlap by half and are
blended by the same Gaussian on both sides; the script stops with an error when the results differ by more than 1e-5.
Batches of 1, 4 and 8 windows are tried for both. Peak memory is measured in a fresh process and counts what the run
adds to the input; `ours_slabs` keeps only the likeliest label of each voxel, slab by slab, as a prediction of many
labels does. The limit moves each window's voxels three times, in and out.
"""

import warnings
from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from apatite.segment.sliding import SlidingConfig, slabs, slide, window_starts
from harness import Benchmark, compare, median, peak_memory, ratio_of

SHAPE = (160, 230, 230)
ROI = 64
OVERLAP = 0.5
LABELS = 4
TOLERANCE = 1e-5
Side = Callable[[], object]


def main(arguments: list[str] | None = None) -> None:
    bench = Benchmark.start(__doc__, __file__, packages=("monai",), arguments=arguments)
    shape, roi = ((48, 70, 80), 32) if bench.quick else (SHAPE, ROI)
    windows = prod(len(window_starts(edge, roi, OVERLAP)) for edge in shape)
    bytes_moved = windows * roi**3 * (1 + LABELS) * 4 * 3
    for network, batch in (("conv", 4),) if bench.quick else (("conv", 1), ("conv", 4), ("conv", 8), ("copy", 4)):
        sides = {name: make(shape, roi, batch, network) for name, make in available(bench).items()}
        refuse_different(sides)
        seconds = compare(sides, repeats=3 if bench.quick else 5)
        for side, times in seconds.items():
            memory = (
                None if bench.quick else peak_memory(MAKERS[side], shape, roi, batch, network, threads=bench.threads)
            )
            bench.row(
                network=network,
                windows=windows,
                batch=batch,
                side=side,
                seconds=median(times),
                time_over_ours=ratio_of(seconds, side),
                added_mib=memory and memory.added_bytes / 2**20,
                limit_fraction=None if bench.quick else bytes_moved / bench.limits.stream / median(times),
            )
        if "monai" in seconds:
            bench.ratio(f"{network}_batch{batch}", ratio_of(seconds, "monai"))
    if not bench.quick and not bench.skipped:
        memory_ratio(bench, shape, roi)
    bench.facts |= {"shape": list(shape), "roi": roi, "overlap": OVERLAP, "labels": LABELS}
    bench.finish()


def memory_ratio(bench: Benchmark, shape: tuple[int, int, int], roi: int) -> None:
    """Peak memory of MONAI over ours, both keeping the result in memory, and of our slabs."""
    sides = {name: peak_memory(make, shape, roi, 4, "conv", threads=bench.threads) for name, make in MAKERS.items()}
    own = sides["ours"]
    assert own is not None
    for name, memory in sides.items():
        if name != "ours" and memory is not None:
            bench.ratio(f"memory_{name}", memory.added_bytes / own.added_bytes)


def make_input(shape: tuple[int, int, int], network: str) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The same volume and the same weights for every side."""
    torch.manual_seed(0)
    convolution = nn.Conv3d(1, LABELS, 3, padding=1).eval()
    image = torch.randn(1, 1, *shape)
    return image, convolution if network == "conv" else lambda windows: windows.repeat(1, LABELS, 1, 1, 1)


def ours(shape: tuple[int, int, int], roi: int, batch: int, network: str) -> Side:
    """The result in memory, as MONAI's."""
    image, model = make_input(shape, network)
    config = SlidingConfig(crop=(roi,) * 3, overlap=OVERLAP, batch=batch)

    @torch.inference_mode()
    def work() -> Tensor:
        return torch.from_numpy(slide(image, model, config))

    return work


def ours_slabs(shape: tuple[int, int, int], roi: int, batch: int, network: str) -> Side:
    """The likeliest label of every voxel: only one crop-depth of blended values is ever in memory."""
    image, model = make_input(shape, network)
    config = SlidingConfig(crop=(roi,) * 3, overlap=OVERLAP, batch=batch)

    @torch.inference_mode()
    def work() -> Tensor:
        return torch.cat([slab.values.argmax(0).to(torch.uint8) for slab in slabs(image, model, config)])

    return work


def monai(shape: tuple[int, int, int], roi: int, batch: int, network: str) -> Side:
    """Its inferer with the same weights of the windows."""
    from monai.inferers.utils import sliding_window_inference

    image, model = make_input(shape, network)

    @torch.inference_mode()
    def work() -> Tensor:
        return sliding_window_inference(image, roi, batch, model, overlap=OVERLAP, mode="gaussian")[0]

    return work


MAKERS = {"ours": ours, "ours_slabs": ours_slabs, "monai": monai}


def available(bench: Benchmark) -> dict[str, Callable[..., Side]]:
    """All sides whose package is installed."""
    try:
        import monai.inferers  # noqa: F401
    except ImportError:
        bench.skip("monai", "not installed")
        return {name: make for name, make in MAKERS.items() if name != "monai"}
    return MAKERS


def refuse_different(sides: dict[str, Side]) -> None:
    """A benchmark of different answers is worth nothing."""
    expected = sides["ours"]()
    if not torch.equal(sides["ours_slabs"](), expected.argmax(0)):
        raise RuntimeError("the slabs differ from the whole")
    if "monai" in sides:
        worst = float((sides["monai"]() - expected).abs().max())
        if worst > TOLERANCE:
            raise RuntimeError(f"MONAI differs from ours by {worst:.2g}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the peers' own
    main()
