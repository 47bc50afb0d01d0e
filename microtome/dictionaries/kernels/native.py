"""The compiled kernels of dictionaries; `microtome/compiled.py` says when they are built. Results do not depend on the number of threads."""

from pathlib import Path

from microtome.compiled import FLOAT as _F
from microtome.compiled import INTEGER as _I
from microtome.compiled import POINTER as _P
from microtome.compiled import Library, spread

__all__ = ["LIBRARY", "available", "call", "spread", "why_not"]

LIBRARY = Library(
    "native",
    home=Path(__file__).parent,
    sources=("native.h", "native_propose.c", "native_sums.c", "native_update.c"),
    arguments={
        "quantise": (_P, _I, _I),
        "top_k": (_P, _P, _P, _P, _I, _I, _I, _F, _I, _P, _P, _P),
        "above": (_P, _P, _P, _P, _P, _I, _F, _P, _P),
        "take": (_P, _P, _P),
        "decode": (_P, _P, _P, _P, _I, _I, _P, _I, _I),
        "row_dots": (_P, _P, _P, _P, _I, _I, _P, _I, _I),
        "by_feature": (_P, _P, _I, _I, _P, _P, _P),
        "largest": (_P, _P, _P, _I, _F, _I, _P, _P, _P),
        "feature_sums": (_P, _P, _P, _P, _P, _I, _P, _I, _I),
        "adam": (_P, _P, _P, _P, _P, _I, _I, _I),
    },
    counts=frozenset({"largest"}),
    # what a negative result means: no memory, or a pair whose feature is not there
    failures={"top_k": MemoryError, "above": MemoryError, "decode": IndexError, "row_dots": IndexError, "by_feature": IndexError},
)
available, why_not, call = LIBRARY.available, LIBRARY.why_not, LIBRARY.call
