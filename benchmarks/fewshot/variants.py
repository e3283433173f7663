"""What is tried against the loss of pre-training: each remedy is one change to both recipes, and the reason for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from apatite.engine.precision import Precision, choose_device, supports_bf16
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.models import model_size
from apatite.pretrain.config import PretrainConfig
from apatite.pretrain.recipes import openkbp as pretrain_openkbp
from apatite.segment.config import FinetuneConfig
from apatite.segment.recipes import openkbp as finetune_openkbp

STANDARD = "standard"
THREADS = 2
PRETRAIN_MINUTES, FINETUNE_MINUTES = 5.0, 8.5
"""Of the standard rows on two quiet cores, evaluation included."""


def precision(head_multiple: int) -> Precision:
    """The number format of every row alike, as measured on two quiet cores; fp32 where bf16 is not in hardware."""
    is_fast = supports_bf16(choose_device("cpu"))
    return Precision(format="bf16" if is_fast else "fp32", head_multiple=head_multiple, threads=THREADS)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to pre-train and fine-tune.

    Attributes:
        why: What it is to show.
        pretraining: Changes to the pre-training recipe; `None` begins from the standard encoder.
        finetuning: Changes to the fine-tuning recipe.
        own_scratch: Whether its network or rates differ from the standard's, so that it needs a twin from scratch.
        pretrain_minutes, finetune_minutes: Expected.
    """

    why: str
    pretraining: Callable[[PretrainConfig], PretrainConfig] | None = None
    finetuning: Callable[[FinetuneConfig], FinetuneConfig] = lambda config: config
    own_scratch: bool = False
    pretrain_minutes: float = PRETRAIN_MINUTES
    finetune_minutes: float = FINETUNE_MINUTES


def even_rates(config: FinetuneConfig) -> FinetuneConfig:
    """All layers learn at one rate."""
    return replace(config, optim=replace(config.optim, layer_decay=1.0))


def mae_decoder(config: FinetuneConfig) -> FinetuneConfig:
    """The pre-training decoder's architecture instead of Upscale."""
    return replace(config, decoder=DecoderConfig(name="mae", mae=model_size(config.model).decoder))


VARIANTS: dict[str, Variant] = {
    STANDARD: Variant(why="the recipes `openkbp` as they are", pretraining=lambda config: config, own_scratch=True),
    "embedding": Variant(
        why="on the phantom the patch embedding alone helped and the blocks hurt; costs no new pre-training",
        finetuning=lambda config: replace(config, take="embedding"),
    ),
    "mae-decoder": Variant(
        why="tokens are read out by attention as in pre-training, not by convolutions; a quarter of the cost of a step",
        finetuning=mae_decoder,
        own_scratch=True,
        finetune_minutes=4.5,
    ),
    "hidden-60": Variant(
        why="pre-training sees 51 of 512 tokens, fine-tuning all; 60 % hidden is nearer to it, and the error at 90 % "
        "hardly falls below that of an interpolation, so there is little anatomy in what was learned",
        pretraining=lambda config: replace(config, hidden_ratio=0.6),
        pretrain_minutes=9.0,
    ),
    "conv-stem": Variant(
        why="edges inside a patch of 8 voxels are hard for one linear map to find from few labels",
        pretraining=lambda config: replace(config, stem="conv"),
        finetuning=lambda config: replace(config, stem="conv"),
        own_scratch=True,
        pretrain_minutes=6.0,
        finetune_minutes=9.5,
    ),
    "long": Variant(
        why="the reconstruction error and the effective rank still improved at the end of pre-training; three times "
        "the epochs",
        pretraining=lambda config: replace(config, epochs=3 * config.epochs),
        pretrain_minutes=14.5,
    ),
    "steps-x3": Variant(
        why="at the recipe's length the rarest organs have just begun to be learned, or have not: a difference there "
        "may be one of when, not of how well; three times the steps",
        finetuning=lambda config: replace(config, steps=3 * config.steps),
        own_scratch=True,
        finetune_minutes=23.0,
    ),
    "patch-4x8x8": Variant(
        why="smaller patches resolve more by themselves: 4 voxels along depth, 1,024 tokens",
        pretraining=lambda config: replace(config, patch=(4, 8, 8)),
        finetuning=lambda config: replace(config, patch=(4, 8, 8)),
        own_scratch=True,
        pretrain_minutes=9.0,
        finetune_minutes=18.0,
    ),
    "even-rates": Variant(
        why="a decay of 0.8 per layer holds the lower layers near an encoder that has learned little; on the phantom "
        "it did not help",
        finetuning=even_rates,
        own_scratch=True,
    ),
}
"""By name, those first that cost least for what they may show. Settings that are not named are the recipes'."""


def pretrain_config(variant: str, seed: int) -> PretrainConfig:
    """The pre-training of a variant; its health is looked at once, at the end, for looking costs time."""
    change = VARIANTS[variant].pretraining
    config = replace(pretrain_openkbp(), seed=seed, device="cpu", precision=precision(head_multiple=16))
    config = config if change is None else change(config)
    return replace(config, check_epochs=config.epochs)


def finetune_config(variant: str, seed: int) -> FinetuneConfig:
    """The fine-tuning of a variant. The last weights are kept: development chooses nothing."""
    config = replace(finetune_openkbp(), seed=seed, device="cpu", precision=precision(head_multiple=1))
    config = VARIANTS[variant].finetuning(config)
    return replace(config, check_every=config.steps)
