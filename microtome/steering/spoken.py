"""Edits in few words, as a command line and an address say them: `add ocean=4`, `clamp wiki/17=5max`, `ablate ocean`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

from microtome.errors import EditInvalid, nearest
from microtome.models import Site
from microtome.steering.along import Ablate, Add, Cap
from microtome.steering.component import Component, Feature
from microtome.steering.compose import EditSet
from microtome.steering.edit import Edit
from microtome.steering.of_feature import Clamp
from microtome.steering.strength import Strength
from microtome.steering.where import EVERYWHERE, Where

SpokenKind: TypeAlias = Literal["add", "ablate", "clamp", "floor", "ceil"]
SPOKEN: tuple[SpokenKind, ...] = get_args(SpokenKind)
_KINDS: Mapping[str, SpokenKind] = {kind: kind for kind in SPOKEN}


def spoken(kind: SpokenKind, words: str, *, component: Callable[[str], Component], where: Where = EVERYWHERE, sites: tuple[Site, ...] = ()) -> Edit:
    """The edit of `NAME=AMOUNT` (of `ablate`: `NAME`). `component` looks names up. Raises `EditInvalid`, and what `component` raises."""
    if kind == "ablate":
        return Ablate(component=component(words), where=where, sites=sites)
    name, equals, amount = words.rpartition("=")
    if not equals or not name:
        do = "Write NAME=AMOUNT: ocean=4, ocean=0.1norm, wiki/17=5max."
        raise EditInvalid(f'"{words}" does not say how much.', got=words, wanted="NAME=AMOUNT", do=do)
    strength, found = Strength.parse(amount), component(name)
    if kind == "add":
        return Add(component=found, strength=strength, where=where, sites=sites)
    if kind == "clamp":
        if not isinstance(found, Feature):
            raise EditInvalid(f'"{name}" is no feature.', got=name, wanted="DICTIONARY/NUMBER", do="Give a direction a floor or a ceil.")
        return Clamp(feature=found, strength=strength, where=where, sites=sites)
    return Cap(component=found, strength=strength, side=kind, where=where, sites=sites)


def spoken_set(texts: Sequence[str], *, component: Callable[[str], Component]) -> EditSet:
    """A set of `KIND WORDS`; edits that meet see, one after the other, what the one before left."""
    made: list[Edit] = []
    for text in texts:
        kind, _, words = text.strip().partition(" ")
        known = _KINDS.get(kind)
        if known is None or not words.strip():
            raise EditInvalid(
                f'"{text}" is no edit.', got=text, wanted="add, ablate, clamp, floor or ceil, and NAME=AMOUNT", do=nearest(kind, SPOKEN)
            )
        made.append(spoken(known, words.strip(), component=component))
    return EditSet(edits=tuple(made), on_conflict="sequence")
