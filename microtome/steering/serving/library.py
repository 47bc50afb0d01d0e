"""Names of a workspace that edits may use: directions, features of dictionaries, saved variants."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from microtome.artifacts import MANIFEST, Workspace
from microtome.config import to_dict
from microtome.dictionaries import Dictionary, DictionarySet, load_any
from microtome.directions import load_direction
from microtome.errors import EditInvalid
from microtome.steering.component import Component, Feature
from microtome.steering.compose import EditSet
from microtome.steering.strength import Strength
from microtome.steering.variants import Variant, load_variant

Maximum = Callable[[str, int], float | None]
"""Of a dictionary's name and a feature's number, the feature's largest activation in a corpus, if it is known."""
_COMPONENTS = ("component", "feature", "along")
_STRENGTHS = ("strength", "threshold", "key_strength", "value_strength")
_MAX_DEPTH = 32


class Library:
    """Looks names up in a workspace; dictionaries are opened once and kept.

    In the JSON of edits a direction may be given as its name (`"ocean"`), a feature as `"wiki/17"`, a strength as `"4"`, `"0.1norm"`, `"5max"`.
    """

    def __init__(self, workspace: Workspace, *, maximum: Maximum | None = None) -> None:
        self.workspace = workspace
        self._maximum = maximum
        self._lock = threading.Lock()
        self._variants: dict[str, tuple[int, Variant]] = {}
        self.dictionaries: dict[str, Dictionary] = {}
        """Those opened so far, by name."""

    def component(self, text: str) -> Component:
        """`NAME` is a direction, `DICTIONARY/NUMBER` a feature with its maximum where it is known. Raises `ArtifactMissing`, `EditInvalid`."""
        dictionary, slash, number = text.rpartition("/")
        if slash and number.isascii() and number.isdigit() and len(number) < 16:
            self.dictionary(dictionary)
            maximum = None if self._maximum is None else self._maximum(dictionary, int(number))
            return Feature(dictionary=dictionary, index=int(number), max_activation=maximum)
        return load_direction(self.workspace.find("direction", text))

    def dictionary(self, name: str) -> Dictionary:
        """A dictionary of the workspace. A set of them raises `EditInvalid`."""
        with self._lock:
            if name not in self.dictionaries:
                loaded = load_any(self.workspace.find("dictionary", name))
                if isinstance(loaded, DictionarySet):
                    do = "Name a dictionary of one site."
                    raise EditInvalid(f'"{name}" is a set of dictionaries.', got=f"{len(loaded.members)} dictionaries", wanted="one", do=do)
                self.dictionaries[name] = loaded
            return self.dictionaries[name]

    def edits(self, value: object) -> EditSet:
        """A set from JSON in which names stand for components, with the dictionaries it names opened. Raises what `EditSet.from_json` raises."""
        edits = EditSet.from_json(self._spelled(value, 0))
        self.open_named(edits)
        return edits

    def open_named(self, edits: EditSet) -> None:
        """Open the dictionaries that edits name. Raises `ArtifactMissing`."""
        for name in named_dictionaries(edits.to_json()):
            self.dictionary(name)

    def variant(self, name: str) -> Variant:
        """A saved variant, read again when it was saved again. Raises `ArtifactMissing`."""
        folder = self.workspace.find("variant", name)
        stamp = (folder / MANIFEST).stat().st_mtime_ns
        known = self._variants.get(name)
        if known is None or known[0] != stamp:
            known = self._variants[name] = (stamp, load_variant(folder))
        return known[1]

    def _spelled(self, value: object, depth: int) -> Any:
        """Names and words replaced by what they stand for."""
        if depth > _MAX_DEPTH:
            raise EditInvalid("the edits are nested too deep.", got=f"more than {_MAX_DEPTH} levels", wanted="fewer", do="Flatten them.")
        if isinstance(value, list | tuple):
            return [self._spelled(item, depth + 1) for item in value]
        if not isinstance(value, Mapping):
            return value
        return {str(name): self._meant(str(name), item, depth) for name, item in value.items()}

    def _meant(self, name: str, item: object, depth: int) -> Any:
        if name in _COMPONENTS:
            return to_dict(self.component(item)) if isinstance(item, str) else item
        if isinstance(item, str) and name in _STRENGTHS:
            return to_dict(Strength.parse(item))
        return self._spelled(item, depth + 1)


def named_dictionaries(value: object) -> Iterator[str]:
    """The dictionaries that the JSON of edits names."""
    if isinstance(value, Mapping):
        if isinstance(value.get("dictionary"), str):
            yield str(value["dictionary"])
        for item in value.values():
            yield from named_dictionaries(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from named_dictionaries(item)
