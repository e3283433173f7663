"""The state of a training run in one file: tensors as safetensors, everything else as JSON in its header.

One file can be replaced in one step, a folder cannot; so a run killed at any moment leaves the checkpoint before or
the one after. Draws are counter-based, so weights, moments and the step are all there is to keep.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer

from apatite.core.commit import committed
from apatite.core.errors import ModelError, StorageError
from apatite.io.sealed_tensors import BLANK_SEAL, require_sealed, seal
from apatite.io.strict_json import parse_json
from apatite.io.tensor_header import read_header

Tensors = dict[str, Tensor]
Values = dict[str, Any]

_FIX = "restore it from a copy; or remove it: without `last` a run begins again at its first step"
_SHOWN = 4
"""How many differing tensors a message names."""


def save_state(path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; an earlier one at `path` is replaced in one step.

    Args:
        path: For example `checkpoints/last.safetensors`.
        tensors: Any names, types and shapes; tied or sliced tensors are stored as copies.
        values: What JSON can hold; numbers come back bit-equal, tuples as lists.

    Raises:
        StorageError: the disk is full, read-only, or gave back something else than was written.
    """
    stored = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    metadata = {"format": "pt", "state": json.dumps(dict(values), allow_nan=False), **BLANK_SEAL}

    def verify(part: Path) -> None:
        try:
            found = {name: claim.shape for name, claim in read_header(part).tensors.items()}
            require_sealed(part, _FIX)
        except ModelError as error:
            raise StorageError(
                "the checkpoint read back is damaged", where=str(path), fix="check the disk", code="IO_ERROR"
            ) from error
        if found != {name: tuple(tensor.shape) for name, tensor in stored.items()}:
            raise StorageError(
                "the checkpoint read back differs", where=str(path), fix="check the disk", code="IO_ERROR"
            )

    with committed(path, verify) as part:
        # Not by `save_file`: it writes to a temporary file of its own, which a killed process would leave behind, and
        # tells of a full disk in words only.
        part.write_bytes(save(stored, metadata))
        seal(part)


def load_state(path: Path) -> tuple[Tensors, Values]:
    """Read a checkpoint, on the CPU.

    Raises:
        ModelError: the file is missing or torn, is not a checkpoint (`MODEL_VERSION`), was damaged (`MODEL_DIGEST`), or
            holds a number that is not finite (`NONFINITE`).
    """
    header = read_header(path)
    try:
        values = parse_json(header.metadata["state"].encode())
        if not isinstance(values, dict):
            raise ValueError("a state is a JSON object")
    except (KeyError, ValueError) as error:
        raise ModelError(
            "holds weights, but not the state of a run",
            where=str(path),
            fix="give a file of checkpoints/",
            code="MODEL_VERSION",
        ) from error
    require_sealed(path, _FIX)
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError("cannot be decoded", where=str(path), fix=_FIX, code="MODEL_DIGEST") from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{name} is not finite", where=str(path), fix=_FIX, code="NONFINITE")
    return tensors, values


def state_of(model: nn.Module, optimizer: Optimizer) -> tuple[Tensors, Values]:
    """All that a run has learned, for `save_state`.

    Returns:
        Tensors named `model.<name>` and `optimizer.<index>.<moment>`, not copied; and the optimiser's settings, plain
        values to be kept under a key of the caller's choice.
    """
    content = optimizer.state_dict()
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    numbers: dict[str, Any] = {}
    for index, moments in content["state"].items():
        for name, value in moments.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"optimizer.{index}.{name}"] = value
    return tensors, {"groups": content["param_groups"], "numbers": numbers}


def restore(model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
    """Put a state back, bit-equal; the reverse of `state_of`.

    Raises:
        ModelError: it belongs to another architecture or optimiser (`MODEL_SHAPE`); nothing has been changed then.
    """
    # What belongs to neither counts as a weight, and is refused as one that the model does not have.
    weights = {
        name.removeprefix("model."): tensor for name, tensor in tensors.items() if not name.startswith("optimizer.")
    }
    wanted = model.state_dict()
    require_equal_shapes(shapes_of(wanted), shapes_of(weights), where="checkpoint")
    if others := [name for name, tensor in weights.items() if tensor.dtype != wanted[name].dtype]:
        # torch would convert in silence: integers with the same bits are other weights.
        raise ModelError(f"{others[0]} is of another type", where="checkpoint", fix=_FIX, code="MODEL_SHAPE")
    try:
        content = _optimizer_content(optimizer, tensors, settings)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ModelError("its optimiser cannot be read", where="checkpoint", fix=_FIX, code="MODEL_VERSION") from error
    model.load_state_dict(weights, strict=True)
    optimizer.load_state_dict(content)


def shapes_of(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every named tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def require_equal_shapes(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Refuse weights whose names or shapes are not exactly those of the architecture.

    Raises:
        ModelError: with code `MODEL_SHAPE`, naming the first tensors that differ.
    """
    differences = []
    for name in sorted({**wanted, **found}):
        if name not in found:
            differences.append(f"{name} (missing)")
        elif name not in wanted:
            differences.append(f"{name} (unknown)")
        elif found[name] != wanted[name]:
            differences.append(f"{name} ({found[name]} instead of {wanted[name]})")
    if differences:
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise ModelError(
            f"the weights belong to another architecture: {', '.join(differences[:_SHOWN])}{more}",
            where=where,
            fix="use the configuration it was made with",
            code="MODEL_SHAPE",
        )


def _optimizer_content(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The optimiser's own `state_dict`, rebuilt and checked against its parameters."""
    now = optimizer.state_dict()["param_groups"]
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()} for group in settings["groups"]
    ]
    if [group["params"] for group in groups] != [group["params"] for group in now]:
        raise ModelError(
            "the optimiser's parameter groups differ",
            where="checkpoint",
            fix="use the configuration it was made with",
            code="MODEL_SHAPE",
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **settings["numbers"]}.items():
        if not key.startswith("optimizer."):
            continue
        _, index, name = key.split(".", 2)
        if not 0 <= int(index) < len(parameters) or (
            isinstance(value, Tensor)
            and (
                not value.is_floating_point() or value.shape != (() if name == "step" else parameters[int(index)].shape)
            )
        ):
            raise ModelError(
                f"{key} fits no parameter",
                where="checkpoint",
                fix="use the configuration it was made with",
                code="MODEL_SHAPE",
            )
        # A copy: the loaded tensors may be a view of the file, and the optimiser writes into what it is given.
        state.setdefault(int(index), {})[name] = value.clone() if isinstance(value, Tensor) else value
    if len({frozenset(moments) for moments in state.values()}) > 1:
        raise ValueError("some parameters have moments that others lack")
    return {"state": state, "param_groups": groups}
