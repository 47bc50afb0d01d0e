"""Write records.d.ts: the JSON forms of the view records as TypeScript, so that the pages are checked against what the server sends.

Run `python web-tools/records.py` after a change of `microtome/features/records.py`; a test compares.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microtome.directions import Calibration, DirectionCard, Likeness, Measured
from microtome.features import Card, FeatureLoss, Gram, MeanLoss, SliceLoss, Stretch, Surroundings, effect_records, found, links, records
from microtome.features import kept as kept_records
from microtome.features.dreaming import records as dream_records
from microtome.features.geometry import records as map_records
from microtome.features.odd import records as odd_records
from microtome.stats import Result
from microtome.steering import Dose, EditCount, Side, SideBySide
from microtome.web.model_desk import ModelState

OUT = Path(__file__).parent / "records.d.ts"
_TAKEN = {"Window": "ExampleWindow"}
"""Names that mean something else in a browser."""
_PLAIN: Mapping[Any, str] = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null", Any: "any"}


def declarations() -> str:
    """One interface a record."""
    modules = (records, found, links, effect_records, odd_records, kept_records, map_records, dream_records)
    known = {name: value for module in modules for name, value in vars(module).items()}
    shapes = [shape for shape in known.values() if dataclasses.is_dataclass(shape) and isinstance(shape, type)]
    more = (
        Gram,
        Stretch,
        Surroundings,
        MeanLoss,
        SliceLoss,
        FeatureLoss,
        EditCount,
        Side,
        SideBySide,
        Result,
        Dose,
        Calibration,
        Measured,
        Likeness,
        DirectionCard,
    )
    blocks = [_interface(shape) for shape in [*shapes, *more, Card, ModelState]]
    return "// Written by web-tools/records.py from the records of microtome/features; do not edit.\n\n" + "\n".join(blocks)


def _interface(shape: type[Any]) -> str:
    hints = typing.get_type_hints(shape)
    fields = "".join(f"  readonly {field.name}: {_written(hints[field.name])};\n" for field in dataclasses.fields(shape))
    return f"interface {_name(shape)} {{\n{fields}}}\n"


def _written(hint: Any) -> str:
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(_written(argument) for argument in arguments)
    if origin is tuple:
        return f"readonly ({_written(arguments[0])})[]"
    if origin is Mapping:
        return f"Record<string, {_written(arguments[1])}>"
    assert dataclasses.is_dataclass(hint), hint
    return _name(hint)


def _name(shape: Any) -> str:
    name = str(shape.__name__)
    return _TAKEN.get(name, name)


if __name__ == "__main__":
    OUT.write_text(declarations())
