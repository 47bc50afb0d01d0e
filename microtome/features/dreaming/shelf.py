"""The dreams of a feature that lie in the workspace, finished or not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from microtome.artifacts import DRAFT, FOLDERS, MANIFEST
from microtome.errors import MicrotomeError
from microtome.features.dreaming.dreams import read_dream
from microtome.features.dreaming.records import KeptDream
from microtome.features.index import FeatureIndex


def dreams_of(index: FeatureIndex, feature: int) -> tuple[KeptDream, ...]:
    """What was dreamt of a feature, or of what it feeds: the strongest first. Raises `FeatureNotFound`.

    A folder that cannot be read is passed over.
    """
    known = index.store.known(feature)
    found = [made for made in all_dreams(index) if made.dream.feature == known]
    return tuple(sorted(found, key=lambda each: -max((one.share for one in each.dream.front), default=0.0)))


def all_dreams(index: FeatureIndex) -> Iterator[KeptDream]:
    """What was dreamt of any feature of an index, by name."""
    place = index.store.workspace.path / FOLDERS["dream"]
    for folder in sorted(place.iterdir() if place.is_dir() else []):
        if _index_of(folder) == index.id and (made := _read(folder)) is not None:
            yield made


def _index_of(folder: Path) -> str | None:
    """The id of the index that a dream, or a draft of one, is of."""
    for name in (MANIFEST, DRAFT):
        try:
            content: Any = json.loads((folder / name).read_bytes())
            return content["inputs"]["index"]
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return None


def _read(folder: Path) -> KeptDream | None:
    try:
        return KeptDream(name=folder.name, is_finished=(folder / MANIFEST).is_file(), dream=read_dream(folder))
    except (MicrotomeError, OSError, ValueError):
        return None
