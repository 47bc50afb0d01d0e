"""Edits on the command line: `ocean=4`, `wiki/17=5max`, or a JSON file, with the dictionaries that they name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from microtome.artifacts import MANIFEST, Workspace
from microtome.errors import CommandInvalid, EditInvalid

if TYPE_CHECKING:
    from microtome.dictionaries import Dictionary
    from microtome.models import Model
    from microtome.steering import Component, EditSet, Where
    from microtome.steering.serving import Library


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
    """A JSON file of edits, or the name of a saved variant, instead of or beside the others."""
    at: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = ()
    """Sites edited; each direction's own unless given."""
    where: str = "all"
    """Tokens edited: all, prompt, generation, or a where-clause as JSON."""


class Parts:
    """Directions, features, dictionaries and variants of a workspace, by the names that a command line gives them."""

    def __init__(self, workspace: Workspace) -> None:
        from microtome.steering.serving import Library

        self.library = Library(workspace, maximum=lambda dictionary, index: _maximum(workspace, dictionary, index))

    @property
    def dictionaries(self) -> "dict[str, Dictionary]":
        """Those opened so far, by name."""
        return self.library.dictionaries

    def component(self, text: str) -> "Component":
        """As `Library.component`; a direction may also be a path."""
        from microtome.directions import load_direction

        return load_direction(text) if (Path(text) / MANIFEST).is_file() else self.library.component(text)


def _maximum(workspace: Workspace, dictionary: str, index: int) -> float | None:
    from microtome.features import FeatureIndex

    if dictionary not in workspace.names("index"):
        return None
    opened = FeatureIndex.open(workspace.place("index", dictionary), workspace)
    return opened.card(index).statistics.max if 0 <= index < opened.n_features else None


def edits_of(options: EditOptions, parts: Parts, model: "Model") -> "EditSet":
    """The set that the options ask for. Nothing asked for raises `CommandInvalid`."""
    from microtome.steering import SPOKEN, EditSet, spoken

    where, sites = _where(options.where), tuple(model.site(site) for site in options.at)
    given: Mapping[str, tuple[str, ...]] = {kind: getattr(options, kind) for kind in SPOKEN}
    made = [spoken(kind, text, component=parts.component, where=where, sites=sites) for kind in SPOKEN for text in given[kind]]
    if options.edits is not None:
        read = _read(options.edits, parts.library)
        return EditSet(edits=(*made, *read.edits), on_conflict=read.on_conflict, on_unmatched=read.on_unmatched)
    if not made:
        do = "Give --add NAME=AMOUNT, --ablate NAME, --clamp DICTIONARY/NUMBER=AMOUNT, --floor, --ceil or --edits FILE."
        raise CommandInvalid("there is nothing to edit.", got="no edits", wanted="at least one", do=do)
    return EditSet(edits=tuple(made))


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


def _read(given: Path, library: "Library") -> "EditSet":
    """The edits of a JSON file, in which names of the workspace may stand, or of a saved variant."""
    if not given.is_file() and str(given) in library.workspace.names("variant"):
        edits = library.variant(str(given)).edits
        library.open_named(edits)
        return edits
    try:
        return library.edits(json.loads(given.read_text(encoding="utf-8-sig")))
    except ValueError as error:
        raise EditInvalid(f"{given} is not JSON.", got=str(error), wanted="edits as EditSet.to_json writes them", do="Correct it.") from error
