"""Which library finds the pairs: GUDHI, which always comes along, or cripser, faster but under the (L)GPL."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Final, Literal

import numpy as np
from jaxtyping import Float64, Int64

from apatite.core.registry import choose
from apatite.topology import through_cripser, through_gudhi

Backend = Literal["auto", "gudhi", "cripser"]
Values = Float64[np.ndarray, "depth height width"]
Pairs = tuple[Int64[np.ndarray, "_ 2"], Int64[np.ndarray, "_ 2"], Int64[np.ndarray, "_ 2"]]

BACKENDS: Final[Mapping[str, Callable[[Values], Pairs]]] = {
    "gudhi": through_gudhi.pairs,
    "cripser": through_cripser.pairs,
}
"""Each takes a finite volume and gives, per dimension, the flat voxels of birth and death of its sub-level sets' pairs,
in any order."""


def backend(name: str) -> Callable[[Values], Pairs]:
    """The backend of that name; `auto` is cripser where it is installed and GUDHI elsewhere.

    Raises:
        ConfigError: the name is unknown; the message suggests the nearest one.
    """
    return choose(BACKENDS, settled(name), "persistence backend")


def settled(name: str) -> str:
    """What a name stands for on this machine: `auto` is cripser where it is installed and GUDHI elsewhere."""
    if name != "auto":
        return name
    return "cripser" if find_spec("cripser") else "gudhi"


def require_backend(name: str) -> None:
    """Refuse a backend before anything is computed.

    Raises:
        ConfigError: the name is unknown, or the library is not installed (`BACKEND_MISSING`).
    """
    backend(name)
    if name == "cripser" and find_spec("cripser") is None:
        raise through_cripser.missing("it is not installed")
