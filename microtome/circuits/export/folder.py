"""A folder of graph files as front ends serve it: `<slug>.json` each, and `graph-metadata.json` that lists them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microtome.artifacts import disk_full_named, write_atomic
from microtome.circuits.export.graph_file import GraphFile, parsed_json
from microtome.errors import GraphInvalid

INDEX = "graph-metadata.json"
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")


def write_graph_file(file: GraphFile, folder: str | Path) -> Path:
    """Write `<slug>.json` into a folder and list it in the folder's index; a graph of the same slug is replaced. Both are whole or as before.

    Raises `GraphInvalid` for a slug that is no plain file name, or an index that cannot be read: then nothing is written.
    """
    slug = file.metadata["slug"]
    if not _SLUG.fullmatch(slug) or f"{slug}.json" == INDEX:
        do = "Give the graph another slug."
        raise GraphInvalid("the slug cannot name a file.", got=repr(slug)[:80], wanted="letters, digits, dots and dashes", do=do)
    root = Path(folder)
    listed = [each for each in read_index(root) if each.get("slug") != slug]
    text = json.dumps(file.to_json(), ensure_ascii=False, allow_nan=False)
    index = json.dumps({"graphs": [*listed, dict(file.metadata)]}, ensure_ascii=False, allow_nan=False, indent=1)
    with disk_full_named(root):
        write_atomic(root / f"{slug}.json", text + "\n")
        write_atomic(root / INDEX, index + "\n")
    return root / f"{slug}.json"


def read_index(folder: str | Path) -> list[Mapping[str, Any]]:
    """The metadata of every graph that a folder lists; none where it has no index. Raises `GraphInvalid` for an index that is malformed."""
    path = Path(folder) / INDEX
    if not path.is_file():
        return []
    value = parsed_json(path)
    graphs = value.get("graphs") if isinstance(value, Mapping) else None
    if not isinstance(graphs, list) or not all(isinstance(each, Mapping) and isinstance(each.get("slug"), str) for each in graphs):
        do = "Repair or remove the file; the graphs themselves are in their own files."
        raise GraphInvalid(f"{path} is no index of graphs.", got=repr(value)[:80], wanted='{"graphs": [{"slug": …}, …]}', do=do)
    return list(graphs)
