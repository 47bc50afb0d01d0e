"""How dictionaries are stored, one file a format."""

from microtome.dictionaries.formats.native import load_dictionary, read_weights, save

__all__ = ["load_dictionary", "read_weights", "save"]
