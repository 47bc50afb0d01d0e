"""Graphs in the files of other tools: circuit-tracer's and Neuronpedia's graph JSON, read and written; circuit-tracer's raw `graph.pt`, read.

Begin with `file_of(view(graph), scan=…)` and `write_graph_file(file, folder)`; back with `view_from(read_graph_file(path))`. `graph_file.py` is what
such a file holds, `convert.py` what it means here, `folder.py` a folder with its index, `raw.py` the pickle.
"""

from microtome.circuits.export.convert import Exported, file_of, view_from
from microtome.circuits.export.folder import read_index, write_graph_file
from microtome.circuits.export.graph_file import GraphFile, PeerNode, QParams, parse_graph_file, read_graph_file
from microtome.circuits.export.raw import read_raw

__all__ = [
    "Exported",
    "GraphFile",
    "PeerNode",
    "QParams",
    "file_of",
    "parse_graph_file",
    "read_graph_file",
    "read_index",
    "read_raw",
    "view_from",
    "write_graph_file",
]
