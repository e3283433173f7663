"""AdamW with the groups that transformers need.

Biases, norms and single learned tokens are not decayed unless asked for (`decays_all`). When fine-tuning, earlier
layers may learn more slowly: a layer's rate is the base rate times decay to the power of its distance from the top.

Source: He et al. 2022 (arXiv 2111.06377), appendix A.1; layer-wise decay after Clark et al. 2020 (arXiv 2003.10555)
and Bao et al. 2022 (arXiv 2106.08254).
"""

import math
import re
from dataclasses import dataclass

import torch
from torch import nn

from apatite.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and schedule.

    Attributes:
        lr: Base learning rate of the topmost layer.
        betas: Of AdamW.
        weight_decay: Of AdamW, at the start.
        weight_decay_end: At the end, reached as half a cosine; `None` keeps it.
        decays_all: Whether biases, norms and single learned tokens are decayed as well.
        layer_decay: Factor on the learning rate per layer below the top; 1 switches it off.
        warmup_fraction: Share of the steps that warm up.
        clip_norm: Largest gradient norm; 0 switches clipping off.
    """

    lr: float = 1.5e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    weight_decay_end: float | None = None
    decays_all: bool = False
    layer_decay: float = 1.0
    warmup_fraction: float = 0.05
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.lr <= 0 or not 0 < self.layer_decay <= 1 or not 0 <= self.warmup_fraction < 1:
            raise ConfigError(
                f"lr {self.lr}, layer_decay {self.layer_decay}, warmup_fraction {self.warmup_fraction}",
                fix="lr must be positive, layer_decay in (0, 1], warmup_fraction in [0, 1)",
            )
        if self.weight_decay_end is not None and not self.weight_decay:
            raise ConfigError("a weight decay of 0 cannot change", where="optim.weight_decay_end", fix="begin above 0")
        if min(self.weight_decay, self.weight_decay_end or 0.0, self.clip_norm) < 0 or not all(
            0 <= beta < 1 for beta in self.betas
        ):
            raise ConfigError(
                f"weight_decay {self.weight_decay}, clip_norm {self.clip_norm}, betas {self.betas}",
                fix="weight_decay and clip_norm must not be negative, betas in [0, 1)",
            )

    def weight_decay_at(self, step: int, steps: int) -> float:
        """Of a step of so many; DINO's rises from 0.04 to 0.4 (Caron et al. 2021, arXiv 2104.14294)."""
        if self.weight_decay_end is None:
            return self.weight_decay
        risen = (1 - math.cos(math.pi * step / steps)) / 2
        return self.weight_decay + (self.weight_decay_end - self.weight_decay) * risen


def build_optimizer(
    module: nn.Module, config: OptimConfig, encoder_depth: int = 0, encoder: str = "encoder"
) -> torch.optim.AdamW:
    """AdamW over a module; each group carries `lr_scale`, by which the schedule multiplies.

    A module that has parameters of more than one axis which must not be decayed, such as positions or temperatures,
    names them in a class attribute `undecayed`.

    Args:
        module: What learns.
        config: Rates.
        encoder_depth: Blocks of the encoder, for layer-wise decay; only without one it may stay 0.
        encoder: Name of the encoder, if any, in the module.
    """
    groups: dict[tuple[float, float], dict] = {}
    undecayed = _undecayed(module)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        below_top = encoder_depth + 1 - layer_of(name, encoder_depth, encoder)
        # A depth that is too small would raise the rate of upper layers instead of lowering that of lower ones.
        assert below_top >= 0 or config.layer_decay == 1, f"{name} lies above {encoder_depth} blocks"
        scale = config.layer_decay**below_top
        is_decayed = config.decays_all or (parameter.ndim > 1 and name not in undecayed)
        decay = config.weight_decay if is_decayed else 0.0
        group = groups.setdefault((scale, decay), {"params": [], "lr_scale": scale, "weight_decay": decay})
        group["params"].append(parameter)
    return torch.optim.AdamW(list(groups.values()), lr=config.lr, betas=config.betas, fused=True)


def _undecayed(module: nn.Module) -> set[str]:
    """Names of the parameters that their own modules except from decay."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        for name in getattr(part, "undecayed", ())
    }


def layer_of(name: str, encoder_depth: int, encoder: str = "encoder") -> int:
    """Layer of a parameter: 0 for the embedding, 1 ... depth for the encoder's blocks, depth + 1 above it."""
    if not name.startswith(f"{encoder}."):
        return encoder_depth + 1
    block = re.search(r"\.blocks\.(\d+)\.", name)
    if block:
        return int(block.group(1)) + 1
    return 0 if ".embed." in name else encoder_depth + 1


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the base rate; each group keeps its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def set_weight_decay(optimizer: torch.optim.Optimizer, weight_decay: float) -> None:
    """Set it in every group that decays at all."""
    for group in optimizer.param_groups:
        group["weight_decay"] = weight_decay if group["weight_decay"] else 0.0
