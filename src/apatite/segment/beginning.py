"""What a fine-tuning run begins from, written down so that it goes on from nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apatite.core.errors import ConfigError, ModelError
from apatite.io.model_package import Package, read_package
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a run starts from.

    Attributes:
        encoder: The pre-trained one; `None` from scratch.
        about: For the run's manifest.
    """

    encoder: Package | None
    about: dict[str, Any]


def read_encoder(path: Path) -> Package:
    """An encoder package, given itself or by its run folder.

    Raises:
        ModelError: it is not whole, or holds no encoder.
    """
    run = RunFolder(path=path)
    package = read_package(run.model if run.config.exists() else path)
    if package.card.kind != "encoder":
        raise ModelError(
            f"holds a {package.card.kind}, not an encoder",
            where=str(path),
            fix="give a pre-training run",
            code="MODEL_SHAPE",
        )
    return package


def about_beginning(prepared: Prepared, init_from: Path | None, encoder: Package | None) -> dict[str, Any]:
    """What a run began from, for its manifest."""
    return {
        "verb": "finetune",
        "data_digest": prepared.about["manifest_sha256"],
        "init_from": None if init_from is None else str(init_from.resolve()),
        "init_digest": None if encoder is None else encoder.digest,
    }


def began_from(out: Path) -> Path | None:
    """The encoder that a run began from, by its path; `None` from scratch."""
    init_from = RunFolder.open(out).read_about().get("init_from")
    return None if init_from is None else Path(init_from)


def refuse_another_beginning(out: Path, about: Mapping[str, Any]) -> None:
    """A run goes on only with the data and the encoder that it began with.

    Raises:
        ConfigError: one of them is another.
    """
    began = RunFolder.open(out).read_about()
    for key, what in (("data_digest", "data"), ("init_digest", "encoder")):
        if began.get(key) != about[key]:
            raise ConfigError(
                f"the run began with another {what}", where=str(out), fix=f"resume it with the {what} it began with"
            )
