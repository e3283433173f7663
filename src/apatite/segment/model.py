"""The segmenter: an encoder that sees all patches, and a decoder with one logit per voxel and label.

What these two are depends on the network (`segment.networks`): UNETR++ by itself has no encoder but the windows.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apatite.core.errors import ConfigError
from apatite.core.types import Edges, Image, Scalar
from apatite.data.batches import Batch
from apatite.losses.overlap import Sum, as_it_is
from apatite.nn.attention import AttentionKernel
from apatite.nn.decoders.decoder import Decoder
from apatite.nn.decoders.registry import DecoderConfig
from apatite.nn.hybrid import NoEncoder, UNETRPPAlone
from apatite.nn.intensity import Window
from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.decoder import SwinDecoder
from apatite.nn.swin.network import Swin
from apatite.nn.unetrpp.network import UNETRPPConfig
from apatite.nn.vit import Encoded, ViT, ViTConfig
from apatite.segment.networks import network_of
from apatite.segment.supervision import Supervised, output_weights, supervised_losses

LabelMaps = Float[Tensor, "batch labels depth height width"]


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """Shape of a `Segmenter`.

    Attributes:
        encoder: The ViT; `None` where the network has none.
        decoder: The segmentation decoder of the network `vit`; without a say in the others.
        num_labels: Logits per voxel; background has none.
        network: A key of `segment.networks.NETWORKS`.
        unetrpp: UNETR++; `None` where the network has none.
        deep_supervision: Whether UNETR++ has logits on two coarser grids as well, to learn from.
        swin: The Swin, which brings its own decoder; `None` where the network has none.
    """

    encoder: ViTConfig | None = field(default_factory=ViTConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    num_labels: int = 1
    network: str = "vit"
    unetrpp: UNETRPPConfig | None = None
    deep_supervision: bool = False
    swin: SwinConfig | None = None

    def __post_init__(self) -> None:
        wanted = network_of(self.network)
        given = tuple(part is not None for part in (self.encoder, self.unetrpp, self.swin))
        if (wanted.has_encoder, wanted.unetrpp is not None, wanted.has_swin) != given:
            raise ConfigError(
                f"the network {self.network} is {wanted.note}, and other parts were given",
                fix="give encoder, unetrpp and swin where the network has them, and nowhere else",
            )
        shapes = {(part.crop, part.windows_hu) for part in self._parts}
        if len(shapes) > 1:
            raise ConfigError("encoder and unetrpp look at different crops or windows", fix="give both the same")

    @property
    def _parts(self) -> list[ViTConfig | UNETRPPConfig | SwinConfig]:
        """What sees the image."""
        return [part for part in (self.encoder, self.unetrpp, self.swin) if part is not None]

    @property
    def crop(self) -> Edges:
        """Edges of the input in voxels: depth, height, width."""
        return self._parts[0].crop

    @property
    def windows_hu(self) -> tuple[Window, ...]:
        """One input channel per window."""
        return self._parts[0].windows_hu

    @property
    def transformer(self) -> ViTConfig | SwinConfig | None:
        """What is pre-trained by itself: the ViT or the Swin; `None` without either."""
        return self.encoder or self.swin

    @property
    def encoder_depth(self) -> int:
        """Blocks of the ViT, or of all stages of the Swin; 0 without either."""
        return 0 if self.transformer is None else self.transformer.depth

    def build(self, kernel: AttentionKernel | None = None) -> "Segmenter":
        """The model, freshly initialised from torch's current random state."""
        return Segmenter(self, kernel or AttentionKernel())


class Segmenter(nn.Module):
    """From Hounsfield units to logits."""

    def __init__(self, config: SegmenterConfig, kernel: AttentionKernel) -> None:
        super().__init__()
        self.config = config
        self.encoder: ViT | Swin | NoEncoder = (
            NoEncoder(config.windows_hu) if config.transformer is None else config.transformer.build(kernel)
        )
        self.decoder = _decoder(config, kernel)

    def forward(self, image_hu: Image) -> LabelMaps:
        """`batch 1 depth height width` HU to `batch labels depth height width` logits."""
        return self.decoder(self.encode(image_hu))

    def encode(self, image_hu: Image) -> Encoded:
        """What the decoder is given of an image."""
        return self.encoder.encode(image_hu, self.decoder.taps, keeps_image=self.decoder.sees_image)

    def supervised(self, image_hu: Image) -> Supervised:
        """All logits that are to be learned from, those of `forward` first, and the weight of each."""
        if not isinstance(self.decoder, UNETRPPAlone):
            return ((self(image_hu), 1.0),)
        outputs = self.decoder.outputs(self.encode(image_hu))
        return tuple(zip(outputs, output_weights(len(outputs)), strict=True))

    @torch.inference_mode()
    def probability(self, image_hu: Image) -> LabelMaps:
        """Probability of each label at each voxel."""
        return self(image_hu).float().sigmoid()


def _decoder(config: SegmenterConfig, kernel: AttentionKernel) -> Decoder | UNETRPPAlone | SwinDecoder:
    """With fresh weights."""
    if config.swin is not None:
        return SwinDecoder(config.swin, config.num_labels)
    way = network_of(config.network).unetrpp
    if way is not None:
        assert config.unetrpp is not None, "the config was checked"
        return way(config.unetrpp, config.encoder, config.num_labels, deep=config.deep_supervision)
    assert config.encoder is not None, "the config was checked"
    return config.decoder.build(config.encoder, config.num_labels, kernel)


class SegmentTask:
    """Dice plus cross-entropy with equal weights, of every output that is supervised; the task that the loop minimises.

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
        outputs = self.module.supervised(batch.images_hu)
        return supervised_losses(outputs, batch.targets, batch.is_annotated, self.add_up)
