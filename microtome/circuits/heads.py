"""Through which heads an edge runs: at every layer between its ends, the part of its weight that each attention head carries.

A change of the source reaches a layer as a change of the stream; what arrives at a head's output from the target times what the head makes of that
change is the head's part. Heads and the way past them (the residual stream, skips) add up to the edge at every layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from microtome.circuits.attribute import tokens_of
from microtome.circuits.engine_sweep import SweepEngine
from microtome.circuits.graph import EMBEDDING, ERROR, FEATURE, STREAM_ERROR, TARGET, Graph
from microtome.circuits.replacement import Missing, Replacement, members_of
from microtome.circuits.sources import Sources
from microtome.circuits.targets import Rows, Target, feature_rows, joined, positions_of, rows_of, sites_of, targets_of
from microtome.dictionaries import Dictionary, DictionarySet
from microtome.errors import GraphInvalid, ModelUnsupported
from microtome.models import Model, Site
from microtome.shapes import Tensor

_AT_ONCE = 32
"""Edges whose changes are carried through the model together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Loadings:
    """The parts of edges that run through heads."""

    edges: tuple[tuple[int, int], ...]
    """Source and target, as nodes of the graph."""
    weight: npt.NDArray[np.float32]
    """By edge."""
    heads: npt.NDArray[np.float32]
    """Edge × layer × head; 0 at layers that do not lie between the ends."""

    def past(self, layer: int) -> npt.NDArray[np.float32]:
        """By edge, the part that passes a layer's attention by. Of an edge with several writes, also what is written later."""
        return self.weight - self.heads[:, layer].sum(1)


class _Ends(NamedTuple):
    rows: Rows
    """One an edge, sorted by place."""
    order: Tensor
    """Which edge each row belongs to."""


@torch.no_grad()
def head_loadings(
    model: Model,
    dictionaries: Dictionary | DictionarySet,
    graph: Graph,
    *,
    edges: Sequence[tuple[int, int]],
    target: Target | str | Sequence[Target] | None = None,
    missing: Missing = "refuse",
) -> Loadings:
    """The loadings of edges (source node, target node) of a graph; `target` and `missing` as it was traced with.

    Sources are features, errors and embeddings. Raises `GraphInvalid` for a graph of another model or dictionary and for other nodes, and
    `ModelUnsupported` where the sweep does not know the family.
    """
    targets = targets_of(target)
    tokens = tokens_of(model, list(graph.tokens))
    members = members_of(model, dictionaries, missing=missing)
    replacement = Replacement(model, members, tokens, logits_at=positions_of(targets, len(tokens)), read=sites_of(targets))
    sources = Sources(replacement)
    if graph.model_fingerprint != model.fingerprint or len(sources.columns) != len(graph.nodes) - graph.n_targets:
        do = "Give the model and the dictionaries that the graph was traced with."
        raise GraphInvalid("the graph is of another model or other dictionaries.", got=graph.model, wanted=model.ref, do=do)
    engine = SweepEngine.of(replacement, sources)
    if engine is None:
        do = "Trace without loadings."
        raise ModelUnsupported(f"heads of {model.family} cannot be told apart.", got=model.ref, wanted="a family that the sweep knows", do=do)
    of_targets = rows_of(replacement, targets)[0]
    parts = [
        _loadings(engine, replacement, graph=graph, edges=edges[i : i + _AT_ONCE], of_targets=of_targets) for i in range(0, len(edges), _AT_ONCE)
    ]
    n_heads = len(replacement.frozen.pattern(0))
    heads = [heads for heads, _ in parts] or [torch.zeros(0, model.n_layers, n_heads)]
    weights = [weight for _, weight in parts] or [torch.zeros(0)]
    made = (torch.cat(found).float().cpu().numpy() for found in (heads, weights))
    return Loadings(edges=tuple(edges), heads=next(made), weight=next(made))


def _loadings(
    engine: SweepEngine, replacement: Replacement, *, graph: Graph, edges: Sequence[tuple[int, int]], of_targets: Rows
) -> tuple[Tensor, Tensor]:
    """Loadings and weights of some edges."""
    rows, order = _ends(replacement, graph, edges=edges, of_targets=of_targets)
    sources = [edges[i][0] for i in order.tolist()]
    block = rows.vector.new_zeros(len(rows), len(graph.nodes) - graph.n_targets)
    arrived: dict[int, Tensor] = {}
    engine.add_effects(rows, block, heads=arrived)
    loadings: list[Tensor] = []
    stream = _begun(replacement, graph, sources)
    for layer in range(replacement.n_layers):
        mixed, added = engine.spread(layer, stream)
        part = mixed.new_zeros(len(rows), mixed.shape[2] * mixed.shape[3])
        if layer in arrived:
            n, n_tokens = arrived[layer].shape[:2]
            part[:n] = torch.einsum("npkqh,npkqh->nkq", arrived[layer], mixed[:n, :n_tokens]).flatten(1)
        loadings.append(part)
        after = stream + added
        skipped = engine.skipped(layer, stream if replacement.model.is_parallel else after)
        stream = after if skipped is None else after + skipped
        _write(stream, replacement, graph, sources=sources, site=Site("mlp_out", layer))
        cut = replacement.cuts.get(2 * layer + 2)
        if cut is not None:
            stream = torch.zeros_like(stream)
            _write(stream, replacement, graph, sources=sources, site=cut.site)
    back = torch.argsort(order)
    weight = block[torch.arange(len(rows), device=block.device), torch.tensor(sources, device=block.device)]
    return torch.stack(loadings, 1)[back], weight[back]


def _ends(replacement: Replacement, graph: Graph, *, edges: Sequence[tuple[int, int]], of_targets: Rows) -> _Ends:
    made: list[Rows] = []
    first = len(graph.nodes) - graph.n_targets
    for source, goal in edges:
        kinds = [int(graph.nodes.kind[node]) if 0 <= node < len(graph.nodes) else -1 for node in (source, goal)]
        if kinds[0] not in (FEATURE, ERROR, EMBEDDING) or kinds[1] not in (FEATURE, TARGET):
            wanted = "from a feature, an error or an embedding to a feature or a target"
            raise GraphInvalid("an edge has no head loadings.", got=f"{source} to {goal}", wanted=wanted, do="Choose another edge.")
        which = torch.tensor([goal if kinds[1] == FEATURE else goal - first], device=replacement.model.device)
        made.append(feature_rows(replacement, which) if kinds[1] == FEATURE else of_targets.take(which))
    rows = joined(made)
    order = torch.argsort(rows.place, descending=True, stable=True)
    return _Ends(rows.take(order), order)


def _begun(replacement: Replacement, graph: Graph, sources: Sequence[int]) -> Tensor:
    """The change of the stream before block 0: embeddings."""
    stream = replacement.embedding.new_zeros(len(sources), replacement.n_tokens, replacement.model.d_model)
    for i, node in enumerate(sources):
        if graph.nodes.kind[node] == EMBEDDING:
            position = int(graph.nodes.position[node])
            stream[i, position] = replacement.embedding[position]
    return stream


def _write(stream: Tensor, replacement: Replacement, graph: Graph, *, sources: Sequence[int], site: Site) -> None:
    """Add what the sources write at a site."""
    writers = replacement.writers(site)
    errors = {(cut.layer, STREAM_ERROR): cut.error for cut in replacement.cuts.values() if cut.site == site}
    if site.kind == "mlp_out" and site.layer is not None:
        errors[site.layer, -1] = replacement.errors[site.layer]
    for i, node in enumerate(sources):
        kind, source, position, number = (int(getattr(graph.nodes, name)[node]) for name in ("kind", "layer", "position", "feature"))
        if kind == ERROR and (source, number) in errors:
            stream[i, position] += errors[source, number][position]
        elif kind == FEATURE and source in writers:
            stream[i, position] += replacement.written(source, site)[node - replacement.span(source)[0]]
