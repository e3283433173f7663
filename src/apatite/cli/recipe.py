"""From `--recipe`, `--config` and `key=value` to a configuration: one way for every verb that trains."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from apatite.core.config import load, override, read_yaml
from apatite.core.registry import choose

C = TypeVar("C")


def resolve(recipes: Mapping[str, Callable[[], C]], recipe: str, config: Path | None, assignments: Sequence[str]) -> C:
    """A recipe, or a YAML file of the same keys, with some values changed.

    Raises:
        ConfigError: an unknown recipe or key, with the nearest name, or a value of the wrong type.
    """
    base = choose(recipes, recipe, "recipe")()
    if config is not None:
        base = load(type(base), read_yaml(config), str(config))
    return override(base, assignments)
