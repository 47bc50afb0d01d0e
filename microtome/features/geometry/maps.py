"""A map from an index to an artifact, kind `map`, and back.

| file | holds |
|---|---|
| `points.safetensors` | `feature` i32, `place` f32 [n, 2] from −1 to 1, `cluster` i32 |
| `clusters.json` | every cluster with its label, and how much of the neighbourhoods the map keeps |
"""

import json
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from microtome.artifacts import Artifact, Draft, Opened, existing
from microtome.config import from_dict, to_dict
from microtome.errors import QueryInvalid
from microtome.features.arrays import write_arrays
from microtome.features.geometry.config import MapConfig
from microtome.features.geometry.layout import NEIGHBOURS, clustered, directions, laid_out, neighbours_kept
from microtome.features.geometry.naming import named, terms_of
from microtome.features.geometry.records import Cluster, MapView
from microtome.features.index import FeatureIndex
from microtome.features.points import FILE, KIND, place_of, points_of
from microtome.features.store import Store
from microtome.progress import Progress, Throttled

_CLUSTERS = "clusters.json"


@final
class FeatureMap(Opened):
    """A finished map, opened."""

    kind: ClassVar[str] = KIND

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self.points = points_of(artifact)
        content: dict[str, Any] = json.loads(artifact.file(_CLUSTERS).read_bytes())
        self.config: MapConfig = from_dict(MapConfig, artifact.manifest.config)
        self.clusters: tuple[Cluster, ...] = tuple(from_dict(Cluster, each) for each in content["clusters"])
        self.facts: dict[str, float] = content["facts"]

    def view(self, index: FeatureIndex) -> MapView:
        """All of it with what colours the points, for a page."""
        store = index.store
        features, places, cluster = self.points
        kinds, kind = np.unique(np.array(store.rows.texts["rule_kind"])[features], return_inverse=True)
        sites = [str(site) for site in store.numbering.sites]
        site = np.searchsorted(store.numbering.starts, features, side="right") - 1
        return MapView(
            index=index.name,
            id=self.id,
            layout=self.config.layout,
            n_features=index.n_features,
            features=tuple(features.tolist()),
            x=tuple(np.round(places[:, 0].astype(np.float64), 5).tolist()),
            y=tuple(np.round(places[:, 1].astype(np.float64), 5).tolist()),
            cluster=tuple(cluster.tolist()),
            density=tuple(float(f"{value:.3g}") for value in store.rows.numbers["density"][features].tolist()),
            kind=tuple(kind.tolist()),
            kinds=tuple(kinds.tolist()),
            site=tuple(site.tolist()),
            sites=tuple(sites),
            clusters=self.clusters,
            facts=self.facts,
        )


def make_map(
    index: FeatureIndex,
    *,
    out: Path | None = None,
    config: MapConfig = MapConfig(),  # noqa: B008  frozen
    progress: Progress | None = None,
) -> FeatureMap:
    """Lay out the features of an index that fire, find clusters and name them; by default as the map of the index' own name in its workspace.

    What is there already is opened. Raises `DependencyMissing` (scikit-learn), `QueryInvalid` (fewer than 3 features fire), `ArtifactConflict`
    (another map there), `DiskFull`.
    """
    store = index.store
    path = store.workspace.place(KIND, index.name) if out is None else out
    inputs = {"index": index.id}
    if existing(path, KIND, config=config, inputs=inputs) is not None:
        return FeatureMap.open(path)
    tell = Throttled(progress)
    with Draft.open(path, KIND, config=config, inputs=inputs) as draft:
        features = np.flatnonzero(store.rows.numbers["count"] > 0).astype(np.int32)
        if len(features) < 3:
            draft.abandon()
            do = "Index more text, or another dictionary."
            raise QueryInvalid(f"{index.name} has too few features for a map.", got=f"{len(features)} that fire", wanted="at least 3", do=do)
        rows = directions(store, features)
        places = laid_out(rows, config, tell=lambda done, total: tell("lay out", done, total, unit="iterations"))
        cluster = clustered(places, config)
        clusters = named(terms_of(store, features), places, cluster, seed=config.seed)
        facts = {
            "neighbours_kept": neighbours_kept(rows, places, seed=config.seed),
            "by_chance": min(NEIGHBOURS, len(features) - 1) / (len(features) - 1),
            "outside": float((cluster < 0).mean()),
        }
        tell("name clusters", len(clusters), len(clusters), unit="clusters")
        with draft.place(FILE) as file:
            write_arrays(file, {"feature": features, "place": places, "cluster": cluster})
        draft.write(_CLUSTERS, json.dumps({"clusters": [to_dict(each) for each in clusters], "facts": facts}, ensure_ascii=False))
        draft.finish(summary={"index": index.name, "features": len(features), "clusters": len(clusters), **facts})
    return FeatureMap.open(path)


def map_of(store: Store) -> FeatureMap | None:
    """The map of an index in its workspace, the one of its own name where there are several; None where there is none."""
    place = place_of(store.workspace, index_id=store.id, name=store.name)
    return None if place is None else FeatureMap.open(place)
