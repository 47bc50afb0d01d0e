"""Evolutionary prompt optimisation (Thompson, Straznickas and Sklar 2024, "Fluent dreaming for language models", arXiv 2402.01702).

Every parent p has a penalty, and minimises  penalty_p · cross-entropy − activation / largest in the store.  In an iteration each makes children
that differ from it in one token: the place drawn evenly, the token from the `top_k` that the gradient likes best there. Slot p then keeps the
best of all parents and children under its own penalty. Every `restart_every` iterations all begin again from the best one under a penalty drawn
around the middle of the range. Each iteration draws from a generator of its own, so that a resumed run goes on as it would have.
"""

from dataclasses import dataclass

import numpy as np

from microtome.features.arrays import Array
from microtome.features.dreaming.config import DreamConfig
from microtome.features.dreaming.front import Point, front
from microtome.features.dreaming.judge import Judge, Judged, Prompt, random_prompt

_TRIES = 6
"""How often a child that is no text is drawn anew."""


@dataclass(kw_only=True)
class Population:
    """Where an evolution stands."""

    iteration: int
    parents: list[Prompt]
    judged: list[Judged]
    front: tuple[Point, ...]

    def note(self, prompts: list[Prompt], judged: list[Judged]) -> None:
        """Let newly tried prompts onto the front."""
        fresh = (
            Point(tokens=prompt, share=one.share, cross_entropy=one.cross_entropy, iteration=self.iteration)
            for prompt, one in zip(prompts, judged, strict=True)
        )
        self.front = front((*self.front, *fresh))


def penalties(config: DreamConfig) -> Array:
    """One a parent, evenly in the logarithm; the middle of the range for one alone."""
    if config.population == 1:
        return np.array([np.sqrt(config.penalty_low * config.penalty_high)])
    return np.geomspace(config.penalty_low, config.penalty_high, config.population)


def begin(judge: Judge, config: DreamConfig, *, corpus: list[tuple[Prompt, Judged]]) -> Population:
    """The first parents: random text, or for each penalty the best text of the corpus (random text where none of them can be typed)."""
    draw = np.random.default_rng([config.seed, 0])
    allowed = set(judge.usable.tolist())
    pool = [one for one in corpus if allowed.issuperset(one[0]) and judge.is_text(one[0])] if config.start == "corpus" else []
    texts, values = [text for text, _ in pool], [judged for _, judged in pool]
    if not texts:
        texts = [random_prompt(judge, draw, length=config.length) for _ in range(config.population)]
        values = judge.judge(texts)
    keep = _losses(values, penalties(config)).argmin(1) if pool else range(config.population)
    made = Population(iteration=0, parents=[texts[i] for i in keep], judged=[values[i] for i in keep], front=())
    made.note(texts, values)
    return made


def advance(judge: Judge, config: DreamConfig, at: Population) -> None:
    """One iteration."""
    at.iteration += 1
    draw = np.random.default_rng([config.seed, at.iteration])
    weights = penalties(config)
    children = _children(judge, config, at, draw=draw)
    judged = judge.judge(children) if children else []
    at.note(children, judged)
    tried, values = [*at.parents, *children], [*at.judged, *judged]
    losses = _losses(values, weights)
    if config.restart_every and at.iteration % config.restart_every == 0:
        middle, half = np.log(config.penalty_low * config.penalty_high) / 2, min(np.log(3), np.log(config.penalty_high / config.penalty_low) / 2)
        penalty = np.exp(draw.uniform(middle - half, middle + half))
        keep = np.full(config.population, int(_losses(values, np.array([penalty]))[0].argmin()))
    else:
        keep = losses.argmin(1)
    at.parents, at.judged = [tried[i] for i in keep], [values[i] for i in keep]


def _losses(judged: list[Judged], weights: Array) -> Array:
    """penalty · cross-entropy − climb, [penalties, prompts]."""
    climb, fluency = np.array([one.climb for one in judged]), np.array([one.cross_entropy for one in judged])
    return weights[:, None] * fluency - climb


def _children(judge: Judge, config: DreamConfig, at: Population, *, draw: np.random.Generator) -> list[Prompt]:
    """New prompts, each once, in the order drawn."""
    top_k = min(config.top_k, len(judge.usable))
    best = judge.slopes(at.parents, penalties(config)).topk(top_k, dim=2, largest=False).indices
    known, found = set(at.parents), list[Prompt]()
    for number, parent in enumerate(at.parents):
        for _ in range(config.children):
            for _ in range(_TRIES):
                place = int(draw.integers(len(parent)))
                token = int(judge.usable[best[number, place, int(draw.integers(top_k))]])
                child = (*parent[:place], token, *parent[place + 1 :])
                if child not in known and judge.is_text(child):
                    known.add(child)
                    found.append(child)
                    break
    return found
