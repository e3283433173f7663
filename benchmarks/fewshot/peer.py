"""The peer: MONAI's DynUNet on the same crops, labels and annotation weights, with MONAI's own sliding windows.

What is known of the run that it has to reproduce (`--peer-check`): filters 16 to 128, crops of 64³, bf16 autocast with
channels last, AdamW, ten minutes on two cores. What is not known, and chosen here: batch, rate and schedule, loss,
augmentation, the share of crops with an organ in them. They are ours, so that only the network and its pre-training
differ: HU windows, draws, augmentation, and soft Dice plus cross-entropy over the annotated organs.

It trains until its seconds are over, whatever number of steps that is; the rate falls with the time that is left.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from apatite.core.commit import commit_json
from apatite.core.rng import derived_seed
from apatite.data.augmented import Augmented
from apatite.data.batches import Batch, Batches
from apatite.data.sources import open_source
from apatite.engine.checkpoint import load_state, restore, save_state, state_of
from apatite.io.store import Prepared
from apatite.losses.overlap import cross_entropy_loss, soft_dice_loss
from apatite.nn.decoders.prior import start_rare
from apatite.nn.intensity import Window, Windows
from apatite.segment.config import FinetuneConfig
from apatite.segment.finetune import augment_config
from apatite.segment.labelled import labelled_rows

Draw = Callable[[int], Batch]
STATE = "last.safetensors"


@dataclass(frozen=True, kw_only=True)
class PeerConfig:
    """The peer's run.

    Attributes:
        crop: Edges of a crop in voxels.
        windows_hu: One input channel each.
        filters: Channels of the levels.
        batch: Crops per step.
        lr, weight_decay: Of AdamW.
        warmup_fraction: Share of the time in which the rate rises; then it falls as a cosine.
        clip_norm: Largest gradient norm.
        budget_s: Wall seconds of training.
        save_every_s: Seconds between saved states.
        seed: Of weights and draws.
        is_bf16: Autocast.
        most_steps: Stop earlier, after so many steps; 0 for none.
    """

    crop: tuple[int, int, int]
    windows_hu: tuple[Window, ...]
    filters: tuple[int, ...] = (16, 32, 64, 128)
    batch: int = 2
    lr: float = 1e-3
    weight_decay: float = 1e-5
    warmup_fraction: float = 0.05
    clip_norm: float = 12.0
    budget_s: float = 600.0
    save_every_s: float = 60.0
    seed: int = 0
    is_bf16: bool = True
    most_steps: int = 0


class PeerNetwork(nn.Module):
    """HU to one logit per organ, through the same windows as ours.

    Args:
        config: The run.
        num_labels: Organs.
    """

    def __init__(self, config: PeerConfig, num_labels: int) -> None:
        from monai.networks.nets import DynUNet

        super().__init__()
        levels = len(config.filters)
        self.windows = Windows(config.windows_hu)
        self.network = DynUNet(
            spatial_dims=3,
            in_channels=len(config.windows_hu),
            out_channels=num_labels,
            kernel_size=[3] * levels,
            strides=[1] + [2] * (levels - 1),
            upsample_kernel_size=[2] * (levels - 1),
            filters=list(config.filters),
            norm_name="INSTANCE",
            deep_supervision=False,
        )
        # As our own heads: without it the first hundreds of steps push every voxel down.
        start_rare(self.network.output_block.conv.conv)
        self.network.to(memory_format=torch.channels_last_3d)

    def forward(self, image_hu: Tensor) -> Tensor:
        """`batch organs depth height width` logits."""
        return self.network(self.windows(image_hu).to(memory_format=torch.channels_last_3d))


def peer_batches(prepared: Prepared, config: PeerConfig, ours: FinetuneConfig) -> Draw:
    """Our own batches at the peer's size: the same cases, crops, augmentation and annotation."""
    settings = replace(ours, crop=config.crop, batch=config.batch, seed=config.seed)
    source = open_source(prepared, labelled_rows(prepared, settings), config.crop)
    draw = Batches(source, config.batch, config.seed, labelled=True)
    return Augmented(draw, augment_config(settings, prepared), config.seed)


def make_network(config: PeerConfig, num_labels: int) -> PeerNetwork:
    """The network with the weights of the seed."""
    torch.manual_seed(derived_seed(config.seed, "weights") % 2**63)
    return PeerNetwork(config, num_labels)


def train_peer(
    network: PeerNetwork, batches: Draw, config: PeerConfig, folder: Path, now: Callable[[], float] = time.monotonic
) -> tuple[int, float]:
    """Train until the time is over; go on from the newest state in `folder`.

    Args:
        network: Is trained in place.
        batches: The batch of a step.
        config: The run.
        folder: Holds `config.json` and the state.
        now: The clock.

    Returns:
        Steps done, and seconds of training over all pieces.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    state = folder / STATE
    step, spent = _resumed(network, optimizer, state)
    commit_json(folder / "config.json", asdict(config))
    begun, saved = now(), now()
    network.train()
    while not _is_over(config, step, spent + now() - begun):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * rate_at((spent + now() - begun) / config.budget_s, config.warmup_fraction)
        loss = _step(network, optimizer, batches(step), config)
        step += 1
        if now() - saved >= config.save_every_s:
            saved = now()
            print(
                f"peer: step {step}, loss {loss:.3f}, {spent + saved - begun:.0f} of {config.budget_s:.0f} s",
                flush=True,
            )
            _save(network, optimizer, state, step, spent + saved - begun)
    seconds = spent + now() - begun
    _save(network, optimizer, state, step, seconds)
    network.eval()
    return step, seconds


def rate_at(share: float, warmup: float) -> float:
    """The rate after a share of the time, as a share of the highest: linear up, cosine down, never quite zero."""
    if share < warmup:
        return max(share / warmup, 0.01)
    return max(0.5 * (1 + math.cos(math.pi * min((share - warmup) / (1 - warmup), 1.0))), 1e-3)


def _is_over(config: PeerConfig, step: int, spent: float) -> bool:
    return spent >= config.budget_s or (config.most_steps > 0 and step >= config.most_steps)


def _step(network: PeerNetwork, optimizer: torch.optim.Optimizer, batch: Batch, config: PeerConfig) -> float:
    assert batch.targets is not None and batch.is_annotated is not None
    with torch.autocast("cpu", torch.bfloat16, enabled=config.is_bf16):
        logits = network(batch.images_hu)
    found = soft_dice_loss(logits, batch.targets, batch.is_annotated)
    found = found + cross_entropy_loss(logits, batch.targets, batch.is_annotated)
    optimizer.zero_grad(set_to_none=True)
    found.backward()
    nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
    optimizer.step()
    return float(found.detach())


def _save(network: nn.Module, optimizer: torch.optim.Optimizer, path: Path, step: int, spent: float) -> None:
    tensors, settings = state_of(network, optimizer)
    save_state(path, tensors, {"step": step, "seconds": spent, "optimizer": settings})


def _resumed(network: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> tuple[int, float]:
    """Steps and seconds of the saved state, put back; zeros without one."""
    if not path.exists():
        return 0, 0.0
    tensors, values = load_state(path)
    restore(network, optimizer, tensors, values["optimizer"])
    return int(values["step"]), float(values["seconds"])


def spent_in(folder: Path) -> float:
    """Seconds that a run has trained so far; 0 where none lies in the folder."""
    state = folder / STATE
    return float(load_state(state)[1]["seconds"]) if state.exists() else 0.0


def plain(config: PeerConfig) -> dict[str, Any]:
    """The run's settings as JSON has them."""
    return json.loads(json.dumps(asdict(config)))
