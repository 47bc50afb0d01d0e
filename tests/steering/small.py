"""Small models, directions, a dictionary, prompts and one edit of each kind for the tests of this room."""

from functools import cache
from typing import Literal, TypeAlias

import torch

from microtome.conversation import Conversation, Turn
from microtome.dictionaries import SAE, TopK
from microtome.directions import Direction
from microtome.models import Model, Site, tiny
from microtome.steering import (
    Ablate,
    Add,
    Cap,
    Clamp,
    Condition,
    Conditional,
    Edit,
    Feature,
    Multiply,
    Noise,
    Scale,
    SetCoordinate,
    Swap,
    Turned,
    Where,
    Window,
    of_norm,
    raw,
    times_current,
    times_max,
    turned,
)

Scope: TypeAlias = Literal["token", "turn", "conversation"]
SITE = Site("resid_post", 1)
FEATURE = Feature(dictionary="small", index=3, max_activation=2.0)
PROMPTS = ("the world and the user", "hello of hello in the world, is that an assistant?")
CHAT = Conversation(
    turns=(Turn(role="system", content="be kind"), Turn(role="user", content="hello world"), Turn(role="assistant", content="is it?"))
)


@cache
def tiny_model(family: str) -> Model:
    return tiny(family)


def vector(seed: int = 0, *, width: int = 32) -> torch.Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))


def direction(seed: int = 0, *, site: Site = SITE) -> Direction:
    made = Direction(name=f"random {seed}", site=site, vector=vector(seed))
    return made.calibrated(torch.randn(400, generator=torch.Generator().manual_seed(seed)), source="random")


def small_dictionary(*, site: Site = SITE, d_dict: int = 64) -> SAE:
    random = torch.Generator().manual_seed(5)
    weights = {
        "W_enc": torch.randn(d_dict, 32, generator=random) / 6,
        "W_dec": torch.nn.functional.normalize(torch.randn(d_dict, 32, generator=random), dim=1),
        "b_enc": torch.randn(d_dict, generator=random) / 10,
        "b_dec": torch.randn(32, generator=random) / 10,
    }
    return SAE(site=site, nonlinearity=TopK(k=16), weights=weights, input_scale=1.3)


DICTIONARIES = {"small": small_dictionary()}

EDITS: dict[str, Edit] = {
    "add": Add(component=direction(), strength=raw(0.7)),
    "add to a band": Add(component=direction(), strength=of_norm(0.2), sites=tuple(Site("resid_post", layer) for layer in range(3))),
    "add a feature": Add(component=FEATURE, strength=times_max(2)),
    "ablate": Ablate(component=direction(1)),
    "ablate after the prompt": Ablate(component=direction(1), where=Where(phases=("generation",))),
    "scale": Scale(component=direction(2), strength=times_current(1.5)),
    "set": SetCoordinate(component=direction(3), strength=raw(2)),
    "cap": Cap(component=direction(4), strength=raw(0.1), side="ceil"),
    "clamp": Clamp(feature=FEATURE, strength=times_max(3)),
    "multiply": Multiply(feature=FEATURE, strength=times_current(-4)),
    "swap the last token": Swap(sites=(SITE,), source=PROMPTS[1], source_where=Where(positions=(Window(start=-1),))),
    "noise": Noise(sites=(SITE,), strength=of_norm(0.5), seed=3),
    "random": Turned(of=Add(component=direction(), strength=of_norm(0.3)), seed=2),
    "random multiply": turned(Multiply(feature=FEATURE, strength=times_current(-4), where=Where(predicate="word")), seed=1),
    "add to words": Add(component=direction(), strength=raw(3), where=Where(predicate="word")),
    "add to the first steps": Add(component=direction(), strength=raw(3), where=Where(steps=(Window(stop=3),))),
}

SCOPES: tuple[Scope, ...] = ("token", "turn", "conversation")


def conditions(scope: Scope) -> dict[str, Condition]:
    return {
        "projection": Condition(component=direction(7, site=Site("resid_post", 0)), threshold=raw(0.5), scope=scope),
        "feature": Condition(component=FEATURE, threshold=raw(0.0), scope=scope),
        "probe": Condition(component=direction(7), bias=0.1, threshold=raw(0.9), scope=scope),
    }


CONDITIONALS: dict[str, Edit] = {
    f"add by {name} of the {scope}": Conditional(condition=condition, then=EDITS["add"])
    for scope in SCOPES
    for name, condition in conditions(scope).items()
}
