"""The points of a feature map, kind `map`, as the store and `geometry` read them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from microtome.artifacts import Artifact, Workspace, read_manifest
from microtome.features.arrays import Array, open_arrays

KIND, FILE = "map", "points.safetensors"


class Points(NamedTuple):
    """Where the features of an index lie."""

    features: Array
    """Ids, ascending, int32 [n]."""
    places: Array
    """From −1 to 1, float32 [n, 2]."""
    cluster: Array
    """−1 for none, int32 [n]."""


def place_of(workspace: Workspace, *, index_id: str, name: str) -> Path | None:
    """Where the map of an index is, the one called `name` where it has several; None where there is none."""
    for each in sorted(workspace.names(KIND), key=lambda each: (each != name, each)):
        place = workspace.place(KIND, each)
        if read_manifest(place).inputs.get("index") == index_id:
            return place
    return None


def points_of(artifact: Artifact) -> Points:
    """The points of an opened map."""
    arrays = open_arrays(artifact.file(FILE))
    return Points(*(np.asarray(arrays[name]) for name in ("feature", "place", "cluster")))
