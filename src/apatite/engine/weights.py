"""Between a module and the arrays of a model package: the same names and shapes, nothing more, nothing less."""

import numpy as np
import torch
from torch import nn

from apatite.engine.checkpoint import require_equal_shapes, shapes_of
from apatite.io.model_package import Package


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """A module's parameters and persistent buffers as arrays on the CPU, for `io.model_package.write_package`.

    Bfloat16 is stored as float32, which holds it exactly; NumPy has no word for it.
    """
    tensors = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    return {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy() for name, tensor in tensors.items()
    }


def load_weights(module: nn.Module, package: Package) -> None:
    """Put a package's weights into the module that its card describes.

    Args:
        module: Built from `package.card.architecture`; its types are kept.
        package: As `io.model_package.read_package` returned it.

    Raises:
        ModelError: a tensor is missing, unknown or of another shape (`MODEL_SHAPE`); the module is unchanged then.
    """
    require_equal_shapes(shapes_of(module.state_dict()), shapes_of(package.weights), where="model package")
    module.load_state_dict(
        {name: torch.from_numpy(np.array(array)) for name, array in package.weights.items()}, strict=True
    )
