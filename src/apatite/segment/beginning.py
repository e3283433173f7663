"""What a fine-tuning run begins from: which parts of a package go where, written down so that it goes on from no other.

    package holds            vit      unetrpp        hybrid         hybrid_decoder                    swin
    a ViT                    the ViT  nothing        the ViT        the ViT                           nothing
    a UNETR++                nothing  all of it      all of it      its decoder                       nothing
    both                     the ViT  its UNETR++    both           the ViT and UNETR++'s decoder     nothing
    a Swin                   nothing  nothing        nothing        nothing                           the Swin

Where nothing would be taken a run is refused. What a network has no place for is dropped on purpose; what a package
does not hold starts with fresh weights, and so do the segmentation heads, the decoder of a ViT's tokens or of a Swin's
maps, and all that joins a ViT to UNETR++. Batch norms take over their weights and not the means of the data they saw,
which pre-training had hidden patches in: training estimates them anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apatite.core.config import dump
from apatite.core.errors import ConfigError, ModelError
from apatite.io.model_package import Package, read_package
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.nn.hybrid import UNETRPPOnStates
from apatite.nn.intensity import Window
from apatite.nn.swin.config import SwinConfig
from apatite.nn.unetrpp.network import UNETRPPConfig
from apatite.segment.networks import NETWORKS, network_of
from apatite.segment.transfer import TAKES, Rule, Take

PRETRAINED = ("encoder", "swin", "hybrid")
"""Kinds of package that a run can begin from: a ViT; a Swin; or some of `PARTS`, whose names stand before their
tensors'."""
PARTS = ("vit", "unetrpp")
_ALONE = {"encoder": "vit", "swin": "swin"}
"""What a package of each kind holds that holds one network by the names of its own."""
_FREE = ("attention_dropout", "dropout")
"""Of UNETR++'s shape, what may differ from one stage to the next."""
_FREE_OF_SWIN = ("crop", "windows_hu", "drop_path")
"""Of a Swin's: its weights know no crop, and windows are compared by themselves."""
_OF_EMBEDDING = ("patch", "dim", "normalises_embedding")
"""Of a Swin's, what its embedding depends on."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a run starts from.

    Attributes:
        package: The pre-trained one; `None` from scratch.
        about: For the run's manifest.
    """

    package: Package | None
    about: dict[str, Any]


def read_pretrained(path: Path) -> Package:
    """A package of what was pre-trained, given itself or by its run folder.

    Raises:
        ModelError: it is not whole, or holds a segmenter.
    """
    run = RunFolder(path=path)
    package = read_package(run.model if run.config.exists() else path)
    if package.card.kind not in PRETRAINED:
        raise ModelError(
            f"holds a {package.card.kind}, not an encoder",
            where=str(path),
            fix="give a pre-training run",
            code="MODEL_SHAPE",
        )
    return package


def rules_for(package: Package, network: str, take: Take) -> tuple[Rule, ...]:
    """What of a package goes where in a segmenter.

    Args:
        package: As `read_pretrained` returns it.
        network: A key of `segment.networks.NETWORKS`.
        take: The `embedding` of the ViT or the Swin alone, or all that there is a place for.

    Raises:
        ModelError: nothing of it has a place there (`MODEL_SHAPE`).
    """
    held = _held(package)
    rules = _rules(held, network, take)
    if not rules:
        others = [name for name in NETWORKS if _rules(held, name, take)]
        raise ModelError(
            f"holds {' and '.join(held) or 'nothing'}, of which network={network} takes nothing with take={take}",
            where="--init-from",
            fix=f"use {' or '.join(f'network={name}' for name in others) or 'another pre-training run'}",
            code="MODEL_SHAPE",
        )
    # The first rule that covers a name decides: these drop what no rule before them takes.
    return (*rules, *(Rule(source=prefix, target=None) for prefix in held.values()))


_HEADS = (Rule(source="unetrpp.heads", target=None), Rule(source=None, target="decoder.unetrpp.heads"))
_ALL_OF_IT = (*_HEADS, Rule(source="unetrpp", target="decoder.unetrpp"))
_ITS_DECODER = (*_HEADS, Rule(source="unetrpp.decoder", target="decoder.unetrpp.decoder"))


def _held(package: Package) -> dict[str, str]:
    """Which networks a package holds, and what the names of their weights begin with."""
    if package.card.kind in _ALONE:
        return {_ALONE[package.card.kind]: ""}
    first = {name.partition(".")[0] for name in package.weights}
    return {part: part for part in PARTS if part in first}


def _rules(held: Mapping[str, str], network: str, take: Take) -> list[Rule]:
    """The table at the top; empty where nothing has a place."""
    wanted = network_of(network)
    rules: list[Rule] = []
    for part, is_wanted in (("vit", wanted.has_encoder), ("swin", wanted.has_swin)):
        if part in held and is_wanted:
            rules += [replace(rule, source=f"{held[part]}.{rule.source}".strip(".")) for rule in TAKES[take]]
    if "unetrpp" in held and wanted.unetrpp is not None and take == "encoder":
        rules += _ITS_DECODER if issubclass(wanted.unetrpp, UNETRPPOnStates) else _ALL_OF_IT
    return rules


def about_beginning(prepared: Prepared, init_from: Path | None, package: Package | None) -> dict[str, Any]:
    """What a run began from, for its manifest."""
    return {
        "verb": "finetune",
        "data_digest": prepared.about["manifest_sha256"],
        "init_from": None if init_from is None else str(init_from.resolve()),
        "init_digest": None if package is None else package.digest,
    }


def began_from(out: Path) -> Path | None:
    """The package that a run began from, by its path; `None` from scratch."""
    init_from = RunFolder.open(out).read_about().get("init_from")
    return None if init_from is None else Path(init_from)


def refuse_other_windows(package: Package | None, windows_hu: tuple[Window, ...], *, crosses_units: bool) -> None:
    """What was learned in one window of HU means something else in another, and with more windows fits nowhere.

    Args:
        package: What a run begins from.
        windows_hu: The run's.
        crosses_units: Whether another meaning is what is wanted, so that only their number counts.

    Raises:
        ConfigError: the package was pre-trained in other windows.
    """
    if crosses_units and package is not None and len(package.card.input.windows_hu) == len(windows_hu):
        return
    if package is not None and package.card.input.windows_hu != windows_hu:
        raise ConfigError(
            f"was pre-trained with windows {package.card.input.windows_hu}, this run has {windows_hu}",
            where="--init-from",
            fix="give the same windows_hu; or as many, and crosses_units=true, to go from CT to MR",
        )


def refuse_another_intensity(prepared: Prepared, package: Package | None) -> None:
    """What was pre-trained on one unit of intensity has learnt nothing of another.

    Raises:
        ConfigError: data and package are counted in different units.
    """
    if package is not None and package.card.input.intensity != prepared.intensity:
        raise ConfigError(
            f"was pre-trained on intensity={package.card.input.intensity}, the data have {prepared.intensity}",
            where="--init-from",
            fix="prepare the data with the same intensity; or give crosses_units=true, to go from CT to MR",
        )


def refuse_another_unetrpp(shape: UNETRPPConfig | None, package: Package | None) -> None:
    """Weights of UNETR++ belong to one shape: of another, some fit by name and size and mean something else.

    Raises:
        ModelError: the package's UNETR++ is of another shape than the run's (`MODEL_SHAPE`).
    """
    if shape is None or package is None or "unetrpp" not in _held(package):
        return
    said_of_it = package.card.architecture.get("unetrpp")
    held = said_of_it if isinstance(said_of_it, dict) else {}
    said = _differences(held, {key: value for key, value in dump(shape).items() if key not in _FREE})
    if said:
        raise ModelError(
            f"its UNETR++ has {said}",
            where="--init-from",
            fix="use the crop, windows and unetrpp.… of pre-training",
            code="MODEL_SHAPE",
        )


def refuse_another_swin(shape: SwinConfig | None, package: Package | None, take: Take) -> None:
    """Of a Swin of another convention every tensor fits, of other heads nearly every one; they mean something else.

    Raises:
        ModelError: the package's Swin is of another shape than the run's (`MODEL_SHAPE`).
    """
    if shape is None or package is None or "swin" not in _held(package):
        return
    counted = _OF_EMBEDDING if take == "embedding" else set(dump(shape)) - set(_FREE_OF_SWIN)
    said = _differences(package.card.architecture, {k: v for k, v in dump(shape).items() if k in counted})
    if said:
        raise ModelError(
            f"its Swin has {said}",
            where="--init-from",
            fix="use the model and the patch of pre-training",
            code="MODEL_SHAPE",
        )


def _differences(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """In which values two architectures differ, in words; empty where they do not."""
    differing = sorted(key for key in wanted if held.get(key) != wanted[key])
    return ", ".join(f"{key} {held.get(key)}, not {wanted[key]}" for key in differing)


def refuse_another_beginning(out: Path, about: Mapping[str, Any]) -> None:
    """A run goes on only with the data and the package that it began with.

    Raises:
        ConfigError: one of them is another.
    """
    began = RunFolder.open(out).read_about()
    for key, what in (("data_digest", "data"), ("init_digest", "encoder")):
        if began.get(key) != about[key]:
            raise ConfigError(
                f"the run began with another {what}", where=str(out), fix=f"resume it with the {what} it began with"
            )
