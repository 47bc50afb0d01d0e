"""Edits on the command line: `ocean=4`, `wiki/17=5max`, or a JSON file, with the dictionaries that they name."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from microtome.artifacts import MANIFEST, Workspace
from microtome.errors import CommandInvalid, EditInvalid

if TYPE_CHECKING:
    from microtome.dictionaries import Dictionary
    from microtome.models import Model
    from microtome.steering import Component, Edit, EditSet, Strength, Where


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """The edits of a run."""

    add: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = ()
    """NAME=AMOUNT: add a direction or a feature (DICTIONARY/NUMBER): ocean=4 (its vector), ocean=0.1norm (of the token's length), wiki/17=5max."""
    ablate: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = ()
    """NAME: project a direction or a feature out."""
    clamp: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = ()
    """DICTIONARY/NUMBER=AMOUNT: hold a feature at a value: wiki/17=5max, wiki/17=0."""
    floor: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = ()
    """NAME=AMOUNT: keep the coordinate at or above: assistant-axis=p25."""
    ceil: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = ()
    """NAME=AMOUNT: keep the coordinate at or below."""
    edits: Path | None = None
    """A JSON file of edits, as EditSet.to_json writes them, instead of or beside the others."""
    at: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = ()
    """Sites edited; each direction's own unless given."""
    where: str = "all"
    """Tokens edited: all, prompt, generation, or a where-clause as JSON."""


class Parts:
    """Directions, features and dictionaries of a workspace, by the names that a command line gives them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.dictionaries: dict[str, Dictionary] = {}

    def component(self, text: str) -> "Component":
        """`NAME` is a direction, `DICTIONARY/NUMBER` a feature with its maximum, if an index of that name knows it."""
        from microtome.directions import load_direction
        from microtome.steering import Feature

        dictionary, slash, number = text.rpartition("/")
        if slash and number.isdigit() and not (Path(text) / MANIFEST).is_file():
            self.load(dictionary)
            return Feature(dictionary=dictionary, index=int(number), max_activation=self._maximum(dictionary, int(number)))
        path = Path(text) if (Path(text) / MANIFEST).is_file() else self._workspace.find("direction", text)
        return load_direction(path)

    def load(self, name: str) -> None:
        """Open a dictionary of the workspace, once."""
        from microtome.dictionaries import DictionarySet, load_any

        if name in self.dictionaries:
            return
        loaded = load_any(self._workspace.find("dictionary", name))
        if isinstance(loaded, DictionarySet):
            do = "Name a dictionary of one site."
            raise EditInvalid(f'"{name}" is a set of dictionaries.', got=f"{len(loaded.members)} dictionaries", wanted="one", do=do)
        self.dictionaries[name] = loaded

    def _maximum(self, dictionary: str, index: int) -> float | None:
        from microtome.features import FeatureIndex

        if dictionary not in self._workspace.names("index"):
            return None
        opened = FeatureIndex.open(self._workspace.place("index", dictionary), self._workspace)
        return opened.card(index).statistics.max if 0 <= index < opened.n_features else None


def edits_of(options: EditOptions, parts: Parts, model: "Model") -> "EditSet":
    """The set that the options ask for. Nothing asked for raises `CommandInvalid`."""
    from microtome.steering import Ablate, Add, Cap, Clamp, EditSet, Feature

    where, sites = _where(options.where), tuple(model.site(site) for site in options.at)
    made: list[Edit] = []
    for text in options.add:
        name, strength = _amount(text)
        made.append(Add(component=parts.component(name), strength=strength, where=where, sites=sites))
    made += [Ablate(component=parts.component(name), where=where, sites=sites) for name in options.ablate]
    for text in options.clamp:
        name, strength = _amount(text)
        feature = parts.component(name)
        if not isinstance(feature, Feature):
            raise CommandInvalid(f'"{name}" is no feature.', got=name, wanted="DICTIONARY/NUMBER", do="Use --floor or --ceil for a direction.")
        made.append(Clamp(feature=feature, strength=strength, where=where, sites=sites))
    for text in options.floor:
        name, strength = _amount(text)
        made.append(Cap(component=parts.component(name), strength=strength, side="floor", where=where, sites=sites))
    for text in options.ceil:
        name, strength = _amount(text)
        made.append(Cap(component=parts.component(name), strength=strength, side="ceil", where=where, sites=sites))
    if options.edits is not None:
        read = _file(options.edits)
        for name in _named(read.to_json()):
            parts.load(name)
        return EditSet(edits=(*made, *read.edits), on_conflict=read.on_conflict, on_unmatched=read.on_unmatched)
    if not made:
        do = "Give --add NAME=AMOUNT, --ablate NAME, --clamp DICTIONARY/NUMBER=AMOUNT, --floor, --ceil or --edits FILE."
        raise CommandInvalid("there is nothing to edit.", got="no edits", wanted="at least one", do=do)
    return EditSet(edits=tuple(made))


def _amount(text: str) -> "tuple[str, Strength]":
    from microtome.steering import Strength

    name, equals, amount = text.rpartition("=")
    if not equals or not name:
        do = "Write NAME=AMOUNT: ocean=4, ocean=0.1norm, wiki/17=5max."
        raise CommandInvalid(f'"{text}" does not say how much.', got=text, wanted="NAME=AMOUNT", do=do)
    return name, Strength.parse(amount)


def _where(text: str) -> "Where":
    from microtome.config import from_dict
    from microtome.steering import Where

    if text == "all":
        return Where()
    if text == "prompt":
        return Where(phases=("prompt",))
    if text == "generation":
        return Where(phases=("generation",))
    try:
        return from_dict(Where, json.loads(text))
    except (ValueError, AttributeError) as error:
        wanted = 'all, prompt, generation, or JSON like {"roles": ["user"]}'
        raise CommandInvalid(f"this is no where-clause: {error}.", got=text, wanted=wanted, do="Correct it.") from error


def _file(path: Path) -> "EditSet":
    from microtome.steering import EditSet

    try:
        return EditSet.from_json(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise EditInvalid(f"{path} is not JSON.", got=str(error), wanted="edits as EditSet.to_json writes them", do="Correct it.") from error


def _named(value: object) -> Iterable[str]:
    """The dictionaries that the JSON of edits names."""
    if isinstance(value, Mapping):
        if isinstance(value.get("dictionary"), str):
            yield str(value["dictionary"])
        for item in value.values():
            yield from _named(item)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item)
