"""Predicted against measured: what a graph says that its nodes do to a target, and what happens when they are changed in the model.

With A the edges of a graph (A[t, s]: what source s adds to t, its activation included) and a_t the activation of feature t, scaling node s by 1 + ε
changes what feeds t by ε A[t, s], so t itself by that over a_t, and so on. On target T the effect of a whole node is

    direct[s] = A[T, s]        total[s] = A[T, s] + Σ_t total[t] / a_t · A[t, s]        (over expanded features t)

Its ablation is predicted to change T by −total[s], its doubling by +total[s]. Measured is the change in the real model, whose MLPs and norms answer
as they like. Rank correlations (Spearman) are told for the strongest nodes, which a reader of the graph will believe, and for random active ones,
beside those of shuffled predictions and of simpler predictors.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from microtome.circuits.graph import FEATURE, Graph
from microtome.circuits.influence import edges_of, influence, sweep
from microtome.circuits.intervene import Intervention, Patching, patch
from microtome.circuits.names import node_name
from microtome.circuits.scale import Scale, check_same, refuse_turns
from microtome.config import to_dict
from microtome.dictionaries import DictionarySet
from microtome.errors import GraphInvalid
from microtome.models import Model
from microtome.progress import Progress
from microtome.stats import Result, bootstrap_rank_correlation, rank_correlation, shuffled_rank_correlations, wilson
from microtome.steering import Row, times_current

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeEffects:
    """What a graph predicts of each of its nodes on one target, in units of the target's pre-activation."""

    direct: Floats
    total: Floats
    """Along all paths through expanded features, with signs."""


def effects_on(graph: Graph, node: int) -> NodeEffects:
    """Direct and total effects of all nodes on `node`, a target or an expanded feature; one without a row raises `GraphInvalid`."""
    row = graph.row_of(node)
    if row is None:
        do = "Choose a target, or a feature that was expanded; trace with more features."
        raise GraphInvalid("nothing was traced back from this node.", got=f"node {node}", wanted="a node with a row", do=do)
    direct = np.zeros(len(graph.nodes))
    source, weight = graph.edges.row(row)
    direct[source] = weight
    total = direct.copy()
    for rows in sweep(graph):
        at = graph.rows[rows]
        activation = graph.nodes.activation[at].astype(np.float64)
        passes = (graph.nodes.kind[at] == FEATURE) & (total[at] != 0) & (activation != 0)
        edges, local = edges_of(graph, rows[passes])
        share = total[at[passes]] / activation[passes]
        total += np.bincount(graph.edges.source[edges], weights=share[local] * graph.edges.weight[edges], minlength=len(total))
    return NodeEffects(direct=direct, total=total)


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Which nodes of a graph are tried, and how."""

    strong: int = 20
    """Features with the largest influence."""
    random: int = 20
    """Features drawn from all the other active ones."""
    seed: int = 0
    target: int | None = None
    """The node whose change is predicted: a logit, a difference of two, or an expanded feature; None: the first target."""
    patching: Patching = Patching()  # noqa: RUF009  # frozen
    rows_at_once: int = 16
    """Interventions in one forward."""


@dataclass(frozen=True, kw_only=True)
class TrialNode:
    """One feature, predicted and measured. Changes are those of the target, in its units: logits less their mean, or a pre-activation."""

    node: str
    """Its id, `L3.f17@4`."""
    group: Literal["strong", "random"]
    activation: float
    influence: float
    direct: float
    """What the graph says that it adds to the target straight away."""
    total: float
    """The same along all paths: ablation should change the target by minus this, doubling by this."""
    ablated: float
    """Measured when it is set to 0."""
    doubled: float
    kl_ablated: float
    """KL(clean ‖ ablated) of the next token at the target's position, in nats."""
    kl_doubled: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A graph's predictions beside what was measured."""

    target: str
    target_node: int
    seed: int
    patching: Patching
    nodes: tuple[TrialNode, ...]
    results: tuple[Result, ...]
    """By name: `ablated, strong` and `doubled, strong` (rank correlation of predicted and measured change), `divergence, strong` (of the predicted
    size and the KL of ablation), `sign, strong` (share of ablations with the predicted sign); the same for `random`. What does not exist, as where
    nothing changed, is left out."""

    def result(self, name: str) -> Result | None:
        """The figure of a name; None where it does not exist."""
        return next((each for each in self.results if each.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """As pages and the command line show it."""
        names = ("target", "target_node", "seed", "patching", "nodes", "results")
        return {name: to_dict(getattr(self, name)) for name in names}


def trial(
    model: Model,
    dictionaries: DictionarySet,
    *,
    graph: Graph,
    config: TrialConfig = TrialConfig(),
    progress: Progress | None = None,
) -> Trial:
    """Change nodes of the graph in the model, one at a time, and set what follows beside what the graph predicts.

    Raises `GraphInvalid` for a graph of another model or other dictionaries (its activations are not those found here), and for a target that is
    neither a logit, a difference of two, nor an expanded feature.
    """
    refuse_turns(graph)
    target = int(graph.nodes.where("target")[0]) if config.target is None else config.target
    scale = Scale.of(graph, target, model=model, dictionaries=dictionaries)
    effects, strength = effects_on(graph, target), influence(graph).nodes
    chosen, n_strong = _chosen(graph, strength, config=config, scale=scale)
    check_same(model, dictionaries, graph=graph, nodes=chosen)
    groups = [[_times(graph, node, factor)] for factor in (0.0, 2.0) for node in chosen]
    patched = patch(
        model,
        dictionaries,
        prompt=Row(tokens=graph.tokens),
        groups=groups,
        patching=config.patching,
        read=scale.read,
        keep=[scale.position],
        progress=progress,
    )
    changes, kl = scale.changes(patched).reshape(2, -1), patched.kl()[:, 0].double().cpu().numpy().reshape(2, -1)
    nodes = tuple(
        TrialNode(
            node=node_name(graph, node),
            group="strong" if i < n_strong else "random",
            activation=float(graph.nodes.activation[node]),
            influence=float(strength[node]),
            direct=float(effects.direct[node]),
            total=float(effects.total[node]),
            ablated=float(changes[0, i]),
            doubled=float(changes[1, i]),
            kl_ablated=float(kl[0, i]),
            kl_doubled=float(kl[1, i]),
        )
        for i, node in enumerate(chosen)
    )
    results = tuple(
        result for group in ("strong", "random") for result in _results([each for each in nodes if each.group == group], group, seed=config.seed)
    )
    return Trial(target=scale.label, target_node=target, seed=config.seed, patching=config.patching, nodes=nodes, results=results)


def _chosen(graph: Graph, strength: Floats, *, config: TrialConfig, scale: Scale) -> tuple[list[int], int]:
    """Features that come before the target: the strong ones by influence, then as many random ones of the rest; and how many are strong."""
    nodes = graph.nodes
    before = np.flatnonzero((nodes.kind == FEATURE) & (nodes.layer < scale.layer) & (nodes.position <= scale.position))
    order = before[np.argsort(-strength[before], kind="stable")]
    strong = [int(node) for node in order[: config.strong] if strength[node] > 0]
    rest = order[len(strong) :]
    picks = np.random.default_rng(config.seed).permutation(len(rest))[: config.random]
    return [*strong, *(int(node) for node in rest[np.sort(picks)])], len(strong)


def _times(graph: Graph, node: int, factor: float) -> Intervention:
    return Intervention.on(node_name(graph, node), times_current(factor), operation="multiply")


def _results(nodes: Sequence[TrialNode], group: str, *, seed: int) -> list[Result]:
    total = np.array([node.total for node in nodes])
    direct = np.array([node.direct for node in nodes])
    ablated, doubled = np.array([node.ablated for node in nodes]), np.array([node.doubled for node in nodes])
    size = {
        "direct": np.abs(direct),
        "influence": np.array([node.influence for node in nodes]),
        "activation": np.array([node.activation for node in nodes]),
    }
    definition = "Spearman's rank correlation of predicted and measured change of the target"
    found = [
        _ranked(f"ablated, {group}", -total, ablated, others={"direct": -direct}, definition=definition, seed=seed),
        _ranked(f"doubled, {group}", total, doubled, others={"direct": direct}, definition=definition, seed=seed),
        _ranked(
            f"divergence, {group}",
            np.abs(total),
            np.array([node.kl_ablated for node in nodes]),
            others=size,
            definition="Spearman's rank correlation of the predicted change's size and KL(clean ‖ ablated) of the next token",
            seed=seed,
        ),
        _signs(f"sign, {group}", -total, ablated),
    ]
    return [each for each in found if each is not None]


def _ranked(name: str, predicted: Floats, measured: Floats, *, others: Mapping[str, Floats], definition: str, seed: int) -> Result | None:
    """The rank correlation, beside other predictors and beside the 95 % range of shuffled predictions; None where a side is constant."""
    value = rank_correlation(predicted, measured)
    if math.isnan(value):
        return None
    interval = bootstrap_rank_correlation(predicted, measured, seed=seed)
    low, middle, high = np.quantile(shuffled_rank_correlations(predicted, measured, seed=seed), [0.025, 0.5, 0.975])
    beside = {other: rank_correlation(values, measured) for other, values in others.items()}
    baselines = {
        **{other: value for other, value in beside.items() if not math.isnan(value)},
        "shuffled": float(middle),
        "shuffled, low": float(low),
        "shuffled, high": float(high),
    }
    return Result(name=name, value=value, low=interval.low, high=interval.high, n=len(measured), definition=definition, baselines=baselines)


def _signs(name: str, predicted: Floats, measured: Floats) -> Result | None:
    """How often the measured change has the predicted sign; nodes without either are failures."""
    both = (predicted != 0) & (measured != 0)
    n, right = int(both.sum()), int((np.sign(predicted) == np.sign(measured))[both].sum())
    if n == 0:
        return None
    interval = wilson(right, n)
    definition = "share of ablations whose measured change has the predicted sign"
    return Result(
        name=name,
        value=right / n,
        low=interval.low,
        high=interval.high,
        n=n,
        failures=len(both) - n,
        definition=definition,
        baselines={"chance": 0.5},
    )
