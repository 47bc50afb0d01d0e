"""One intervention on the nodes of a graph: what the graph says that it does to a target, and what it does in the model.

With A the edges of a graph and a_s the activation of source s, let e_s be the relative change of s: f − 1 where an intervention multiplies by f, what
the intervention makes of it elsewhere, and for every other expanded feature t

    e_t = Σ_s A[t, s] e_s / a_t

A change of the target by Σ_s A[T, s] e_s is predicted: the graph read forwards, with active features staying active. Of one node that is doubled
it is the total effect of `effects_on`. Measured is the same intervention in the model.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from microtome.circuits.graph import FEATURE, Graph
from microtome.circuits.influence import edges_of, sweep
from microtome.circuits.intervene import Group, Intervention, Patched, Patching, continuations, patch
from microtome.circuits.names import node_name
from microtome.circuits.scale import Scale, check_same, refuse_turns
from microtome.config import to_dict
from microtome.dictionaries import DictionarySet
from microtome.errors import GraphInvalid
from microtome.models import Model
from microtome.steering import Row, Sampling

_LIKELIEST = 8
"""Next tokens that are told, of those before and after."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A next token at the target's position."""

    token: int
    piece: str
    before: float
    """Its probability without the intervention."""
    after: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An intervention, predicted and measured. Changes are those of the target, in its units: logits less their mean, or a pre-activation."""

    target: str
    nodes: tuple[str, ...]
    """The names of the changed features."""
    clean: float
    """The target without the intervention."""
    predicted: float
    """What the graph says that it changes by."""
    measured: float
    """What it changed by."""
    kl: float
    """KL(clean ‖ changed) of the next token at the target's position, in nats."""
    patching: Patching
    shifts: tuple[Shift, ...]
    """The likeliest tokens before or after, largest change first."""
    unedited: str | None
    """How the model goes on; None where no continuation was asked for."""
    edited: str | None
    """How it goes on under the intervention, with the same random numbers."""

    def to_json(self) -> dict[str, Any]:
        """As pages show it."""
        return {name: to_dict(getattr(self, name)) for name in self.__dataclass_fields__}


def predicted_change(graph: Graph, group: Group, *, target: int) -> float:
    """What the graph says that interventions on its nodes change `target` by (a target, or an expanded feature), in units of its pre-activation.

    See the top of this file. Raises `GraphInvalid` for a target without a row, and `NodeNotFound` for an intervention at no node of the graph.
    """
    wanted = graph.row_of(target)
    if wanted is None:
        do = "Choose a target, or a feature that was expanded; trace with more features."
        raise GraphInvalid("nothing was traced back from this node.", got=node_name(graph, target), wanted="a node with a row", do=do)
    by_node = {node: each for each in group for node in _nodes(graph, each)}
    change = np.zeros(len(graph.nodes))
    for node, each in by_node.items():
        change[node] = _changed(graph, node, each, before=0.0)
    for rows in reversed(list(sweep(graph))):
        edges, local = edges_of(graph, rows)
        moved = np.bincount(local, weights=change[graph.edges.source[edges]] * graph.edges.weight[edges], minlength=len(rows))
        at = graph.rows[rows]
        if wanted in rows and target not in by_node:
            return float(moved[rows == wanted][0])
        activation = graph.nodes.activation[at].astype(np.float64)
        fires = (graph.nodes.kind[at] == FEATURE) & (activation != 0)
        change[at[fires]] = moved[fires] / activation[fires]
        for node in by_node.keys() & set(at.tolist()):
            change[node] = _changed(graph, node, by_node[node], before=float(change[node]))
    return float(change[target] * graph.nodes.activation[target])


@torch.no_grad()
def outcome(
    model: Model,
    dictionaries: DictionarySet,
    *,
    graph: Graph,
    group: Group,
    target: int | None = None,
    patching: Patching = Patching(),  # noqa: B008  # frozen
    sampling: Sampling | None = None,
) -> Outcome:
    """Intervene on nodes of the graph in the model, and set what follows beside what the graph says.

    `target` is the node whose change is told, a logit, a difference of two or an expanded feature (None: the first target); with `sampling` the
    prompt is continued without and with the intervention. The model is left as it was. Raises what `patch` and `predicted_change` do, and
    `GraphInvalid` for a graph of another model or other dictionaries.
    """
    refuse_turns(graph)
    node = int(graph.nodes.where("target")[0]) if target is None else target
    changed = [each for one in group for each in _nodes(graph, one)]
    if not changed:
        raise GraphInvalid("there is nothing to change.", got="no intervention", wanted="one or more", do="Choose features of the graph.")
    check_same(model, dictionaries, graph=graph, nodes=changed)
    scale = Scale.of(graph, node, model=model, dictionaries=dictionaries)
    predicted = predicted_change(graph, group, target=node)
    prompt = Row(tokens=graph.tokens)
    patched = patch(model, dictionaries, prompt=prompt, groups=[group], patching=patching, read=scale.read, keep=[scale.position])
    both = None if sampling is None else continuations(model, dictionaries, prompt=prompt, group=group, sampling=sampling)
    row = graph.row_of(node)
    return Outcome(
        target=scale.label,
        nodes=tuple(node_name(graph, each) for each in changed),
        clean=float(graph.pre[row]) if row is not None else 0.0,
        predicted=predicted,
        measured=float(scale.changes(patched)[0]),
        kl=float(patched.kl()[0, 0]),
        patching=patching,
        shifts=_shifts(model, patched),
        unedited=None if both is None else both.unedited.text,
        edited=None if both is None else both.edited.text,
    )


def _nodes(graph: Graph, intervention: Intervention) -> list[int]:
    """The nodes that an intervention is at; `NodeNotFound` for a token at which its feature is not active."""
    positions = intervention.positions.over(len(graph.tokens))
    return [graph.node("feature", layer=intervention.layer, position=int(at), feature=intervention.feature) for at in positions]


def _changed(graph: Graph, node: int, intervention: Intervention, *, before: float) -> float:
    """The relative change of a node whose relative change was `before`."""
    activation = float(graph.nodes.activation[node])
    if activation == 0:
        return 0.0
    found = torch.tensor([activation * (1 + before)], dtype=torch.float64)
    return before + float(intervention.change(found)[0]) / activation


def _shifts(model: Model, patched: Patched) -> tuple[Shift, ...]:
    before, after = patched.clean[0].double().softmax(-1), patched.logits[0, 0].double().softmax(-1)
    best = {*before.topk(min(_LIKELIEST, len(before))).indices.tolist(), *after.topk(min(_LIKELIEST, len(after))).indices.tolist()}
    order = sorted(best, key=lambda token: (-abs(float(after[token] - before[token])), token))
    return tuple(_shift(model, token, before=float(before[token]), after=float(after[token])) for token in order)


def _shift(model: Model, token: int, *, before: float, after: float) -> Shift:
    return Shift(token=token, piece=model.tokenizer.piece(token) if token < len(model.tokenizer) else f"#{token}", before=before, after=after)
