"""Reading the change of a target off a forward in which something was changed, and whether model and dictionaries are those of a graph."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from microtome.circuits.graph import TARGET, Graph
from microtome.circuits.intervene import Patched, member_of
from microtome.circuits.names import node_name
from microtome.dictionaries import DictionarySet
from microtome.errors import GraphInvalid
from microtome.models import Model, Site
from microtome.shapes import Float, Tensor

Floats: TypeAlias = npt.NDArray[np.float64]
_FEATURE = re.compile(r"L(\d+)\.f(\d+)@(\d+)")
"""The name of a feature, which is also what a target that is a feature is called."""
_DIFFERENCE = re.compile(r'logit\."(.*)" − logit\."(.*)"@\d+', flags=re.DOTALL)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """Reads the change of a target off a patched forward."""

    label: str
    layer: int
    position: int
    tokens: tuple[int, ...] = ()
    """Of a logit; of a difference both."""
    site: Site | None = None
    """Of a feature: where it is read,"""
    vector: Float[Tensor, "d_in"] | None = None
    """and along what."""

    @classmethod
    def of(cls, graph: Graph, node: int, *, model: Model, dictionaries: DictionarySet) -> "Scale":
        """Raises `GraphInvalid` for a node whose change cannot be measured."""
        nodes = graph.nodes
        kind, layer, position, feature = (int(column[node]) for column in (nodes.kind, nodes.layer, nodes.position, nodes.feature))
        label = graph.target_labels[int(np.flatnonzero(nodes.where("target") == node)[0])] if kind == TARGET else node_name(graph, node)
        if kind == TARGET and feature >= 0:
            return cls(label=label, layer=layer, position=position, tokens=(feature,))
        if kind == TARGET and (pair := _difference(label, model)) is not None:
            return cls(label=label, layer=layer, position=position, tokens=pair)
        found = _FEATURE.fullmatch(label)
        if found is not None:
            member = member_of(dictionaries, int(found[1]))
            vector = member.encoder_direction(int(found[2]))
            return cls(label=label, layer=int(found[1]), position=int(found[3]), site=member.reads, vector=vector)
        do = "Choose a logit, a difference of two, or a feature that was expanded."
        raise GraphInvalid("the change of this target cannot be measured here.", got=label, wanted="logits or a feature", do=do)

    @property
    def read(self) -> tuple[Site, ...]:
        return () if self.site is None else (self.site,)

    def changes(self, patched: Patched) -> Floats:
        """For each group of interventions, how much the target changed."""
        if self.site is None or self.vector is None:
            moved = patched.change()[:, 0].double().cpu().numpy()
            return moved[:, self.tokens[0]] - (moved[:, self.tokens[1]] if len(self.tokens) > 1 else 0.0)
        moved = patched.read[self.site][:, self.position] - patched.clean_read[self.site][self.position]
        return (moved.double() @ self.vector.to(moved.device).double()).cpu().numpy()


def check_same(model: Model, dictionaries: DictionarySet, *, graph: Graph, nodes: Sequence[int]) -> None:
    """Raise `GraphInvalid` unless model and dictionaries give the activations that the graph says."""
    do = "Give the model and the dictionaries that the graph was traced with."
    if graph.model_fingerprint != model.fingerprint:
        raise GraphInvalid("the graph is of another model.", got=f"{graph.model} ({graph.model_fingerprint})", wanted=model.fingerprint, do=do)
    members = {layer: member_of(dictionaries, layer).to(model.device) for layer in sorted({int(graph.nodes.layer[node]) for node in nodes})}
    seen = model.capture(torch.tensor([graph.tokens]), [member.reads for member in members.values()])
    for node in nodes:
        layer, position, feature = (int(column[node]) for column in (graph.nodes.layer, graph.nodes.position, graph.nodes.feature))
        codes = members[layer].encode(seen[members[layer].reads][0, position][None].float())
        found = float(codes.values[codes.indices == feature].sum())
        said = float(graph.nodes.activation[node])
        if abs(found - said) > 1e-2 * max(abs(said), 1e-3):
            what = f"{node_name(graph, node)} has another activation than in the graph."
            raise GraphInvalid(what, got=f"{found:g}", wanted=f"{said:g}", do=do)


def refuse_turns(graph: Graph) -> None:
    """Raise `GraphInvalid` for a graph whose columns are turns: nothing can be changed at "a turn"."""
    if "columns" in graph.config:
        do = "Use the graph of its tokens, which `microtome trace --turns` keeps as NAME-tokens; through a dictionary of turns there is none."
        raise GraphInvalid("the columns of this graph are turns.", got=f"{len(graph.tokens)} columns", wanted="a graph of tokens", do=do)


def _difference(label: str, model: Model) -> tuple[int, ...] | None:
    """The two tokens of a difference of logits; None where it is none, or a text is not one token."""
    found = _DIFFERENCE.fullmatch(label)
    ids = [model.tokenizer.encode(text) for text in found.groups()] if found else []
    return (ids[0][0], ids[1][0]) if [len(each) for each in ids] == [1, 1] else None
