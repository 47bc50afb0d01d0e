"""How dictionaries are stored, one file a format: microtome's own (`native`), and those of other libraries, each with `detect`, `read` and `write`.

Begin with `load_any(path_or_hub_reference)`. To add a format: a class with those three in a file of its own, registered with
`FORMATS.register("name")`, a line in docs/reference/formats.md, and `microtome.testing.check_format`.

`plain.py` is the common ground that readers and writers go through, `hooks.py` the only place that knows other libraries' names for sites,
`tensors.py` the strict reading of files.
"""

from microtome.dictionaries.formats import circuit_tracer, dictionary_learning, gemma_scope, gemma_scope_2, llama_scope, saelens, sparsify
from microtome.dictionaries.formats.format import FORMATS, Format, Hints, Read
from microtome.dictionaries.formats.hooks import lens_hook, lens_name, module_hook, module_name
from microtome.dictionaries.formats.load import detect, load_any, load_dictionary, read_foreign, write_foreign
from microtome.dictionaries.formats.native import WEIGHTS, read_any, read_weights, save, write_weights

__all__ = [
    "FORMATS",
    "Format",
    "Hints",
    "Read",
    "WEIGHTS",
    "circuit_tracer",
    "detect",
    "dictionary_learning",
    "gemma_scope",
    "gemma_scope_2",
    "lens_hook",
    "lens_name",
    "llama_scope",
    "load_any",
    "load_dictionary",
    "module_hook",
    "module_name",
    "read_any",
    "read_foreign",
    "read_weights",
    "saelens",
    "save",
    "sparsify",
    "write_foreign",
    "write_weights",
]
