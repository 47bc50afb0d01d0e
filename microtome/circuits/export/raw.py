"""The raw graph of circuit-tracer (`graph.pt`), read without running what is pickled in it.

The file holds tensors and lists, and objects of circuit-tracer's and TransformerLens' own classes (the model's config, the targets). torch's
restricted unpickler reads it; those classes become inert stand-ins, and any other global is refused by name before anything is unpickled.
"""

import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from microtome.circuits.graph import EMBEDDING, ERROR, FEATURE, TARGET, Edges, Graph, Nodes
from microtome.circuits.names import name_of
from microtome.errors import GraphInvalid, PickleRefused
from microtome.shapes import Tensor

_KNOWN = ("circuit_tracer.", "transformer_lens.", "transformers.")
"""Packages whose classes become stand-ins."""
_WANTED = ("input_tokens", "active_features", "activation_values", "selected_features", "adjacency_matrix", "logit_probabilities", "cfg")


class Inert:
    """Stands for an object of another package: keeps what it was given, does nothing."""

    given: tuple[Any, ...]
    fields: dict[str, Any]

    def __new__(cls, *given: Any, **named: Any) -> "Inert":
        made = super().__new__(cls)
        made.given, made.fields = given, dict(named)
        return made

    def __setstate__(self, state: Any) -> None:
        self.fields = dict(state) if isinstance(state, Mapping) else {}


def read_raw(path: str | Path) -> Graph:
    """A `graph.pt` of circuit-tracer as a graph. What it does not hold stays unknown: `config["pre"]` says so of the pre-activations.

    Raises `PickleRefused` where the file would run code or names a class that is not known, `GraphInvalid` where it is damaged or no graph.
    """
    file = Path(path)
    value = _unpickled(file)
    missing = [name for name in _WANTED if name not in value] if isinstance(value, Mapping) else list(_WANTED)
    if missing:
        got = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise _wrong(file, f"it lacks {missing[0]}", got=got[:160])
    try:
        return _graph(value, file)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, RuntimeError) as error:
        raise _wrong(file, "its parts do not fit each other", got=str(error).splitlines()[0][:160] if str(error) else type(error).__name__) from error


def _unpickled(file: Path) -> Any:
    if not file.is_file():
        raise GraphInvalid(f"there is no file {file}.", got="nothing", wanted="a graph.pt of circuit-tracer", do="Check the path.")
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(file) if zipfile.is_zipfile(file) else []
        strange = [name for name in named if not name.startswith(_KNOWN)]
        if strange:
            raise _refused(file, ", ".join(strange)[:160])
        with torch.serialization.safe_globals([(Inert, name) for name in named]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's protocol
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(file, str(error).splitlines()[0][:160]) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
    ) as error:
        raise _wrong(file, "it cannot be unpacked", got=str(error).splitlines()[0][:160] if str(error) else type(error).__name__) from error


def _graph(value: Mapping[str, Any], file: Path) -> Graph:
    """Rows of features and targets; the rest of the square matrix is zero by its making."""
    active, selected, tokens = (_numbers(value[name]) for name in ("active_features", "selected_features", "input_tokens"))
    chosen = active[selected]
    matrix = value["adjacency_matrix"]
    probabilities = _floats(value["logit_probabilities"])
    n_layers, n = _layers(value["cfg"]), len(chosen)
    positions, targets = len(tokens), len(probabilities)
    errors = n_layers * positions
    size = n + errors + positions + targets
    if tuple(matrix.shape) != (size, size):
        raise ValueError(f"a matrix {tuple(matrix.shape)}, not {(size, size)}")
    vocabulary, labels = _targets(value, targets)
    order = np.lexsort((chosen[:, 2], chosen[:, 1], chosen[:, 0]))
    place = np.concatenate([order, np.arange(n, size)])
    rows = np.concatenate([np.arange(n), np.arange(size - targets, size)])
    edges = _edges(matrix, rows=place[rows], columns=place)
    at = np.arange(errors)
    activation = np.ones(size, dtype=np.float32)
    activation[:n] = _floats(value["activation_values"])[selected][order]
    activation[size - targets :] = probabilities
    kinds = np.repeat(np.array([FEATURE, ERROR, EMBEDDING, TARGET]), [n, errors, positions, targets])
    layer = [chosen[order, 0], at // positions, np.full(positions, -1), np.full(targets, n_layers)]
    position = [chosen[order, 1], at % positions, np.arange(positions), np.full(targets, positions - 1)]
    feature = [chosen[order, 2], np.full(errors, -1), tokens, vocabulary]
    zeros = np.zeros(len(rows), dtype=np.float32)
    sums = np.add.reduceat(np.append(edges.weight, 0.0), edges.indptr[:-1]) * (np.diff(edges.indptr) > 0)
    return Graph(
        prompt=str(value.get("input_string", "")),
        tokens=tuple(map(int, tokens)),
        pieces=tuple(f"<{token}>" for token in tokens),
        model=_model_name(value["cfg"]),
        model_fingerprint="",
        quantised=None,
        n_layers=n_layers,
        dictionaries=(_text(value.get("scan", value.get("scan_name"))),),
        nodes=Nodes(
            kind=kinds.astype(np.int8),
            layer=np.concatenate(layer).astype(np.int16),
            position=np.concatenate(position).astype(np.int32),
            feature=np.concatenate(feature).astype(np.int32),
            activation=activation,
        ),
        rows=rows.astype(np.int32),
        edges=edges,
        dropped=zeros,
        dropped_abs=zeros.copy(),
        pre=sums.astype(np.float32),
        target_weight=probabilities,
        target_labels=tuple(name_of(label, position=positions - 1) for label in labels),
        config={"source": "circuit-tracer", "file": file.name, "pre": "unknown"},
    )


def _edges(matrix: Tensor, *, rows: Any, columns: Any) -> Edges:
    """The entries that are not 0, row by row, so that no second matrix of its size is made."""
    sources: list[Any] = []
    weights: list[Any] = []
    for row in rows:
        line = matrix[int(row)].to(torch.float32).numpy()[columns]
        found = np.flatnonzero(line)
        sources.append(found.astype(np.int32))
        weights.append(line[found])
    indptr = np.cumsum([0, *map(len, sources)]).astype(np.int64)
    return Edges(indptr=indptr, source=np.concatenate(sources), weight=np.concatenate(weights))


def _targets(value: Mapping[str, Any], count: int) -> tuple[Any, tuple[str, ...]]:
    """Token ids and texts: of `logit_targets` (objects or pairs of text and id), or of the older tensor `logit_tokens`."""
    given = value.get("logit_targets")
    if given is None:
        ids = _numbers(value["logit_tokens"])
        return ids, tuple(f"<{id}>" for id in ids)
    pairs = [_target(each) for each in given]
    if len(pairs) != count:
        raise ValueError(f"{len(pairs)} targets with {count} probabilities")
    return np.array([id for _, id in pairs], dtype=np.int64), tuple(text for text, _ in pairs)


def _target(value: Any) -> tuple[str, int]:
    pair: list[Any]
    if isinstance(value, Inert):
        pair = [value.fields.get("token_str"), value.fields.get("vocab_idx")] if value.fields else list(value.given)
    else:
        pair = list(value)
    return str(pair[0]), int(pair[1])


def _layers(config: Any) -> int:
    fields = config.fields if isinstance(config, Inert) else dict(config)
    found = fields.get("n_layers", fields.get("num_hidden_layers"))
    if not isinstance(found, int):
        raise ValueError("the model's config does not say its number of layers")
    return found


def _model_name(config: Any) -> str:
    fields = config.fields if isinstance(config, Inert) else dict(config)
    return _text(fields.get("model_name", fields.get("_name_or_path")))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "unknown" if value is None else str(value)[:200]


def _numbers(value: Any) -> Any:
    return torch.as_tensor(value).to(torch.int64).numpy()


def _floats(value: Any) -> Any:
    return torch.as_tensor(value).to(torch.float32).numpy()


def _refused(file: Path, named: str) -> PickleRefused:
    do = "Do not open it with tools that unpickle everything. Ask for the graph's JSON, which can hold no code."
    return PickleRefused(
        f"{file} holds more than a graph, so that reading it would run its code.", got=named, wanted="tensors and known classes", do=do
    )


def _wrong(file: Path, what: str, *, got: str) -> GraphInvalid:
    do = "Save the graph again with circuit-tracer, or export its JSON."
    return GraphInvalid(f"{file} is no raw graph: {what}.", got=got, wanted="a graph.pt of circuit-tracer", do=do)
