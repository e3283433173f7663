"""Weights that another program trained become a package of ours, so that a run can begin from them.

Three things are changed, all exactly: names (`nn.swin.monai_names`), the order of axes (`foreign_axes`), and the scale
of the input. Published networks see a window of HU as 0 ... 1, ours as -1 ... 1. With x the latter, the former is
(x + 1) / 2; the embedding is linear and never pads, so its weights are halved and half their sum goes to its bias.
Every parameter of the encoder must be found, or nothing is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from apatite.core.config import dump
from apatite.core.errors import ModelError
from apatite.core.registry import choose
from apatite.engine.foreign import read_foreign
from apatite.engine.foreign_torch import Found
from apatite.engine.weights import weights_of
from apatite.io.model_card import RESEARCH_USE_ONLY, InputSpec, ModelCard, Provenance
from apatite.io.model_package import write_package
from apatite.nn.intensity import Window
from apatite.nn.swin.config import SwinConfig
from apatite.nn.swin.monai_names import COMPUTED, from_monai
from apatite.nn.swin.network import Swin
from apatite.nn.swin.windows import relative_places
from apatite.segment.foreign_axes import in_our_axes
from apatite.segment.foreign_layouts import LAYOUTS, Layout, Spacing
from apatite.segment.transfer import Coverage, Rule, transfer

ALL_OF_IT: Final = 1.0
"""An encoder of which a part is left at random looks like a poor one."""
NO_LICENCE_STATED: Final = "NOASSERTION"
"""SPDX for: nobody said."""
_OUTPUT_NORMS: Final = "norms"
KEPT_LICENCE: Final = "Trained by others, not with Apatite: the weights keep their owner's licence."


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a conversion gave.

    Attributes:
        package: The folder.
        coverage: Every parameter of the encoder and where it comes from, by the names of the file.
        dropped: What was left out on purpose, by name, with the reason.
        sha256: Of the file.
        layout: As which it was read.
    """

    package: Path
    coverage: Coverage
    dropped: dict[str, str]
    sha256: str
    layout: Layout


@dataclass(frozen=True, kw_only=True)
class _Sorted:
    """The tensors of a file.

    Attributes:
        ours: By our names.
        origin: Our name to the file's.
        dropped: Names of the file that are not wanted, with the reason.
        unknown: Names of the file that say nothing to us, even where one of ours is the same.
    """

    ours: dict[str, Tensor]
    origin: dict[str, str]
    dropped: dict[str, str]
    unknown: tuple[str, ...]


def convert(
    file: Path,
    out: Path,
    layout: str,
    *,
    window_hu: Window | None = None,
    spacing_mm: Spacing | None = None,
    licence: str = NO_LICENCE_STATED,
) -> Converted:
    """Make a package of a file of foreign weights.

    Args:
        file: What another program wrote.
        out: The package; must not exist.
        layout: A key of `LAYOUTS`.
        window_hu: Which was scaled to 0 ... 1 for the network; `None` takes the layout's own.
        spacing_mm: Along i, j, k, of the images it was trained on; `None` takes the layout's own.
        licence: SPDX name of the weights' licence.

    Raises:
        ConfigError: the layout is unknown, or says no window or spacing and none is given.
        ModelError: the file is refused (`engine.foreign.read_foreign`), lacks a tensor, has one of another shape or
            twice, numbers offsets in another way (`MODEL_SHAPE`), or holds what is not finite (`NONFINITE`).
        DataError, StorageError: the package cannot be written.
    """
    known = choose(LAYOUTS, layout, "layout")
    shape = known.shape(window_hu)
    spec = _input_spec(shape, known.spacing(spacing_mm))
    found = read_foreign(file, known.places)
    sorted_out = _sorted(found, known, shape, str(file))
    swin = shape.build()
    coverage = _filled(swin, sorted_out, str(file))
    scale_input(swin.embed.project)
    card = ModelCard(
        kind="swin",
        architecture=dump(shape),
        recipe=f"convert {layout}",
        input=spec,
        label_names={},
        domains={"pretraining": ["real"], "training": [], "calibration": [], "reference": []},
        provenance=Provenance(
            apatite_version=version("apatite"),
            seed=0,
            citation=f"{known.citation}; converted from a file of SHA-256 {found.sha256}",
            licence=licence or NO_LICENCE_STATED,
            use=f"{RESEARCH_USE_ONLY} {KEPT_LICENCE}",
        ),
    )
    write_package(out, card, weights_of(swin))
    dropped = {**sorted_out.dropped, **dict.fromkeys(found.beside, "stands beside the weights")}
    return Converted(package=out, coverage=coverage, dropped=dropped, sha256=found.sha256, layout=known)


def scale_input(embedding: nn.Conv3d) -> None:
    """Let a linear embedding that was trained on 0 ... 1 take -1 ... 1; it computes the same.

    w · (x + 1) / 2 + b = (w / 2) · x + (b + sum(w) / 2), summed in fp64.
    """
    assert embedding.bias is not None and not any(embedding.padding), "else the change is not exact"
    with torch.no_grad():
        half = embedding.weight.double() / 2
        embedding.bias.copy_(embedding.bias.double() + half.sum(dim=(1, 2, 3, 4)))
        embedding.weight.copy_(half)


def _input_spec(shape: SwinConfig, spacing_mm: Spacing) -> InputSpec:
    return InputSpec(shape=shape.crop, spacing_mm=spacing_mm, windows_hu=shape.windows_hu, kind="volume")


def _sorted(found: Found, layout: Layout, shape: SwinConfig, where: str) -> _Sorted:
    """What each tensor of the file is."""
    ours: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    dropped: dict[str, str] = {}
    unknown = []
    for name, tensor in found.tensors.items():
        bare = _unwrapped(name, layout.wraps)
        reason = next((why for begin, why in layout.drops.items() if bare.startswith(begin)), None)
        if bare.endswith(COMPUTED):
            _refuse_other_places(tensor, shape, name, where)
            reason = "computed here, and equal"
        if reason is not None:
            dropped[name] = reason
            continue
        place = from_monai(bare, shape.depths)
        if place is None:
            unknown.append(name)
            continue
        if place in origin:
            raise _error(f"holds {origin[place]} and {name}, which are the same tensor of the network", where)
        origin[place], ours[place] = name, tensor
    return _Sorted(ours=ours, origin=origin, dropped=dropped, unknown=tuple(unknown))


def _unwrapped(name: str, wraps: tuple[str, ...]) -> str:
    for wrap in wraps:
        name = name.removeprefix(wrap)
    return name


def _refuse_other_places(table: Tensor, shape: SwinConfig, name: str, where: str) -> None:
    """A table of biases means what its places mean; files say them, so they can be compared."""
    wanted = relative_places(shape.window, shape.window, torch.device("cpu"), counts_from_first=False)
    if table.shape != wanted.shape or not torch.equal(table.to(wanted.dtype), wanted):
        raise _error(f"numbers the offsets inside a window otherwise ({name})", where)


def _filled(swin: Swin, sorted_out: _Sorted, where: str) -> Coverage:
    """Put the tensors in place, all of them or none; the table speaks of the names in the file."""
    wanted = dict(swin.named_parameters())
    # Of another shape they are left as they are: the transfer refuses them by name.
    turned = {
        name: in_our_axes(name, tensor, swin.config)
        if name in wanted and tensor.shape == wanted[name].shape
        else tensor
        for name, tensor in sorted_out.ours.items()
    }
    _refuse_counts(turned, wanted, sorted_out.origin, where)
    has_norms = any(name.startswith(f"{_OUTPUT_NORMS}.") for name in turned)
    # No pretext loss reaches them: where a file leaves them out they are what they were at its start, one and zero.
    norms = Rule(source=_OUTPUT_NORMS if has_norms else None, target=_OUTPUT_NORMS)
    try:
        coverage = transfer(turned, swin, [norms, Rule(source="", target="")], floor=ALL_OF_IT)
    except ModelError as error:
        error.where = where
        if error.code == "MODEL_SHAPE":
            error.fix = "choose the layout that the file was written in; `apatite list layouts` has them"
        raise
    return _in_names_of_the_file(coverage, sorted_out)


def _refuse_counts(
    turned: Mapping[str, Tensor], wanted: Mapping[str, Tensor], origin: Mapping[str, str], where: str
) -> None:
    """Copying would turn integers into weights without a word."""
    for name, tensor in turned.items():
        if name in wanted and not tensor.is_floating_point():
            raise _error(f"holds counts ({tensor.dtype}) in {origin[name]}, where weights belong", where)


def _in_names_of_the_file(coverage: Coverage, sorted_out: _Sorted) -> Coverage:
    origin = sorted_out.origin
    return Coverage(
        rows=tuple(replace(row, source=origin[row.source]) for row in coverage.rows),
        dropped=tuple(sorted_out.dropped),
        unused=(*sorted_out.unknown, *(origin[name] for name in coverage.unused)),
    )


def _error(what: str, where: str) -> ModelError:
    return ModelError(what, where=where, fix="choose the layout that the file was written in", code="MODEL_SHAPE")
