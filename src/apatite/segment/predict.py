"""From a scan to a probability on its original slices.

The network sees the region (or windows over the whole body) on its own grid; what it says is carried back to the
original pixels, because calcium is measured there and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from apatite.core.config import load
from apatite.core.errors import ConfigError, DataError, ModelError
from apatite.core.intensity import Intensity, in_intensity
from apatite.core.scan import PADDING_HU, Scan
from apatite.core.volume import Grid, Volume
from apatite.ct.region import RegionConfig, carry_back, cut_region, is_inside_region, middle_region
from apatite.data.prepare_case import body_grid
from apatite.engine.precision import choose_device
from apatite.engine.weights import build_with_weights
from apatite.io.case import Case
from apatite.io.model_card import ModelCard
from apatite.io.model_package import CARD, Package, read_package
from apatite.io.run_folder import RunFolder
from apatite.segment.model import Segmenter, SegmenterConfig
from apatite.segment.sliding import SlidingConfig, slide

BODY_HU: Final[dict[Intensity, float]] = {"hu": -500.0, "zscore": PADDING_HU}
"""What is above it is body; images without HU have no air to tell it from, so nothing is cropped."""
MAX_POSITIONS = 2**26
"""Numbers in tables of positions and the like, tokens times width; a hundred times those of a usual model."""
Centre = Float[np.ndarray, "3"] | Sequence[float]


@dataclass(frozen=True, kw_only=True, eq=False)
class NativePrediction:
    """What a model says of a scan, on the original slices.

    Attributes:
        probability: `labels slices rows columns`, 0 outside what the network saw.
        is_counted: True where the network looked: inside the region, or everywhere for a whole volume.
        label_values: The label value of each plane.
    """

    probability: Float[np.ndarray, "labels slices rows columns"]
    is_counted: Bool[np.ndarray, "slices rows columns"]
    label_values: tuple[int, ...]


class Predictor:
    """A segmenter package, ready to be used.

    Args:
        package: As `io.model_package.read_package` returns it.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        ModelError: it holds no segmenter, or weights of another architecture.
    """

    def __init__(self, package: Package, device: str = "auto") -> None:
        self.card, self.digest = package.card, package.digest
        self.device = choose_device(device)
        self.network: Segmenter = build_with_weights(lambda: _config_of(package.card).build(), package)
        self.network.to(self.device).eval()

    @property
    def label_values(self) -> tuple[int, ...]:
        """The label value of each logit."""
        return tuple(sorted(self.card.label_names))

    def predict(self, scan: Scan, centre_ras_mm: Centre | None = None) -> NativePrediction:
        """Predict on the original slices of a scan.

        Args:
            scan: As read: HU, or what the scanner gave where the model counts in something else; a region cut out of a
                head CT, or more of it.
            centre_ras_mm: Middle of the region, where it is known. Without it a model of regions looks at the scan's
                own middle if the scan is about as large as the region, and otherwise slides over all of it.
        """
        scan = in_intensity(scan, self.card.input.intensity)
        grid, is_region = self._grid(scan, centre_ras_mm)
        on_grid = self.predict_on_grid(cut_region(scan, grid))
        planes = [carry_back(Volume(voxels=plane, grid=grid), scan.stack) for plane in on_grid]
        is_counted = is_inside_region(scan.stack, grid) if is_region else np.ones(scan.stack.shape, dtype=bool)
        return NativePrediction(
            probability=np.stack(planes) * is_counted, is_counted=is_counted, label_values=self.label_values
        )

    def predict_case(self, case: Case, scan: Scan) -> NativePrediction:
        """Predict a case of a manifest around its region's centre, if it has one."""
        return self.predict(scan, case.region_centre_ras_mm)

    def predict_on_grid(self, volume: Volume) -> Float[np.ndarray, "labels depth height width"]:
        """Probability on the network's own grid; windows are blended where the grid is larger than one."""
        image = torch.from_numpy(np.ascontiguousarray(volume.voxels, dtype=np.float32))[None, None]
        config = SlidingConfig(crop=self.network.config.crop, padding=PADDING_HU)
        return slide(image, lambda windows: self.network.probability(windows.to(self.device)).cpu(), config)

    def _grid(self, scan: Scan, centre: Centre | None) -> tuple[Grid, bool]:
        """Where the network looks, and whether that is one region."""
        wanted = self.card.input
        if wanted.kind == "region":
            region = _region_around(scan, centre, wanted.shape, wanted.spacing_mm)
            if region is not None:
                return region, True
        return body_grid(scan, wanted.spacing_mm, wanted.shape, BODY_HU[wanted.intensity]), False


Shape = tuple[int, int, int]


def _config_of(card: ModelCard) -> SegmenterConfig:
    """The architecture that a card describes."""
    if card.kind != "segmenter":
        raise ModelError(
            f"is of the kind {card.kind}, not a segmenter",
            where=CARD,
            fix="give a fine-tuned model",
            code="MODEL_SHAPE",
        )
    try:
        config = load(SegmenterConfig, card.architecture, CARD)
    except (ConfigError, ArithmeticError) as error:  # no heads, or a patch without extent
        what, where = (error.what, error.where) if isinstance(error, ConfigError) else ("it divides by 0", "")
        raise ModelError(
            f"describes another architecture: {what}",
            where=where or CARD,
            fix="use the version of Apatite that wrote it",
            code="MODEL_SHAPE",
        ) from error
    if _numbers_in_tables(config) > MAX_POSITIONS:
        raise ModelError(
            f"asks for a crop of {config.crop} in more tokens than a machine can hold",
            where=CARD,
            fix="make the package again",
            code="MODEL_SHAPE",
        )
    if config.num_labels != len(card.label_names):
        raise ModelError(
            f"names {len(card.label_names)} labels for {config.num_labels} logits",
            where=CARD,
            fix="make the package again",
            code="MODEL_SHAPE",
        )
    return config


def _numbers_in_tables(config: SegmenterConfig) -> int:
    """The most that a network makes besides weights whose shapes can be told without memory for them."""
    numbers, encoder, unetrpp, swin = 0, config.encoder, config.unetrpp, config.swin
    if encoder is not None:
        numbers += encoder.num_tokens * max(encoder.dim, config.decoder.mae.dim)
    if unetrpp is not None:
        # In every block positions, and means and spreads of up to four norms.
        rows = zip(unetrpp.num_tokens, unetrpp.widths, strict=True)
        numbers += 2 * unetrpp.num_blocks * sum((tokens + 8) * width for tokens, width in rows)
    if encoder is not None and unetrpp is not None:
        grids = [edges for grid in unetrpp.stages for edges in zip(encoder.tokens, grid, strict=True)]
        numbers += sum(have * want for have, want in grids)
    if swin is not None:
        # No table is as large as the crop, so the image counts; the offsets along three axes of a window's tokens.
        numbers += prod(swin.crop) + 3 * prod(swin.window) ** 2
    return numbers


def _region_around(
    scan: Scan, centre: Centre | None, shape: Shape, spacing_mm: tuple[float, float, float]
) -> Grid | None:
    """The region's grid, or `None` where no centre is known and the scan is much larger than the region."""
    region = RegionConfig(shape=shape, spacing_mm=spacing_mm)
    if centre is not None:
        point = np.asarray(centre, dtype=np.float64)
        index = scan.stack.to_slice_row_column(point[None])[0]
        if np.any(index < -0.5) or np.any(index > np.array(scan.stack.shape) - 0.5):
            raise DataError(
                f"the region's centre {np.round(point, 1).tolist()} mm lies outside the scan",
                fix="correct region_centre_ras_mm",
                code="ROI_ABSENT",
            )
        return region.grid(point)
    return middle_region(scan.stack, region)


def decide(
    probability: Float[np.ndarray, "labels slices rows columns"],
    label_values: Sequence[int],
    thresholds: Sequence[float],
) -> UInt8[np.ndarray, "slices rows columns"]:
    """One label value per pixel: among the labels that reach their threshold, the one that exceeds it most.

    Args:
        probability: One plane per label.
        label_values: Value of each plane.
        thresholds: Of each plane; a probability of at least this counts.
    """
    label = np.zeros(probability.shape[1:], dtype=np.uint8)
    best = np.zeros(probability.shape[1:], dtype=np.float32)
    for plane, value, threshold in zip(probability, label_values, thresholds, strict=True):
        excess = plane / threshold
        wins = (plane >= threshold) & (excess > best)
        label[wins] = value
        best[wins] = excess[wins]
    return label


def open_predictor(path: Path, device: str = "auto") -> Predictor:
    """A predictor from a segmenter package, or from the run folder that holds one."""
    package = read_package(package_of(path))
    try:
        return Predictor(package, device)
    except ModelError as error:
        error.where = f"{path}: {error.where}" if error.where else str(path)
        raise


def package_of(path: Path) -> Path:
    """The model package of a path that is one, or that is a run folder."""
    run = RunFolder(path=path)
    return run.model if run.config.exists() else path
