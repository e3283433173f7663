"""From a run's settings and its data to the shape of the segmenter."""

from apatite.core.errors import ConfigError
from apatite.core.types import Edges
from apatite.data.sources import crop_of
from apatite.io.store import Prepared
from apatite.nn.models import MODELS, model_size
from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.presets import SwinSize
from apatite.nn.vit import ViTConfig
from apatite.segment.config import FinetuneConfig
from apatite.segment.model import SegmenterConfig
from apatite.segment.networks import network_of


def segmenter_config(config: FinetuneConfig, prepared: Prepared) -> SegmenterConfig:
    """The segmenter of a run on a prepared folder.

    Raises:
        ConfigError: its crop does not suit the network, or its model is none that the network has.
    """
    network, crop = network_of(config.network), crop_of(prepared, config.crop)
    encoder = swin = unetrpp = None
    if network.has_encoder or network.has_swin:
        transformer = _transformer(config, crop)
        encoder = transformer if isinstance(transformer, ViTConfig) else None
        swin = transformer if isinstance(transformer, SwinConfig) else None
    if network.unetrpp is not None:
        unetrpp = config.unetrpp.config(crop, config.windows_hu)
    return SegmenterConfig(
        encoder=encoder,
        decoder=config.decoder,
        num_labels=len(prepared.label_values),
        network=config.network,
        unetrpp=unetrpp,
        deep_supervision=config.deep_supervision and unetrpp is not None,
        swin=swin,
    )


def _transformer(config: FinetuneConfig, crop: Edges) -> ViTConfig | SwinConfig:
    """The ViT or the Swin, whichever the network has."""
    size, wants_swin = model_size(config.model), network_of(config.network).has_swin
    if isinstance(size, SwinSize) != wants_swin:
        is_one = "a ViT" if wants_swin else "a Swin"
        others = [name for name, other in MODELS.items() if isinstance(other, SwinSize) == wants_swin]
        raise ConfigError(
            f"model={config.model} is {is_one}, and network={config.network} has none",
            fix=f"use another network, or model={' or '.join(others)}",
        )
    return size.encoder(
        crop=crop, patch=config.patch, windows_hu=config.windows_hu, drop_path=config.drop_path, stem=config.stem
    )
