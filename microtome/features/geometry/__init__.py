"""The geometry map: every feature that fires as a point, near those that write in nearly its direction, with clusters that name themselves.

Makes a `FeatureMap` from an index: begin with `make_map`, computed once and kept as an artifact; `map_of` finds the one of an index. Another layout
is a branch of `laid_out`. Needs scikit-learn and openTSNE: `pip install 'microtome[map]'`.
"""

from microtome.features.geometry.config import MapConfig
from microtome.features.geometry.maps import FeatureMap, make_map, map_of
from microtome.features.geometry.records import Cluster, ClusterTerm, MapView

__all__ = ["MapConfig", "FeatureMap", "make_map", "map_of", "MapView", "Cluster", "ClusterTerm"]
