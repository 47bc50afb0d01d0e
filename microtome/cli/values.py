"""Values on the command line, as `name:field=value,field=value`: `topk:k=32`, `matryoshka:prefixes=512/1024`, `relu`."""

import json
from typing import Any, TypeVar

from microtome.config import from_dict
from microtome.errors import ConfigError
from microtome.registry import Registry

T = TypeVar("T")


def parse_value(text: str, registry: "Registry[type[T]]") -> T:
    """The registered value that `text` names. An unknown name or field is an error that offers the nearest one."""
    name, _, rest = text.partition(":")
    kind = registry.get(name.strip())
    fields: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        field, equals, value = pair.partition("=")
        if not equals:
            do = f"Write {name}:FIELD=VALUE,FIELD=VALUE; several numbers for one field are joined by /."
            raise ConfigError(f'"{pair}" gives a field no value.', got=text, wanted="FIELD=VALUE", do=do)
        fields[field.strip()] = _read(value.strip())
    return from_dict(kind, fields, where=f"{registry.kind} {name}")


def _read(value: str) -> Any:
    """A number, true or false, several numbers joined by `/`, or the word itself."""
    if "/" in value:
        return [_read(part) for part in value.split("/")]
    try:
        return json.loads(value)
    except ValueError:
        return value
