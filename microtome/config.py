"""Configs: frozen dataclasses, read strictly from JSON-like values and written back the same."""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from microtome.errors import ConfigError, nearest

C = TypeVar("C")

_PLAIN = frozenset((str, int, float, bool, type(None)))
"""Types that are their own JSON form; long lists of them (tokens, activations) are passed on whole."""


def from_dict(cls: type[C], values: Mapping[str, Any], *, where: str | None = None) -> C:
    """Build the dataclass `cls` from `values`; unknown, missing and ill-typed keys raise `ConfigError` naming the nearest field.

    Nested dataclasses, tuples of them, `X | None`, and a class's own `from_json` (for value types printed as one string) are understood; a field's
    metadata may name a `to_json` and a `from_json` of its own (for values stored by their registered name).
    """
    name = where or cls.__name__
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]  # a dataclass by contract
    for key in values:
        if key not in fields:
            raise ConfigError(f'{name} has no field "{key}".', got=key, wanted=", ".join(fields), do=nearest(key, fields))
    hints = typing.get_type_hints(cls)
    built: dict[str, Any] = {}
    for key, field in fields.items():
        if key in values and "from_json" in field.metadata:
            built[key] = field.metadata["from_json"](values[key])
        elif key in values:
            built[key] = _convert(hints[key], values[key], f"{name}.{key}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f'{name} lacks the field "{key}".', got=", ".join(values) or "nothing", wanted=key, do=f'Give "{key}".')
    return cls(**built)


def to_dict(value: Any) -> Any:
    """The JSON-ready form of a config, the inverse of `from_dict`."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, tuple | list):
        return list(value) if _PLAIN.issuperset(map(type, value)) else [to_dict(item) for item in value]
    if hasattr(value, "to_json") and not isinstance(value, type):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _field_to_dict(field, getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    return value


def _field_to_dict(field: "dataclasses.Field[Any]", value: Any) -> Any:
    writer = field.metadata.get("to_json", to_dict)
    return writer(value)


def canonical_json(value: Any) -> str:
    """One spelling for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(to_dict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """The first 16 hex digits of the sha256 of `canonical_json(value)`: equal configs, equal fingerprints."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(hint, value, where)
    if origin is typing.Literal:
        choices = [str(choice) for choice in typing.get_args(hint)]
        if value not in typing.get_args(hint):
            raise ConfigError(f"{where} has an unknown value.", got=repr(value), wanted=", ".join(choices), do=nearest(str(value), choices))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _ill_typed(where, value, "a list")
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise _ill_typed(where, value, "a mapping")
        return dict(value)
    return _convert_plain(hint, value, where)


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    options = typing.get_args(hint)
    if value is None and type(None) in options:
        return None
    problem: ConfigError | None = None
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(option, value, where)
        except ConfigError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _convert_plain(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    reader = getattr(hint, "from_json", None)
    if reader is not None:
        return reader(value)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise _ill_typed(where, value, f"the fields of {getattr(hint, '__name__', hint)}")
        return from_dict(typing.cast(type[Any], hint), value, where=where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    raise _ill_typed(where, value, getattr(hint, "__name__", str(hint)))


def _ill_typed(where: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"{where} has a value of the wrong type.", got=f"{value!r} ({type(value).__name__})", wanted=wanted, do="Correct it.")
