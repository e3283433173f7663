"""Configurations: frozen dataclasses that refuse nonsense before any tensor exists.

A recipe is a Python function that returns one. A run writes `config.yaml` with every default spelled out, and the
same file can be given back. A YAML file or `key=value` changes values only: there are no class paths, no expressions
and no environment variables in it.
"""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from apatite.core.commit import commit_text
from apatite.core.errors import ConfigError
from apatite.core.registry import nearest

C = TypeVar("C")

MAX_YAML_BYTES = 2**20

_SHORT = reprlib.Repr()
"""A few lines of YAML aliases can stand for more text than fits in memory, so a message shows only so much."""
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 200, 200


def load(config_class: type[C], values: Mapping[str, Any], where: str = "config") -> C:
    """Build a configuration from plain values.

    Args:
        config_class: A dataclass whose fields are numbers, strings, tuples or further dataclasses.
        values: Nested mappings; missing keys take the default of the whole configuration, which for a part that is
            given in part may be another than the part's own.
        where: What to call the place in messages, for example a file.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value of the wrong type, with its place.
    """
    _refuse_unknown(config_class, values, where)
    try:
        return TypeAdapter(config_class).validate_python(_completed(config_class, values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([where, *map(str, first["loc"])])
        raise ConfigError(
            f"{first['msg'].lower()}, got {_SHORT.repr(first['input'])}", where=place, fix="correct that value"
        ) from None


def dump(config: Any) -> dict[str, Any]:
    """A configuration as nested plain values, every default spelled out."""
    return cast(dict[str, Any], _plain(asdict(config)))


def override(config: C, assignments: Iterable[str]) -> C:
    """A copy with some values changed.

    Args:
        config: Any configuration.
        assignments: `key=value` with dots for nested keys and YAML for the value: `optim.lr=3e-4`, `crop=[64, 64, 64]`.
            A mapping of names to values takes new names: `weights.topology=0.3`.

    Raises:
        ConfigError: as `load`, or an assignment without `=`.
    """
    values = dump(config)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"{assignment!r} is not an assignment", fix="write key=value, for example optim.lr=3e-4")
        node = values
        *parents, last = key.split(".")
        for parent in parents:
            child = node.get(parent)
            if parent not in node:
                raise ConfigError(f"unknown key {parent!r}", where=key, fix=nearest(parent, list(node)))
            if not isinstance(child, dict):
                raise ConfigError(
                    f"{parent!r} is {child!r}, with no keys below it",
                    where=key,
                    fix=f"set {parent} whole, in a YAML file",
                )
            node = child
        if last not in node and not _takes_any_key(type(config), parents):
            raise ConfigError(f"unknown key {last!r}", where=key, fix=nearest(last, list(node)))
        node[last] = parse_value(text)
    return load(type(config), values)


def parse_value(text: str) -> Any:
    """One YAML value; `3e-4` is a number too, which YAML 1.1 alone would read as text."""
    value = yaml.safe_load(text)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Raises:
        ConfigError: the file is missing, over 1 MiB, is not YAML or is not a mapping.
    """
    try:
        # A pipe would wait for ever, and a device has no end.
        if not path.is_file() or path.stat().st_size > MAX_YAML_BYTES:
            raise ValueError("no file, or one too large")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(
            "cannot be read as YAML", where=str(path), fix="check the path and the file's syntax"
        ) from error
    if not isinstance(values, dict):
        raise ConfigError("is not a mapping of keys to values", where=str(path), fix="write key: value lines")
    return values


def write_yaml(path: Path, config: Any) -> None:
    """Write a configuration with every default spelled out."""
    commit_text(path, yaml.safe_dump(dump(config), sort_keys=False))


def _plain(value: Any) -> Any:
    """Tuples become lists and paths text, so that YAML and JSON can hold them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _refuse_unknown(config_class: type, values: Mapping[str, Any], where: str) -> None:
    _refuse_unknown_of([config_class], values, where)


def _refuse_unknown_of(classes: list[type], values: Mapping[str, Any], where: str) -> None:
    """Refuse a key that none of the classes knows; look into nested configurations, also those in lists."""
    known: dict[str, list[Any]] = {}
    for config_class in classes:
        hints = get_type_hints(config_class)
        for field in fields(config_class):
            known.setdefault(field.name, []).append(hints[field.name])
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"unknown key {key!r}", where=where, fix=nearest(str(key), list(known)))
        nested = [found for hint in known[key] for found in _dataclasses_in(hint)]
        items = value if isinstance(value, list | tuple) else [value]
        for item in items:
            if nested and isinstance(item, Mapping):
                _refuse_unknown_of(nested, item, f"{where}.{key}")


def _completed(config_class: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """A part that is given in part keeps the rest of its owner's default, which may differ from its own."""
    completed = dict(values)
    for field in fields(config_class):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        given = values.get(field.name)
        if is_dataclass(default) and not isinstance(default, type) and isinstance(given, Mapping):
            completed[field.name] = _over(default, given)
    return completed


def _over(default: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration with some of them replaced, part by part."""
    parts = {key: getattr(default, key, None) for key in given}
    return dump(default) | {
        key: _over(parts[key], value) if is_dataclass(parts[key]) and isinstance(value, Mapping) else value
        for key, value in given.items()
    }


def _takes_any_key(config_class: type, parents: Iterable[str]) -> bool:
    """Whether what lies at the end of these keys is a mapping of any names, and not a configuration."""
    hint: Any = config_class
    for parent in parents:
        hints = [get_type_hints(found).get(parent) for found in _dataclasses_in(hint)]
        hint = next((found for found in hints if found is not None), None)
    return get_origin(hint) is dict


def _dataclasses_in(hint: Any) -> list[type]:
    """The dataclasses in an annotation such as `A`, `A | None` or `tuple[A, ...]`."""
    if is_dataclass(hint):
        return [cast(type, hint)]
    return [found for part in get_args(hint) for found in _dataclasses_in(part)]
