"""What a model package says about itself: `model.json`.

A model without its card is a file of numbers: nobody can tell what spacing it wants, what its labels mean, or whether
its threshold was chosen on phantoms or on patients. So every field is required or has a stated default, an unknown key
is an error, and the domains of training, calibration and reference data are kept apart.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from apatite.core.config import dump, load
from apatite.core.errors import ConfigError, ModelError
from apatite.core.intensity import Intensity
from apatite.io.strict_json import levels

FORMAT_VERSION = 1
KINDS = ("encoder", "swin", "hybrid", "segmenter")
RESEARCH_USE_ONLY = (
    "Research prototype: not a medical device, not cleared or marked by any authority. "
    "Outputs must not be used for diagnosis, treatment or patient management."
)
MAX_VOXELS = 2**28
"""Of an input; 512 × 512 × 1024. A card that asks for more is hostile or wrong, and memory would end before it does."""
SPACINGS_MM = (0.02, 100.0)
DOMAIN_STAGES = ("pretraining", "training", "calibration", "reference")
"""Where data of some domain (`phantom`, `real`, ...) may have entered a model."""

Plain = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What the network must be given.

    Attributes:
        shape: Voxels along depth, height, width.
        spacing_mm: Along i (width), j (height), k (depth).
        windows_hu: Lower and upper end of the window behind each of the network's channels.
        kind: `region` (it was trained on regions of this very shape around a centre) or `volume` (on crops anywhere).
        orientation: Directions of i, j, k.
        intensity: What voxels, and the windows with them, are counted in (`core.intensity`).
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    windows_hu: tuple[tuple[float, float], ...]
    kind: Literal["region", "volume"] = "region"
    orientation: str = "RAS"
    intensity: Intensity = "hu"

    def __post_init__(self) -> None:
        is_window = [low < high for low, high in self.windows_hu]
        is_size = min(self.shape) >= 1 and math.prod(self.shape) <= MAX_VOXELS
        is_spacing = all(SPACINGS_MM[0] <= edge <= SPACINGS_MM[1] for edge in self.spacing_mm)
        if not is_size or not is_spacing or not is_window or not all(is_window):
            raise ConfigError(
                f"an input of {self.shape} voxels of {self.spacing_mm} mm in windows {self.windows_hu} is impossible"
            )


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the weights come from.

    Attributes:
        apatite_version: Version of the package that trained them.
        seed: Of the run.
        data_digest: SHA-256 of the manifest they were trained on.
        citation: What to cite.
        licence: SPDX name; of the weights, not of the package.
        use: The line that every reader must see.
    """

    apatite_version: str
    seed: int
    data_digest: str = ""
    citation: str = ""
    licence: str = "Apache-2.0"
    use: str = RESEARCH_USE_ONLY


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The content of `model.json`.

    Attributes:
        kind: `encoder` (a ViT), `swin` or `hybrid` (a UNETR++, with a ViT or without), all without labels; or
            `segmenter`.
        architecture: Values of the network's configuration.
        recipe: Name of the recipe that made it.
        input: What it must be given.
        label_names: Label value to name, for example `{1: "calcium"}`; background is 0 and has no name.
        domains: For each of `DOMAIN_STAGES` the domains of the data that entered there; empty where none did.
        provenance: Where the weights come from.
        calibration: What the verb `calibrate` chose, or none. Values without it are uncalibrated.
        burden: Cut points of burden groups and the cohort they come from, or none.
        held_out: What no stage of training saw although its data had it, for example `vendor=GE`.
        validated: On which scans it was shown to work, as `robustness` wrote it, or none.
        format_version: Of this file.
    """

    kind: str
    architecture: Plain
    recipe: str
    input: InputSpec
    label_names: dict[int, str]
    domains: dict[str, list[str]]
    provenance: Provenance
    calibration: Plain | None = None
    burden: Plain | None = None
    held_out: list[str] = field(default_factory=list)
    validated: Plain | None = None
    format_version: int = field(default=FORMAT_VERSION)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        if set(self.domains) != set(DOMAIN_STAGES):
            raise ConfigError(
                f"domains must name {', '.join(DOMAIN_STAGES)}, not {', '.join(self.domains) or 'nothing'}"
            )
        if (self.kind == "segmenter") != bool(self.label_names):
            raise ConfigError("a segmenter has named labels, what is pre-trained has none")
        if not all(1 <= value <= 254 and name for value, name in self.label_names.items()):
            raise ConfigError(f"label names {self.label_names} must be words for values from 1 to 254")
        if self.input.intensity != "hu" and "calcium" in self.label_names.values():
            raise ConfigError("calcium is defined by Hounsfield units, which this input does not have")
        if (self.calibration is None) != (not self.domains["calibration"]):
            raise ConfigError("a calibration and the domains of its data go together")


def card_from_values(values: Mapping[str, Any], where: str) -> ModelCard:
    """Build a card from what `model.json` holds.

    Raises:
        ModelError: another format version, an unknown or missing key, a value that is impossible, or text with
            characters that cannot be shown (`MODEL_VERSION`).
    """
    _refuse_unprintable(values, where)
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelError(
            _short(f"format version {version!r}, this is {FORMAT_VERSION}"),
            where=where,
            fix=_MAKE_AGAIN,
            code="MODEL_VERSION",
        )
    try:
        card = load(ModelCard, values, where)
    except ConfigError as error:
        raise ModelError(
            _short(error.what), where=error.where or where, fix=error.fix or _MAKE_AGAIN, code="MODEL_VERSION"
        ) from error
    # "1" and "01" are one number: the second name would silently replace the first.
    if {str(value) for value in card.label_names} != set(values["label_names"]):
        raise ModelError(
            "a label value is not written as a plain number", where=where, fix=_MAKE_AGAIN, code="MODEL_VERSION"
        )
    return card


def values_of_card(card: ModelCard) -> Plain:
    """A card as JSON can hold it; label values become text."""
    values = dump(card)
    return {**values, "label_names": {str(value): name for value, name in card.label_names.items()}}


_MAKE_AGAIN = "use the version of Apatite that wrote it, or make the package again"


def _refuse_unprintable(values: Mapping[str, Any], where: str) -> None:
    """What a card says is shown in terminals and tables, where a control character would forge or hide a line."""
    for text in (item for level in levels(dict(values)) for item in level if isinstance(item, str)):
        if not text.isprintable():
            raise ModelError(
                f"holds characters that cannot be shown: {_short(ascii(text))}",
                where=where,
                fix="write it in one line of plain text",
                code="MODEL_VERSION",
            )


def _short(text: str) -> str:
    """A message names the offending value, but does not repeat a file."""
    return text if len(text) <= 400 else f"{text[:400]}..."
