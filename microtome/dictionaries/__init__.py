"""Dictionaries: what activations are made of, as a few active features a token.

Made by `microtome.training`, or read with `load_dictionary(path)`. Begin with `codes = dictionary.encode(x)` and `dictionary.decode(codes)`;
`dictionary.direction(i)` is what one unit of feature `i` adds to the model. Everything is in the model's own units. A kind is sites: an `SAE` reads
and writes one, a `Transcoder` reads one and writes others, a `Crosscoder` reads and writes several, a `DictionarySet` has one of them a layer.

To extend: a nonlinearity is a frozen dataclass registered with `NONLINEARITIES.register("name")`; another kind of dictionary is a final subclass of
`Dictionary` in its own file (`microtome.testing.check_dictionary` tests it); a file format is a file in `formats/`. `kernels/reference.py`
specifies in plain dense torch what the fast kernels compute.
"""

from microtome.dictionaries.codes import Csr, SparseCodes
from microtome.dictionaries.controls import MeanDictionary, kmeans, pca, random_like
from microtome.dictionaries.crosscoder import Crosscoder
from microtome.dictionaries.dictionary import Dictionary
from microtome.dictionaries.formats import load_any, load_dictionary, read_any, read_weights, save, write_weights
from microtome.dictionaries.layers import DictionarySet
from microtome.dictionaries.neurons import Neurons, neurons
from microtome.dictionaries.nonlinearity import (
    NONLINEARITIES,
    AbsTopK,
    BatchTopK,
    Gated,
    JumpReLU,
    Nearest,
    Nonlinearity,
    ReLU,
    TopK,
    nonlinearity_from_json,
    nonlinearity_to_json,
)
from microtome.dictionaries.sae import SAE
from microtome.dictionaries.transcoder import Transcoder

__all__ = [
    "Dictionary",
    "SparseCodes",
    "Csr",
    "SAE",
    "Transcoder",
    "Crosscoder",
    "DictionarySet",
    "ReLU",
    "JumpReLU",
    "TopK",
    "AbsTopK",
    "BatchTopK",
    "Gated",
    "Nearest",
    "Nonlinearity",
    "NONLINEARITIES",
    "nonlinearity_to_json",
    "nonlinearity_from_json",
    "MeanDictionary",
    "random_like",
    "kmeans",
    "pca",
    "Neurons",
    "neurons",
    "load_dictionary",
    "load_any",
    "read_weights",
    "read_any",
    "save",
    "write_weights",
]
