"""Causal attention of float32 on a CPU, compiled (`attention.c`); `microtome/compiled.py` says when.

Results do not depend on the number of threads.
"""

import ctypes
from pathlib import Path

from microtome.compiled import INTEGER, POINTER, Library, spread
from microtome.shapes import Float, Tensor

LIBRARY = Library(
    "attention",
    home=Path(__file__).parent,
    sources=("attention.c",),
    arguments={"attention": (POINTER, POINTER, POINTER, POINTER, POINTER, POINTER, INTEGER, INTEGER)},
)
WIDTHS = 64
"""Of which number a head's width must be a multiple."""
_COLUMNS, _BLOCK = 64, 48
"""At most those of attention.c."""


class _Strides(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("batch", "head", "position"))


class _Shape(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("heads", "key_heads", "positions", "width")),
        ("scale", ctypes.c_float),
        *((name, _Strides) for name in ("q", "k", "v", "out")),
    )


def causal_attention(
    q: Float[Tensor, "batch heads pos width"],
    k: Float[Tensor, "batch key_heads pos width"],
    v: Float[Tensor, "batch key_heads pos width"],
    *,
    scale: float | None = None,
) -> Float[Tensor, "batch heads pos width"]:
    """softmax(scale · q kᵀ) v, where each position sees itself and those before it; groups of heads share keys where there are fewer of these.

    `scale` is 1 / √width unless given. The last axis must be dense, its size a multiple of `WIDTHS`; heads a multiple of key heads.
    """
    batch, heads, positions, width = q.shape
    out = q.new_empty(batch, positions, heads, width).transpose(1, 2)
    strides = {name: _Strides(*x.stride()[:3]) for name, x in (("q", q), ("k", k), ("v", v), ("out", out))}
    shape = ctypes.byref(
        _Shape(heads=heads, key_heads=k.shape[1], positions=positions, width=width, scale=width**-0.5 if scale is None else scale, **strides)
    )
    rows = -(-positions // _COLUMNS) * _COLUMNS

    def part(first: int, last: int) -> None:
        scratch = q.new_empty(rows * width + _BLOCK * (2 * width + rows))
        LIBRARY.call("attention", shape, q, k, v, out, scratch, first, last)

    spread(part, batch * k.shape[1], grain=1)
    return out
