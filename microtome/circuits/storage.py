"""Graphs on disk: an artifact of kind `graph`, whose `graph.safetensors` holds the arrays and `graph.json` all the rest."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from microtome.artifacts import Artifact, Draft
from microtome.config import canonical_json, to_dict
from microtome.errors import GraphInvalid

ARRAYS, FILE = "graph.safetensors", "graph.json"
NODES: Mapping[str, type[np.generic]] = {
    "kind": np.int8,
    "layer": np.int16,
    "position": np.int32,
    "feature": np.int32,
    "activation": np.float32,
}
EDGES: Mapping[str, type[np.generic]] = {"indptr": np.int64, "source": np.int32, "weight": np.float32}
ROWS: Mapping[str, type[np.generic]] = {
    "rows": np.int32,
    "dropped": np.float32,
    "dropped_abs": np.float32,
    "pre": np.float32,
    "target_weight": np.float32,
}
FACTS: Mapping[str, Callable[[Any], Any]] = {
    "prompt": str,
    "tokens": lambda value: tuple(map(int, value)),
    "pieces": lambda value: tuple(map(str, value)),
    "model": str,
    "model_fingerprint": str,
    "quantised": lambda value: None if value is None else str(value),
    "n_layers": int,
    "dictionaries": lambda value: tuple(map(str, value)),
    "target_labels": lambda value: tuple(map(str, value)),
    "config": dict,
}
AGAIN = "Trace the prompt again, or check where the file comes from."


def write(
    path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], *, summary: Mapping[str, Any], replace: bool
) -> Artifact:
    """Write arrays and facts as a graph artifact at `path`."""
    plain = to_dict(dict(facts))
    inputs = {"model": plain["model_fingerprint"], **{f"dictionary_{i}": id for i, id in enumerate(plain["dictionaries"])}}
    config = {name: plain[name] for name in ("prompt", "tokens", "target_labels", "config")}
    with Draft.open(path, "graph", config=config, inputs=inputs, replace=replace) as draft:
        with draft.place(ARRAYS) as temporary:
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)
        draft.write(FILE, canonical_json(plain) + "\n")
        return draft.finish(summary=summary)


def read(path: str | Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """The arrays of the graph artifact at `path` by name, and its other fields."""
    artifact = Artifact.open(path, "graph")
    file = artifact.file(ARRAYS)
    wanted: dict[str, type[np.generic]] = {**ROWS, **{f"nodes.{k}": v for k, v in NODES.items()}, **{f"edges.{k}": v for k, v in EDGES.items()}}
    try:
        arrays = load_file(file)
        facts = json.loads(artifact.file(FILE).read_bytes())
        if set(arrays) != set(wanted) or set(facts) != set(FACTS):
            got = ", ".join(sorted({*arrays, *facts} ^ {*wanted, *FACTS}))
            raise GraphInvalid(f"{path} does not hold the fields of a graph.", got=f"missing or unknown: {got}", wanted="each of them once", do=AGAIN)
        made = {name: convert(facts[name]) for name, convert in FACTS.items()}
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise GraphInvalid(f"{path} does not hold a graph.", got=str(error), wanted="arrays and their description", do=AGAIN) from error
    off = [name for name, kind in wanted.items() if arrays[name].dtype != kind or arrays[name].ndim != 1]
    if off:
        got = f"{arrays[off[0]].dtype} {arrays[off[0]].shape}"
        raise GraphInvalid(f"the array {off[0]} of {path} is of another type.", got=got, wanted=np.dtype(wanted[off[0]]).name, do=AGAIN)
    return arrays, made
