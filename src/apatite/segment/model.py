"""The segmenter: an encoder that sees all patches, and a decoder with one logit per voxel and label."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apatite.core.types import Image, Scalar
from apatite.data.batches import Batch
from apatite.losses.overlap import Sum, as_it_is, cross_entropy_loss, soft_dice_loss
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.vit import Encoded, ViTConfig

LabelMaps = Float[Tensor, "batch labels depth height width"]


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """Shape of a `Segmenter`.

    Attributes:
        encoder: The ViT.
        decoder: The segmentation decoder.
        num_labels: Logits per voxel; background has none.
    """

    encoder: ViTConfig = field(default_factory=ViTConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    num_labels: int = 1

    def build(self, kernel: AttentionKernel | None = None) -> "Segmenter":
        """The model, freshly initialised from torch's current random state."""
        return Segmenter(self, kernel or AttentionKernel())


class Segmenter(nn.Module):
    """From Hounsfield units to logits."""

    def __init__(self, config: SegmenterConfig, kernel: AttentionKernel) -> None:
        super().__init__()
        self.config = config
        self.encoder = config.encoder.build(kernel)
        self.decoder = config.decoder.build(config.encoder, config.num_labels, kernel)

    def forward(self, image_hu: Image) -> LabelMaps:
        """`batch 1 depth height width` HU to `batch labels depth height width` logits."""
        return self.decoder(self.encode(image_hu))

    def encode(self, image_hu: Image) -> Encoded:
        """What the decoder is given of an image."""
        return self.encoder.encode(image_hu, self.decoder.taps, keeps_image=self.decoder.sees_image)

    @torch.inference_mode()
    def probability(self, image_hu: Image) -> LabelMaps:
        """Probability of each label at each voxel."""
        return self(image_hu).float().sigmoid()


class SegmentTask:
    """Dice plus cross-entropy with equal weights; the task that the loop minimises.

    Args:
        segmenter: The model.
        add_up: Sums over the processes that share a batch; both losses are those of the whole batch.
    """

    def __init__(self, segmenter: Segmenter, add_up: Sum = as_it_is) -> None:
        self.module, self.add_up = segmenter, add_up

    def losses(self, batch: Batch, step: int) -> dict[str, Scalar]:
        """Both losses on a labelled batch."""
        del step
        assert batch.targets is not None and batch.is_annotated is not None
        logits = self.module(batch.images_hu)
        return {
            "dice_loss": soft_dice_loss(logits, batch.targets, batch.is_annotated, self.add_up),
            "cross_entropy": cross_entropy_loss(logits, batch.targets, batch.is_annotated, self.add_up),
        }
