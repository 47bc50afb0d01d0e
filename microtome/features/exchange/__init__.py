"""Features in the formats of other tools: written from an index, read as a `Bundle`, one feature after another.

Begin with `open_bundle(path)` and `export_index(index.store, out, format_name="neuronpedia")`. `record.py` is what all formats can say of a feature;
each format is one file that maps its own JSON to and from it. To add one: a class with `detect`, `read` and, where it is written, `write` in a
file of its own, registered with `EXCHANGES.register("name")`, and a line in docs/reference/formats.md.
"""

from microtome.features.exchange import circuit_tracer, delphi, neuron_record, neuronpedia, neuronpedia_upload, saedashboard
from microtome.features.exchange.export import convert, export_index, is_bundle, open_bundle
from microtome.features.exchange.format import EXCHANGES, Bundle, Cache, Entries, Exchange, Writable, writer_of, written_formats
from microtome.features.exchange.gather import Wanted, bundle_of
from microtome.features.exchange.record import Bars, Example, Explanation, FeatureRecord, Interval, Source, TokenLogit

__all__ = [
    "open_bundle",
    "is_bundle",
    "export_index",
    "convert",
    "bundle_of",
    "Wanted",
    "Bundle",
    "Exchange",
    "Writable",
    "EXCHANGES",
    "written_formats",
    "writer_of",
    "Cache",
    "Entries",
    "FeatureRecord",
    "Source",
    "Example",
    "Interval",
    "TokenLogit",
    "Bars",
    "Explanation",
    "circuit_tracer",
    "delphi",
    "neuron_record",
    "neuronpedia",
    "neuronpedia_upload",
    "saedashboard",
]
