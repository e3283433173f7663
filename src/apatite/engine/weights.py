"""Between a module and the arrays of a model package: the same names, shapes and types, nothing more, nothing less."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from apatite.core.errors import ModelError
from apatite.engine.checkpoint import require_equal_shapes, shapes_of
from apatite.io.model_package import CARD, Package
from apatite.io.strict_json import levels

M = TypeVar("M", bound=nn.Module)

MAX_SETTING = 2**20
"""Of any number in an architecture: widths, edges, and the ends of windows in HU are all far below."""
_FIX = "use the version of Apatite that wrote it"


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """A module's parameters and persistent buffers as arrays on the CPU, for `io.model_package.write_package`.

    Bfloat16 is stored as float32, which holds it exactly; NumPy has no word for it.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    return {name: tensor.to(_stored_type(tensor)).numpy() for name, tensor in tensors.items()}


def build_with_weights(build: Callable[[], M], package: Package) -> M:
    """Build the module that a package's card describes, and fill it.

    A card is a few bytes that may ask for any amount of memory. So the module is first built without memory for its
    parameters, which is taken only once their shapes are those of the weights.

    Args:
        build: Makes the module from `package.card.architecture`. What it makes besides parameters, such as tables of
            positions, it must keep small itself.
        package: As `io.model_package.read_package` returned it.

    Raises:
        ModelError: the architecture cannot be built, or the weights are of another (`MODEL_SHAPE`).
    """
    _refuse_large_settings(package)
    try:
        with _Weightless(), _at_most(len(package.weights)):
            sketch = build()
    except ModelError:
        raise
    except Exception as error:  # whatever a hostile architecture provokes in a builder, it is the card's fault
        raise ModelError("describes no network that can be built", where=CARD, fix=_FIX, code="MODEL_SHAPE") from error
    _require_fit(sketch, package)
    module = build()
    load_weights(module, package)
    return module


def load_weights(module: nn.Module, package: Package) -> None:
    """Put a package's weights into the module that its card describes.

    Args:
        module: Built from `package.card.architecture`; its types are kept.
        package: As `io.model_package.read_package` returned it.

    Raises:
        ModelError: a tensor is missing, unknown, or of another shape or type (`MODEL_SHAPE`); the module is unchanged
            then.
    """
    _require_fit(module, package)
    module.load_state_dict(
        {name: torch.from_numpy(np.array(array)) for name, array in package.weights.items()}, strict=True
    )


def _stored_type(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype


def _require_fit(module: nn.Module, package: Package) -> None:
    state = module.state_dict()
    require_equal_shapes(shapes_of(state), shapes_of(package.weights), where="model package")
    for name, array in package.weights.items():
        # torch would convert in silence: integers with the same bits are other weights.
        wanted, found = _stored_type(state[name]), torch.from_numpy(np.empty(0, array.dtype)).dtype
        if found != wanted:
            raise ModelError(
                f"{name} holds {found} instead of {wanted}", where="model package", fix=_FIX, code="MODEL_SHAPE"
            )


def _refuse_large_settings(package: Package) -> None:
    """Refuse sizes that would overflow, or loop for long, even where no memory is taken."""
    for value in (item for level in levels(dict(package.card.architecture)) for item in level):
        if isinstance(value, int | float) and not abs(value) <= MAX_SETTING:
            raise ModelError(f"asks for a size over {MAX_SETTING}", where=CARD, fix=_FIX, code="MODEL_SHAPE")


class _Weightless(TorchFunctionMode):
    """Parameters are made on torch's `meta` device: they have a shape and no memory. All else is made as ever."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch in place of each of its functions."""
        if func is torch.empty:
            return func(*args, **{**(kwargs or {}), "device": "meta"})
        return func(*args, **(kwargs or {}))


@contextmanager
def _at_most(num_tensors: int) -> Iterator[None]:
    """Stop a module that registers more parameters than there are tensors for, as one of a million blocks would."""
    builder, left = threading.get_ident(), num_tensors

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= parameter is not None and threading.get_ident() == builder
        if left < 0:
            raise ModelError(
                f"describes a network of more than {num_tensors} tensors, the weights' number",
                where=CARD,
                fix=_FIX,
                code="MODEL_SHAPE",
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
