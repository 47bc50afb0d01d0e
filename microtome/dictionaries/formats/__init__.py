"""How dictionaries are stored, one file a format."""

from microtome.dictionaries.formats.native import WEIGHTS, load_dictionary, read_weights, save

__all__ = ["WEIGHTS", "load_dictionary", "read_weights", "save"]
