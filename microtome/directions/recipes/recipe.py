"""What every recipe gives, and the registry of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch

from microtome.conversation import Conversation
from microtome.directions.direction import Direction
from microtome.directions.reading import Passage, Reader
from microtome.errors import NotEnoughTokens
from microtome.models import Model, Site
from microtome.registry import Registry
from microtome.shapes import Float, Tensor
from microtome.stats import Result

Writer: TypeAlias = Callable[[Sequence[Conversation]], Sequence[str]]
"""Writes a reply to each conversation: the model itself, generating."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A direction, what was measured of it, and what it does not show."""

    direction: Direction
    results: tuple[Result, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"direction": self.direction.to_json(), "results": list(self.results), "notes": list(self.notes)}


R = TypeVar("R", bound=Callable[..., object])
RECIPES: "Registry[Callable[..., object]]" = Registry("direction recipe")


def recipe(name: str) -> Callable[[R], R]:
    """`RECIPES.register(name)` for a function that stays known by its own type."""

    def add(function: R) -> R:
        RECIPES.register(name)(function)
        return function

    return add


def depth(model: Model, share: float = 2 / 3) -> Site:
    """`resid_post` of the layer that lies so deep; two thirds is where concepts and emotions are usually read."""
    return Site("resid_post", min(model.n_layers - 1, max(0, round(share * model.n_layers) - 1)))


def made_by(reader: Reader, name: str, **config: object) -> dict[str, Any]:
    """Provenance: the recipe, where it read, and its settings."""
    return {"recipe": name, "model": reader.model.ref, "quantised": reader.model.quantised, "span": reader.span, **config}


def cosine(a: Float[Tensor, "width"], b: Float[Tensor, "width"]) -> float:
    """⟨a, b⟩/(‖a‖‖b‖), in fp64; 0 where either is 0."""
    x, y = a.double(), b.double()
    length = float(x.norm() * y.norm())
    return float(x @ y) / length if length else 0.0


def mean_norm(rows: Float[Tensor, "n width"]) -> float:
    """The mean length of the rows."""
    return float(rows.double().norm(dim=1).mean())


def need(passages: Sequence[object], *, at_least: int, what: str) -> None:
    """Raise `NotEnoughTokens` for too few of them."""
    if len(passages) < at_least:
        raise NotEnoughTokens(f"too few {what}.", got=len(passages), wanted=f"at least {at_least}", do="Give more.")


class Tokens(NamedTuple):
    """What a direction does to the output directly."""

    raises: tuple[str, ...]
    lowers: tuple[str, ...]


def top_tokens(model: Model, direction: Direction, *, n: int = 8) -> Tokens:
    """The tokens whose logits the direction raises and lowers most, read through the final norm's gain and the unembedding."""
    scores, known = model.direct_logits(direction.unit_vector[None])[0].cpu(), model.vocabulary_mask().cpu()
    ends = (scores.masked_fill(~known, -math.inf), (-scores).masked_fill(~known, -math.inf))
    return Tokens(*(tuple(model.tokenizer.piece(int(token)) for token in end.topk(min(n, int(known.sum()))).indices) for end in ends))


def shuffled(n: int, *, seed: int) -> list[int]:
    """A random order of 0 … n − 1."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()


def passages_json(groups: Mapping[str, Sequence[Passage]]) -> dict[str, int]:
    """How many passages of each kind, for provenance."""
    return {name: len(group) for name, group in groups.items()}
