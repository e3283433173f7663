"""What a model package says about itself: `model.json`.

A model without its card is a file of numbers: nobody can tell what spacing it wants, what its labels mean, or whether
its threshold was chosen on phantoms or on patients. So every field is required or has a stated default, an unknown key
is an error, and the domains of training, calibration and reference data are kept apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from apatite.core.config import dump, load
from apatite.core.errors import ConfigError, ModelError

FORMAT_VERSION = 1
KINDS = ("encoder", "segmenter")
RESEARCH_USE_ONLY = (
    "Research prototype: not a medical device, not cleared or marked by any authority. "
    "Outputs must not be used for diagnosis, treatment or patient management."
)
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
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    windows_hu: tuple[tuple[float, float], ...]
    kind: Literal["region", "volume"] = "region"
    orientation: str = "RAS"

    def __post_init__(self) -> None:
        is_window = [low < high for low, high in self.windows_hu]
        if min(self.shape) < 1 or min(self.spacing_mm) <= 0 or not is_window or not all(is_window):
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
        kind: `encoder` (no labels) or `segmenter`.
        architecture: Values of the network's configuration.
        recipe: Name of the recipe that made it.
        input: What it must be given.
        label_names: Label value to name, for example `{1: "calcium"}`; background is 0 and has no name.
        domains: For each of `DOMAIN_STAGES` the domains of the data that entered there; empty where none did.
        provenance: Where the weights come from.
        calibration: What the verb `calibrate` chose, or none. Values without it are uncalibrated.
        burden: Cut points of burden groups and the cohort they come from, or none.
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
    format_version: int = field(default=FORMAT_VERSION)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        if set(self.domains) != set(DOMAIN_STAGES):
            raise ConfigError(
                f"domains must name {', '.join(DOMAIN_STAGES)}, not {', '.join(self.domains) or 'nothing'}"
            )
        if (self.kind == "segmenter") != bool(self.label_names):
            raise ConfigError("a segmenter has named labels, an encoder has none")
        if not all(1 <= value <= 254 and name for value, name in self.label_names.items()):
            raise ConfigError(f"label names {self.label_names} must be words for values from 1 to 254")
        if (self.calibration is None) != (not self.domains["calibration"]):
            raise ConfigError("a calibration and the domains of its data go together")


def card_from_values(values: Mapping[str, Any], where: str) -> ModelCard:
    """Build a card from what `model.json` holds.

    Raises:
        ModelError: another format version, an unknown or missing key, or a value that is impossible (`MODEL_VERSION`).
    """
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        fix = "use the version of Apatite that wrote it, or make the package again"
        raise ModelError(
            f"format version {version!r}, this is {FORMAT_VERSION}", where=where, fix=fix, code="MODEL_VERSION"
        )
    try:
        return load(ModelCard, values, where)
    except ConfigError as error:
        raise ModelError(error.what, where=error.where or where, fix=error.fix, code="MODEL_VERSION") from error


def values_of_card(card: ModelCard) -> Plain:
    """A card as JSON can hold it; label values become text."""
    values = dump(card)
    return {**values, "label_names": {str(value): name for value, name in card.label_names.items()}}
