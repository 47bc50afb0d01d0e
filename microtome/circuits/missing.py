"""Missing edges: is a graph right about what does not matter? The tokens with least influence are swapped for others, and so are those with most.

A graph holds attention patterns and leaves out what its dictionaries do not explain, so it can miss a path; a token without influence whose swap
moves the target shows one. A swap keeps the length of the prompt, and a token that begins with a space is swapped for another that does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from microtome.circuits.graph import TARGET, Graph
from microtome.circuits.influence import influence
from microtome.circuits.scale import refuse_turns
from microtome.config import to_dict
from microtome.errors import GraphInvalid
from microtome.models import Model
from microtome.progress import Progress, Throttled
from microtome.stats import Result, bootstrap_rank_correlation, bootstrap_ratio, rank_correlation, shuffled_rank_correlations

_ROWS = 16
"""Swapped prompts in one forward."""


@dataclass(frozen=True, kw_only=True)
class SwapConfig:
    """Which tokens are swapped, and for what."""

    swaps: int = 4
    """Other tokens tried at each position."""
    share: float = 0.34
    """Of the positions compared, those with the least influence are said not to matter, and as many with the most to matter."""
    ends: bool = False
    """Whether the first token (which heads attend to when there is nothing to attend to) and the target's own are swapped too."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SwapTest:
    """One position."""

    position: int
    token: str
    influence: float
    """Of the token's embedding, along all paths."""
    swapped_for: tuple[str, ...]
    kl: tuple[float, ...]
    """KL(prompt ‖ swapped) of the next token at the target's position for each swap, in nats."""
    change: tuple[float, ...]
    """Of the target's logit less the mean logit, for each swap."""

    @property
    def mean_kl(self) -> float:
        return float(np.mean(self.kl))


@dataclass(frozen=True, kw_only=True)
class MissingEdges:
    """What swaps did where the graph says that they do not matter, and where it says that they do."""

    target: str
    seed: int
    positions: tuple[SwapTest, ...]
    """From the least influence to the most."""
    unimportant: tuple[int, ...]
    important: tuple[int, ...]
    results: tuple[Result, ...]
    """By name: `ranks` (rank correlation of influence and mean KL over positions), `ratio` (mean KL of what should not matter over that of what
    should: 0 where nothing is missing, about 1 where influence says nothing). A correlation that does not exist is left out."""

    def result(self, name: str) -> Result | None:
        """The figure of a name; None where it does not exist."""
        return next((each for each in self.results if each.name == name), None)

    def suspects(self) -> tuple[SwapTest, ...]:
        """Positions said not to matter whose swaps did more than the typical one that should: where to look for a missing path."""
        by = {each.position: each for each in self.positions}
        typical = float(np.median([by[position].mean_kl for position in self.important]))
        return tuple(by[position] for position in self.unimportant if by[position].mean_kl > typical)

    def to_json(self) -> dict[str, Any]:
        """As pages and the command line show it."""
        names = ("target", "seed", "positions", "unimportant", "important", "results")
        return {**{name: to_dict(getattr(self, name)) for name in names}, "suspects": [each.position for each in self.suspects()]}


@torch.no_grad()
def missing_edges(
    model: Model,
    graph: Graph,
    *,
    target: int | None = None,
    config: SwapConfig = SwapConfig(),
    progress: Progress | None = None,
) -> MissingEdges:
    """Swap tokens and measure the next token at the position of `target` (a logit's node; None: the first target).

    Raises `GraphInvalid` for a graph of another model, a target that is no logit, and a prompt with fewer than two positions to compare.
    """
    node = int(graph.nodes.where("target")[0]) if target is None else target
    token, at = _logit(graph, node, model=model)
    strength = influence(graph).nodes
    known = {int(graph.nodes.position[each]): float(strength[each]) for each in graph.nodes.where("embedding")}
    positions = sorted((p for p in known if p <= at and (config.ends or 0 < p < at)), key=lambda p: known[p])
    if len(positions) < 2:
        do = "Trace a longer prompt, or swap the first and last token too (ends=True)."
        raise GraphInvalid("there are no positions to compare.", got=f"{len(positions)} of them", wanted="two or more", do=do)
    draw = np.random.default_rng(config.seed)
    known_ids = np.array(sorted(each for each in model.tokenizer.text_ids if each < model.n_vocab))
    others = {position: _others(model, graph.tokens[position], among=draw.permutation(known_ids), n=config.swaps) for position in positions}
    pairs = [(position, other) for position in positions for other in others[position]]
    kl, change = _measured(model, graph.tokens, pairs, at=at, token=token, progress=progress)
    tests: list[SwapTest] = []
    for position in positions:
        here = [i for i, (p, _) in enumerate(pairs) if p == position]
        tests.append(
            SwapTest(
                position=position,
                token=graph.pieces[position],
                influence=known[position],
                swapped_for=tuple(model.tokenizer.piece(other) for other in others[position]),
                kl=tuple(kl[i] for i in here),
                change=tuple(change[i] for i in here),
            )
        )
    n = min(len(tests) // 2, max(1, round(config.share * len(tests))))
    label = graph.target_labels[int(np.flatnonzero(graph.nodes.where("target") == node)[0])]
    return MissingEdges(
        target=label,
        seed=config.seed,
        positions=tuple(tests),
        unimportant=tuple(each.position for each in tests[:n]),
        important=tuple(each.position for each in tests[-n:]),
        results=_results(tests, n, seed=config.seed),
    )


def _logit(graph: Graph, node: int, *, model: Model) -> tuple[int, int]:
    """Token and position of a logit's node."""
    refuse_turns(graph)
    do = "Give the model that the graph was traced with."
    if graph.model_fingerprint != model.fingerprint:
        raise GraphInvalid("the graph is of another model.", got=f"{graph.model} ({graph.model_fingerprint})", wanted=model.fingerprint, do=do)
    token = int(graph.nodes.feature[node])
    if graph.nodes.kind[node] != TARGET or token < 0:
        raise GraphInvalid("swaps are measured on a logit.", got=f"node {node}", wanted="the node of a logit", do="Choose a target that is a token.")
    return token, int(graph.nodes.position[node])


def _others(model: Model, token: int, *, among: npt.NDArray[np.int64], n: int) -> list[int]:
    """The first other tokens of the same sort: beginning with a space or not, made of letters or not."""
    tokenizer = model.tokenizer
    sort = _sort(tokenizer.token_bytes(token))
    same = (other for other in among.tolist() if other != token and _sort(tokenizer.token_bytes(other)) == sort)
    return list(islice(same, n)) or [other for other in among.tolist() if other != token][:n]


def _sort(piece: bytes) -> tuple[bool, bool]:
    text = piece.decode(errors="replace")
    return text.startswith(" "), text.strip().isalpha()


def _measured(
    model: Model, tokens: Sequence[int], pairs: Sequence[tuple[int, int]], *, at: int, token: int, progress: Progress | None
) -> tuple[list[float], list[float]]:
    """KL and change of the target's logit for each (position, other token)."""

    def logits(rows: list[list[int]]) -> torch.Tensor:
        return model.logits(torch.tensor(rows)[:, : at + 1], last=1)[:, -1].double()

    clean = logits([list(tokens)])[0]
    report, kl, change = Throttled(progress), list[float](), list[float]()
    for start in range(0, len(pairs), _ROWS):
        some = pairs[start : start + _ROWS]
        swapped = logits([[*tokens[:position], other, *tokens[position + 1 :]] for position, other in some])
        before, after = clean.log_softmax(-1), swapped.log_softmax(-1)
        kl += (before.exp() * (before - after)).sum(-1).clamp_min(0).tolist()
        moved = swapped - clean
        change += (moved[:, token] - moved.mean(-1)).tolist()
        report("swaps", start + len(some), len(pairs), unit="prompts")
    return kl, change


def _results(tests: Sequence[SwapTest], n: int, *, seed: int) -> tuple[Result, ...]:
    strength, size = [each.influence for each in tests], [each.mean_kl for each in tests]
    found: list[Result] = []
    value = rank_correlation(strength, size)
    if not np.isnan(value):
        interval = bootstrap_rank_correlation(strength, size, seed=seed)
        low, high = np.quantile(shuffled_rank_correlations(strength, size, seed=seed), [0.025, 0.975])
        definition = "Spearman's rank correlation, over positions, of the token's influence and the mean KL of its swaps"
        beside = {"shuffled, low": float(low), "shuffled, high": float(high)}
        found.append(Result(name="ranks", value=value, low=interval.low, high=interval.high, n=len(tests), definition=definition, baselines=beside))
    least, most = np.array(size[:n]), np.array(size[-n:])
    if most.sum() > 0:
        interval = bootstrap_ratio(least, most, seed=seed) if n > 1 else None
        found.append(
            Result(
                name="ratio",
                value=float(least.sum() / most.sum()),
                low=None if interval is None else interval.low,
                high=None if interval is None else interval.high,
                n=n,
                definition="mean KL of swaps where the graph says that they do not matter, over that where it says that they do",
                baselines={"no difference": 1.0},
            )
        )
    return tuple(found)
