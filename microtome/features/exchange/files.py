"""JSON in files of others: read strictly, written without NaN; compressed the same every time."""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from microtome.errors import BundleInvalid

Json = dict[str, Any]


def dumps(value: Any) -> bytes:
    """Compact JSON in UTF-8. NaN and infinity, which are no JSON, are our bug and raise."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def loads(raw: bytes | str, *, where: str) -> Any:
    """JSON of others: NaN and infinity, which some libraries write, become null."""
    try:
        return json.loads(raw, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise invalid(where, got=str(error), wanted="JSON") from error


def read_json(path: Path) -> Json:
    """A JSON object in a file (.gz or not)."""
    value = loads(content_of(path), where=str(path))
    if not isinstance(value, dict):
        raise invalid(str(path), got=type(value).__name__, wanted="a JSON object")
    return value


def content_of(path: Path) -> bytes:
    """The bytes of a file, unpacked if its name says so."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise invalid(str(path), got=str(error), wanted="a file that can be read") from error


def read_lines(path: Path) -> Iterator[Json]:
    """The objects of a file of JSON lines, one at a time."""
    if path.suffix == ".gz" and path.stat().st_size == 0:
        raise invalid(str(path), got="an empty file", wanted="gzip")
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    value = loads(line, where=f"{path}, line {number}")
                    if not isinstance(value, dict):
                        raise invalid(f"{path}, line {number}", got=type(value).__name__, wanted="a JSON object")
                    yield value
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise invalid(str(path), got=str(error), wanted="lines of JSON") from error


def pack(content: bytes) -> bytes:
    """gzip without the time, so that equal content gives equal files."""
    return gzip.compress(content, compresslevel=5, mtime=0)


def lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON lines."""
    return b"".join(dumps(row) + b"\n" for row in rows)


def taken(found: Json, written: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a foreign object that writing what was read of it would not give back: they are kept beside it."""
    return {name: value for name, value in found.items() if name not in written or written[name] != value}


def need(found: Json, name: str, kind: type | tuple[type, ...], *, where: str) -> Any:
    """A field that must be there and of that kind; `BundleInvalid`."""
    value = found.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        names = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        got = f"{type(value).__name__}" if name in found else f"no {name} among {', '.join(found)[:200]}"
        raise invalid(where, got=got, wanted=f"{name}: {names}")
    return value


def numbers(found: Json, name: str, *, where: str) -> tuple[float, ...]:
    """A list of finite numbers; `BundleInvalid`."""
    values = need(found, name, list, where=where)
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise invalid(where, got="something that is no number", wanted=f"{name}: finite numbers")
    return tuple(float(value) for value in values)


def texts(found: Json, name: str, *, where: str) -> tuple[str, ...]:
    """A list of strings; `BundleInvalid`."""
    values = need(found, name, list, where=where)
    if not all(isinstance(value, str) for value in values):
        raise invalid(where, got="something that is no string", wanted=f"{name}: strings")
    return tuple(values)


def invalid(where: str, *, got: str, wanted: str) -> BundleInvalid:
    """The error of a reader."""
    return BundleInvalid(f"{where} is out of order.", got=got, wanted=wanted, do="Get the file again from whoever made it, or leave it out.")
