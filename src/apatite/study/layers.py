"""What an encoder makes of fixed crops, layer by layer: one row of features per place, the same places for any encoder.

Of a Swin the layers are its five maps; of a ViT its tokens after each quarter of its blocks.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32
from torch import Tensor, nn

from apatite.core.config import load
from apatite.core.errors import ModelError
from apatite.core.rng import generator
from apatite.core.types import Edges
from apatite.engine.weights import build_with_weights
from apatite.io.model_package import CARD, Package
from apatite.io.store import Prepared
from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.network import Swin
from apatite.nn.vit import ViT, ViTConfig
from apatite.segment.predict import Predictor

NUM_CROPS: Final = 32
ROWS_OF_CROP: Final = 64
"""At most so many places of a crop are looked at in each layer."""
_QUARTERS: Final = 4
_AT_ONCE: Final = 4
"""Crops that pass the network together."""

Crops = Float32[np.ndarray, "crops depth height width"]
Layers = Mapping[str, Float[np.ndarray, "rows dim"]]


def fixed_crops(prepared: Prepared, crop: Edges, *, split: str = "development", count: int = NUM_CROPS) -> Crops:
    """Crops of a split in HU (or the folder's unit), the same at every call; each case gives about as many.

    Args:
        prepared: Regions, which come whole, or volumes at least as large as the crop.
        crop: Depth, height, width.
        split: Of which cases.
        count: How many at most; of regions no more than there are.
    """
    rows = prepared.case_index(split).tolist()
    if prepared.kind == "region":
        return prepared.images[rows[:count]].astype(np.float32)
    drawn = []
    for number in range(count if rows else 0):
        row = rows[number % len(rows)]
        case_id = prepared.cases[row].case_id
        image = prepared.volume(case_id).image
        draw = generator(0, "layers", case_id, number)
        starts = [int(draw.integers(size - edge + 1)) for size, edge in zip(image.shape, crop, strict=True)]
        box = tuple(slice(start, start + edge) for start, edge in zip(starts, crop, strict=True))
        drawn.append(np.asarray(image[box], dtype=np.float32))
    return np.stack(drawn) if drawn else np.zeros((0, *crop), np.float32)


def layers_of(package: Package, crops: Crops) -> Layers:
    """Layer → one row of features per chosen place, crop by crop.

    Args:
        package: A pre-trained encoder, or a segmenter that has one.
        crops: As large as the package's input.

    Raises:
        ModelError: there is no encoder in it, or its weights are of another architecture (`MODEL_SHAPE`).
    """
    encoder = _encoder(package).eval()
    found: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(crops), _AT_ONCE):
        images = torch.from_numpy(np.array(crops[first : first + _AT_ONCE]))[:, None]
        with torch.inference_mode():
            for name, rows in _layers(encoder, images):
                found.setdefault(name, []).extend(_chosen(name, first, rows))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _encoder(package: Package) -> nn.Module:
    card = package.card
    if card.kind == "segmenter":
        network = Predictor(package, "cpu").network
        if network.config.encoder_depth:
            return network.encoder
    elif card.kind in ("encoder", "swin"):
        kind = ViTConfig if card.kind == "encoder" else SwinConfig
        return build_with_weights(lambda: load(kind, card.architecture, CARD).build(), package)
    raise ModelError(
        f"is a {card.kind} without one encoder whose layers could be compared",
        where=CARD,
        fix="give a ViT, a Swin, or what was fine-tuned from one",
        code="MODEL_SHAPE",
    )


def _layers(encoder: nn.Module, images_hu: Tensor) -> Iterator[tuple[str, Float[Tensor, "crops places dim"]]]:
    if isinstance(encoder, ViT):
        depth = encoder.config.depth
        blocks = sorted({max(1, round(depth * quarter / _QUARTERS)) for quarter in range(1, _QUARTERS + 1)})
        for block, state in zip(blocks, encoder.encode(images_hu, blocks).states, strict=True):
            yield f"block {block} of {depth}", state
        return
    assert isinstance(encoder, Swin), "packages of pre-training and segmenters hold no other encoder"
    maps = encoder.maps(encoder.windows(images_hu))
    for number, values in enumerate(maps, start=1):
        yield f"map {number} of {len(maps)}", rearrange(values, "crops dim d h w -> crops (d h w) dim")


def _chosen(layer: str, first: int, rows: Float[Tensor, "crops places dim"]) -> list[Float[np.ndarray, "chosen dim"]]:
    """Some places of each crop: which ones depends on the layer and the crop's number alone."""
    num_places, found = rows.shape[1], []
    for number, places in enumerate(rows.float().numpy(), start=first):
        count = min(ROWS_OF_CROP, num_places)
        chosen = np.sort(generator(0, "places", layer, number).choice(num_places, count, replace=False))
        found.append(places[chosen])
    return found
