"""One training step of a masked autoencoder, ViTiac-S on 32×96×96 voxels, against MONAI's `MaskedAutoEncoderViT`.

Both sides: encoder 240/12/12 with perceptrons of 960, decoder 120/8/12 with 480, 90 % hidden, one channel, the same
images, each patch's own normalisation as the target, the loss over hidden patches, forward, backward, fused AdamW,
fp32, the same threads. MONAI has a class token more and predicts visible patches too; that is its method, 1 of 577
tokens and less than 1 % of the operations. Ours is timed in the mix of kernels that a run would choose among those of
fp32, and once more in the fastest of all, which includes bf16 linear layers (MONAI's fails under bf16 autocast).
Sides take turns; a ratio is the median over rounds. Memory is the peak of a fresh process that does two steps, less
what it held before the first. The limit is the roofline of benchmarks/limits.py with the products, streams and
exponentials that this machine did in this run, plus the traffic of AdamW.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from apatite.data.batches import Batch
from apatite.data.hiding import num_visible
from apatite.engine.optim import OptimConfig, build_optimizer
from apatite.engine.precision import Precision, candidates, measure_precision
from apatite.losses.reconstruction import normalise_patches
from apatite.nn.models import model_size
from apatite.nn.patches import patchify
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask
from harness import Benchmark, Limits, compare, median, peak_memory, ratio_of
from limits import bytes_updated, counts, floor_cpu, vitiac

CROP = (32, 96, 96)
WINDOW_HU = (-1024.0, 3071.0)
OPTIM = OptimConfig()
CASES = ((8, 1, 7), (8, 8, 5), (4, 1, 3))
"""Patch edge, batch, rounds. A step of MONAI at 4,608 tokens takes many seconds, and a batch of 8 no memory has."""
Step = Callable[[], torch.Tensor]


def images_hu(batch: int) -> torch.Tensor:
    """Anything: the time of a step does not depend on what is in the image."""
    return torch.randn(batch, 1, *CROP, generator=torch.Generator().manual_seed(0)) * 300


def our_task(patch: int, precision: Precision) -> PretrainTask:
    """The package's own task, with one window so that both sides see one channel."""
    torch.manual_seed(0)
    size = model_size("vitiac-s")
    encoder = size.encoder(crop=CROP, patch=(patch,) * 3, windows_hu=(WINDOW_HU,))
    return PretrainTask(METHODS["mae"], Shapes(encoder=encoder, decoder=size.decoder), precision.kernel, 0, steps=1)


def our_step(patch: int, batch: int, precision: Precision) -> Step:
    """A step as the training loop does it."""
    task = our_task(patch, precision)
    optimizer = build_optimizer(task, OPTIM)
    seen = Batch(case_ids=tuple(map(str, range(batch))), images_hu=images_hu(batch))

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with precision.autocast():
            loss = sum(task.losses(seen, 0).values())
        loss.backward()
        optimizer.step()
        return loss

    return step


def monai_network(patch: int) -> torch.nn.Module:
    """The peer with the same dimensions."""
    from monai.networks.nets.masked_autoencoder_vit import MaskedAutoEncoderViT

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls meshgrid in a way that torch has announced to end
        return MaskedAutoEncoderViT(
            in_channels=1,
            img_size=CROP,
            patch_size=(patch,) * 3,
            hidden_size=240,
            mlp_dim=960,
            num_layers=12,
            num_heads=12,
            masking_ratio=METHODS["mae"].hiding.ratio,
            decoder_hidden_size=120,
            decoder_mlp_dim=480,
            decoder_num_layers=8,
            decoder_num_heads=12,
            qkv_bias=True,
        )


def monai_step(patch: int, batch: int) -> Step:
    """The same step with the peer."""
    network = monai_network(patch)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=OPTIM.lr, betas=OPTIM.betas, weight_decay=OPTIM.weight_decay, fused=True
    )
    low, high = WINDOW_HU
    image = (images_hu(batch).clamp(low, high) - low) * 2 / (high - low) - 1

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        predicted, is_hidden = network(image)
        target = normalise_patches(patchify(image, (patch,) * 3), 1)
        loss = ((predicted - target).square().mean(dim=-1) * is_hidden).sum() / is_hidden.sum()
        loss.backward()
        optimizer.step()
        return loss

    return step


def check_equal_work(patch: int) -> None:
    """Both sides hide as many patches, predict as many voxels and learn about as many weights."""
    tokens = our_task(patch, Precision()).encoder.config.num_tokens
    network = monai_network(patch)
    with torch.inference_mode():
        chosen = network._masking(torch.zeros(1, tokens, 240))[2]
    assert int(chosen.sum()) == tokens - num_visible(tokens, METHODS["mae"].hiding.ratio)
    learned = [
        sum(w.numel() for w in side.parameters() if w.requires_grad) for side in (network, our_task(patch, Precision()))
    ]
    assert abs(learned[0] / learned[1] - 1) < 0.03, learned


def floor_s(patch: int, limits: Limits) -> tuple[float, float]:
    """Seconds per sample, and per step for the optimiser."""
    shape = vitiac("S", patch**3)
    tokens = (CROP[0] * CROP[1] * CROP[2]) // patch**3
    count = counts(shape, tokens, visible=num_visible(tokens, METHODS["mae"].hiding.ratio))
    return floor_cpu(count, limits.gemm_fp32, limits.stream, limits.exps), bytes_updated(shape) / limits.stream


def choose_mixes(quick: bool) -> dict[str, Precision]:
    """What a run of this size would choose: among fp32, and among all."""
    cpu = torch.device("cpu")
    best, seconds = measure_precision(cpu, partial(our_step, 8, 1), repeats=2 if quick else 5)
    in_fp32 = min((mix for mix in candidates(cpu) if mix.format == "fp32"), key=lambda mix: seconds[mix.name])
    return {"ours": in_fp32, "ours, best dtype": best}


def measure(bench: Benchmark, case: tuple[int, int, int], mixes: dict[str, Precision], has_peer: bool) -> None:
    """One size: rows, ratios, memory."""
    patch, batch, rounds = case
    tokens = (CROP[0] * CROP[1] * CROP[2]) // patch**3
    name = f"{tokens}_tokens_batch{batch}"
    makers: dict[str, Callable[..., Step]] = dict.fromkeys(mixes, our_step)
    arguments: dict[str, tuple[Any, ...]] = {side: (patch, batch, mix) for side, mix in mixes.items()}
    if has_peer:
        makers["MONAI"], arguments["MONAI"] = monai_step, (patch, batch)
    memory = {side: peak_memory(makers[side], *arguments[side], threads=bench.threads) for side in makers}
    fitting = [side for side in makers if memory[side] is not None]
    seconds = compare({side: makers[side](*arguments[side]) for side in fitting}, 1 if bench.quick else rounds)
    forward_s, update_s = floor_s(patch, bench.limits)
    for side in makers:
        taken, held = seconds.get(side), memory[side]
        bench.row(
            tokens=tokens,
            batch=batch,
            side=side,
            kernels=mixes[side].name if side in mixes else "fp32, its own",
            ms_per_sample=1e3 * median(taken) / batch if taken else None,
            samples_per_s=batch / median(taken) if taken else None,
            peak_MiB_added=held.added_bytes / 2**20 if held else None,
            times_faster_than_MONAI=ratio_of(seconds, "MONAI", side) if taken and "MONAI" in seconds else None,
            limit_fraction=(batch * forward_s + update_s) / median(taken) if taken and side == "ours" else None,
            rounds=len(taken) if taken else 0,
            note="" if held else "did not fit in memory",
        )
    ours, theirs = memory["ours"], memory.get("MONAI")
    if "MONAI" in seconds and "ours" in seconds:
        bench.ratio(name, ratio_of(seconds, "MONAI"))
        bench.ratio(f"{name}_best_dtype", ratio_of(seconds, "MONAI", "ours, best dtype"))
    if ours and theirs:
        bench.ratio(f"{name}_memory", theirs.added_bytes / ours.added_bytes)


def main(arguments: list[str] | None = None) -> None:
    """All sizes."""
    bench = Benchmark.start(
        __doc__,
        __file__,
        packages=("monai", "numba", "numpy"),
        arguments=arguments,
        options=lambda parser: parser.add_argument(
            "--patch", type=int, nargs="*", help="only these patch edges (default 8 and 4; --quick: 8)"
        ),
    )
    try:
        check_equal_work(8)
        has_peer = True
    except ImportError:
        has_peer = False
        bench.skip("MONAI", "not installed")
    mixes = {name: replace(mix, threads=bench.threads) for name, mix in choose_mixes(bench.quick).items()}
    patches = bench.options.patch or ((8,) if bench.quick else (8, 4))
    for case in CASES:
        if case[0] in patches and not (bench.quick and case[1] > 1):
            measure(bench, case, mixes, has_peer)
    bench.finish()


if __name__ == "__main__":
    main()
