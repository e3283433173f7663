"""One training step of a masked autoencoder (forward, backward, AdamW), ours and two peers', at the same sizes.

MONAI's network cannot run under bf16 autocast (it writes bf16 tokens into an fp32 tensor), so it is given the better
deal: all of its weights in bf16. The timm side is what a careful user would write by hand: torch's fused attention,
autocast, and torch.compile on a GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from apatite.core.types import Edges
from apatite.data.batches import Batch
from apatite.data.hiding import HidingLaw
from apatite.engine.precision import Precision, candidates
from apatite.nn.models import ModelSize, model_size
from apatite.nn.patches import patchify
from apatite.nn.vit import ViTConfig
from apatite.pretrain.branches import Shapes
from apatite.pretrain.methods import METHODS
from apatite.pretrain.task import PretrainTask
from harness import timed
from timm_blocks import TimmMae, same_size

HIDDEN_RATIO = 0.9
WINDOW_HU = (-1024.0, 3071.0)
Step = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is trained on: `vitiac-s` … `vitiac-l`, edges in voxels, a cubic patch, samples per step, the device."""

    model: str
    crop: Edges
    patch: int
    batch: int
    device: str

    @property
    def size(self) -> ModelSize:
        return model_size(self.model)

    @property
    def encoder(self) -> ViTConfig:
        return self.size.encoder(crop=self.crop, patch=(self.patch,) * 3, windows_hu=(WINDOW_HU,))

    def images(self) -> Tensor:
        """Noise: a step takes as long whatever it sees."""
        return 300 * torch.randn(self.batch, 1, *self.crop, device=self.device)

    def autocast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)


def our_task(problem: Problem, precision: Precision) -> PretrainTask:
    """The package's pre-training task."""
    torch.manual_seed(0)
    task = PretrainTask(
        METHODS["mae"], Shapes(encoder=problem.encoder, decoder=problem.size.decoder), precision.kernel, seed=0, steps=1
    )
    return task.to(problem.device)


def our_step(problem: Problem, precision: Precision | None = None) -> Step:
    """Ours, drawing new hidden patches for every step, as a run does."""
    precision = precision or fastest_precision(problem)
    task = our_task(problem, precision)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4, fused=True)
    batch = Batch(case_ids=("noise",) * problem.batch, images_hu=problem.images())
    steps = iter(range(10**9))

    def step() -> None:
        with precision.autocast():
            losses = task.losses(batch, next(steps))
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def fastest_precision(problem: Problem) -> Precision:
    """What the package would choose after timing a few steps: bf16 on a GPU, where it has it."""
    device = torch.device(problem.device)
    mixes = [mix for mix in candidates(device) if mix.format == "bf16"] or list(candidates(device))
    times = {}
    for mix in mixes:
        step = our_step(problem, mix)
        for _ in range(2):
            step()
        times[_timed(step, problem.device)] = mix
    return times[min(times)]


def timm_step(problem: Problem) -> Step:
    """The same network of timm's blocks.

    Raises:
        ImportError: timm is not installed.
    """
    torch.manual_seed(0)
    model = TimmMae(problem.encoder, problem.size.decoder).to(problem.device)
    assert same_size(our_task(problem, Precision(device=problem.device)), model), "the peer has another size than ours"
    run = torch.compile(model, dynamic=False) if problem.device == "cuda" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    patches = patchify(problem.images() / 300, (problem.patch,) * 3)
    steps = iter(range(10**9))

    def step() -> None:
        law = HidingLaw(ratio=HIDDEN_RATIO)
        chosen = law.hide(0, next(steps), range(problem.batch), problem.encoder.tokens).to(problem.device)
        with problem.autocast():
            loss = run(patches, chosen.visible, chosen.hidden)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def monai_step(problem: Problem) -> Step:
    """MONAI's masked autoencoder with our widths.

    Raises:
        ImportError: MONAI is not installed.
    """
    from monai.networks.nets.masked_autoencoder_vit import MaskedAutoEncoderViT

    torch.manual_seed(0)
    size = problem.size
    model = MaskedAutoEncoderViT(
        in_channels=1,
        img_size=problem.crop,
        patch_size=(problem.patch,) * 3,
        hidden_size=size.dim,
        mlp_dim=4 * size.dim,
        num_layers=size.depth,
        num_heads=size.heads,
        masking_ratio=HIDDEN_RATIO,
        decoder_hidden_size=size.decoder.dim,
        decoder_mlp_dim=4 * size.decoder.dim,
        decoder_num_layers=size.decoder.depth,
        decoder_num_heads=size.decoder.heads,
        qkv_bias=True,
    ).to(problem.device, torch.bfloat16)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
    images = (problem.images() / 300).to(torch.bfloat16)
    target = patchify(images, (problem.patch,) * 3)

    def step() -> None:
        predicted, is_hidden = model(images)
        error = (predicted - target).pow(2).mean(dim=-1)
        loss = (error * is_hidden).sum() / is_hidden.sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


MAKERS: dict[str, Callable[[Problem], Step]] = {"ours": our_step, "timm": timm_step, "monai": monai_step}


def make_step(side: str, *fields: object) -> Step:
    """A step from plain values, which can be sent to another process; ours in plain bf16, since timing takes memory."""
    model, crop, patch, batch, device = fields
    problem = Problem(model=model, crop=crop, patch=patch, batch=batch, device=device)  # type: ignore[arg-type]
    return our_step(problem, Precision(device=device, format="bf16")) if side == "ours" else MAKERS[side](problem)  # type: ignore[arg-type]


def _timed(step: Step, device: str) -> float:
    """Seconds of three steps."""
    return timed(lambda: [step() for _ in range(3)], torch.cuda.synchronize if device == "cuda" else None)
