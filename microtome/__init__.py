"""microtome: the interpretability workbench for language models.

Begin with `microtome demo` in a terminal, or here with `microtome.models.load("demo")`. Every room is its own import
(`from microtome.features import FeatureIndex`); importing the package itself loads neither torch nor transformers.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from microtome.errors import MicrotomeError

if TYPE_CHECKING:
    from pathlib import Path

    from microtome.dictionaries import Dictionary, DictionarySet
    from microtome.models import Site
    from microtome.shapes import Tensor

__version__ = "0.1.0"
__all__ = ["MicrotomeError", "__version__", "load"]


def load(
    ref: "str | Path",
    *,
    format_name: str | None = None,
    reads: "Site | str | None" = None,
    writes: "Site | str | None" = None,
    input_scale: float | None = None,
    gain: "Callable[[Site], Tensor] | None" = None,
) -> "Dictionary | DictionarySet":
    """The dictionary, or set of them, at a path or hub reference, in any format: `microtome.dictionaries.load_any`."""
    from microtome.dictionaries import load_any

    return load_any(ref, format_name=format_name, reads=reads, writes=writes, input_scale=input_scale, gain=gain)
