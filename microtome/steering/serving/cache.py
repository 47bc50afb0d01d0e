"""Key-value caches of rows that began at different times, as one: the rows' last columns stand below each other, zeros before shorter ones.

Keys are cached with their own positions in them, so a row may stand in any column as long as its neighbours stand beside it.
"""

from collections.abc import Sequence
from typing import Any

import torch

from microtome.errors import ModelUnsupported
from microtome.shapes import Float, Tensor


def join(cache: Any, other: Any, *, width: int) -> None:
    """Put the rows of `other` below those of `cache`, both `width` columns wide from now on."""
    for mine, theirs in zip(_layers(cache), _layers(other), strict=True):
        columns = _kept(mine, width)
        mine.keys = torch.cat([_fit(mine.keys, columns), _fit(theirs.keys, columns)])
        mine.values = torch.cat([_fit(mine.values, columns), _fit(theirs.values, columns)])
        _say_width(mine, width)


def keep(cache: Any, rows: Sequence[int], *, width: int) -> None:
    """Keep only these rows, and of them the last `width` columns."""
    for layer in _layers(cache):
        columns = _kept(layer, width)
        chosen = torch.tensor(rows, device=layer.keys.device)
        layer.keys = _fit(layer.keys, columns).index_select(0, chosen)
        layer.values = _fit(layer.values, columns).index_select(0, chosen)
        _say_width(layer, width)


class RowOfCache:
    """One row of a cache, to be read and written as if it were alone."""

    def __init__(self, cache: Any, row: int) -> None:
        self.layers = [_RowOfLayer(layer, row) for layer in cache.layers]


class _RowOfLayer:
    def __init__(self, layer: Any, row: int) -> None:
        self._layer, self._row = layer, row

    @property
    def keys(self) -> Tensor:
        return self._layer.keys[self._row : self._row + 1]

    @keys.setter
    def keys(self, new: Tensor) -> None:
        self._layer.keys[self._row : self._row + 1] = new

    @property
    def values(self) -> Tensor:
        return self._layer.values[self._row : self._row + 1]

    @values.setter
    def values(self, new: Tensor) -> None:
        self._layer.values[self._row : self._row + 1] = new


def _layers(cache: Any) -> list[Any]:
    """The layers that hold keys and values (some families share those of another layer). Other kinds of memory raise `ModelUnsupported`."""
    used = [layer for layer in cache.layers if layer.is_initialized]
    for layer in used:
        known = isinstance(layer.keys, Tensor) and isinstance(layer.values, Tensor) and layer.keys.ndim == layer.values.ndim == 4
        if not known:
            do = "Use `generate`, which makes a batch and ends it."
            got, wanted = type(layer).__name__, "keys and values of every token"
            raise ModelUnsupported("this model's memory cannot be joined row by row.", got=got, wanted=wanted, do=do)
    return used


def _kept(layer: Any, width: int) -> int:
    """How many of the last `width` columns a layer keeps: one that slides keeps those before the next token's window."""
    return min(width, layer.sliding_window - 1) if layer.is_sliding else width


def _say_width(layer: Any, width: int) -> None:
    if layer.is_sliding:
        layer.cumulative_length = width


def _fit(x: Float[Tensor, "rows heads have size"], columns: int) -> Float[Tensor, "rows heads columns size"]:
    """The last columns; zeros before them where there are too few."""
    have = x.shape[2]
    return x[:, :, have - columns :] if have >= columns else torch.nn.functional.pad(x, (0, 0, columns - have, 0))
