"""Why a head looked there: one attention score taken apart into pairs of a source at the query and a source at the key.

A score is a product of two vectors, each a sum over sources, so it is a sum over pairs (Kamath et al. 2025, "Tracing attention computation through
feature interactions"). The coordinates of both vectors are rows like any other, so that the engine that traces graphs gives them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from microtome.circuits.attribute import TraceConfig, Tracing, engine_for, opened, tokens_of
from microtome.circuits.graph import Nodes
from microtome.circuits.replacement import Replacement, members_of
from microtome.circuits.sources import Sources
from microtome.circuits.targets import Rows, joined
from microtome.dictionaries import Dictionary, DictionarySet
from microtome.errors import TargetInvalid
from microtome.models import Model, ScoreMaps, Site, score_maps
from microtome.shapes import Float, Tensor

_CANDIDATES = 2048
"""Sources at each side, by size, among which the strongest pairs are looked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """What a source at the query and a source at the key add to the score together."""

    query: int
    key: int
    weight: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Looking:
    """A score, taken apart; `query`, `key` and pairs point into `nodes`."""

    layer: int
    head: int
    position: int
    """Where the head looks from."""
    looked_at: int
    against: int | None
    score: float
    """Scaled, before mask and softmax; less that of `against`, where there is one."""
    nodes: Nodes
    query: npt.NDArray[np.float32]
    """By node, what it adds to the score through the query; the sum is the score."""
    key: npt.NDArray[np.float32]
    """By node, what it adds through the key."""
    pairs: tuple[Pair, ...]
    """The strongest, the largest first."""
    unlisted: float
    """No pair that is not listed is larger than this."""


@torch.no_grad()
def looking(
    model: Model,
    dictionaries: Dictionary | DictionarySet | str | Path,
    prompt: str | list[int],
    *,
    layer: int,
    head: int,
    at: tuple[int, int],
    against: int | None = None,
    most: int = 100,
) -> Looking:
    """Which sources made `head` of `layer` look from the first to the second position of `at`, rather than at `against` (default: score alone).

    Patterns below the layer, norm scales (also of query and key norms) are held. Raises what `trace` does, `TargetInvalid` for a head or position
    that is not there, and `ModelUnsupported` for scores that are softly capped.
    """
    given, _ = opened(model, dictionaries)
    config = TraceConfig()
    tokens = tokens_of(model, prompt)
    replacement = Replacement(model, members_of(model, given, missing=config.missing), tokens)
    _refuse_absent(replacement, layer=layer, head=head, positions=[*at, *([] if against is None else [against])])
    sources = Sources(replacement)
    traced = Tracing(replacement, sources, engine_for(replacement, sources, name="auto"), settings=config)
    maps = score_maps(replacement.frozen, layer, head=head, query=at[0], key=at[1])
    queries, keys = _parts(traced, maps, layer=layer, positions=at)
    score = maps.score
    if against is not None:
        other = score_maps(replacement.frozen, layer, head=head, query=at[0], key=against)
        keys = keys - _parts(traced, other, layer=layer, positions=(at[0], against))[1]
        score -= other.score
    columns = sources.columns
    pairs, unlisted = _strongest(queries * maps.scaling, keys, most=most)
    return Looking(
        layer=layer,
        head=head,
        position=at[0],
        looked_at=at[1],
        against=against,
        score=score,
        nodes=Nodes(**{name: getattr(columns, name) for name in Nodes.__dataclass_fields__}),
        query=(keys.sum(1) @ queries * maps.scaling).float().cpu().numpy(),
        key=(queries.sum(1) @ keys * maps.scaling).float().cpu().numpy(),
        pairs=pairs,
        unlisted=unlisted,
    )


def _parts(traced: Tracing, maps: ScoreMaps, *, layer: int, positions: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What each source adds to the query and to the key, `[width, nodes]` both."""
    sides = ((maps.query, maps.query_rest), (maps.key, maps.key_rest))
    reading = traced.replacement.reading(Site("attn_in", layer))
    assert reading is not None
    rows: list[Rows] = []
    for (map, rest), position, x in zip(sides, positions, maps.inputs, strict=True):
        vectors, bias = map.to(traced.replacement.dtype), rest.to(traced.replacement.dtype)
        where = torch.full((len(vectors),), position, device=vectors.device)
        rows.append(
            Rows(
                place=torch.full_like(where, reading.place),
                position=where,
                vector=reading.back(vectors, where),
                constant=bias + reading.constant(vectors),
                layer=torch.full_like(where, layer),
                pre=vectors @ x.to(vectors) + bias,
            )
        )
    block = traced.effects(joined(rows))
    return block[: len(maps.query)], block[len(maps.query) :]


def _strongest(queries: Float[Tensor, "width nodes"], keys: Float[Tensor, "width nodes"], *, most: int) -> tuple[tuple[Pair, ...], float]:
    """The largest products of a column of each, and what no other pair exceeds."""
    sizes = queries.norm(dim=0), keys.norm(dim=0)
    ranked = [size.sort(descending=True) for size in sizes]
    n = min(_CANDIDATES, queries.shape[1])
    left, right = (rank.indices[:n] for rank in ranked)
    table = queries[:, left].T @ keys[:, right]
    best = table.abs().flatten().topk(min(most, table.numel())).indices
    chosen = [(int(i) // n, int(i) % n) for i in best]
    pairs = tuple(Pair(query=int(left[i]), key=int(right[j]), weight=float(table[i, j])) for i, j in chosen)
    beyond = [float(mine.values[n] * other.values[0]) if n < len(mine.values) else 0.0 for mine, other in (ranked, ranked[::-1])]
    return pairs, max(*beyond, abs(pairs[-1].weight))


def _refuse_absent(replacement: Replacement, *, layer: int, head: int, positions: list[int]) -> None:
    if not 0 <= layer < replacement.n_layers:
        wanted = f"0 to {replacement.n_layers - 1}"
        raise TargetInvalid(f"there is no layer {layer}.", got=layer, wanted=wanted, do="Choose a layer of the model.")
    n_heads = len(replacement.frozen.pattern(layer))
    if not 0 <= head < n_heads:
        raise TargetInvalid(f"layer {layer} has no head {head}.", got=head, wanted=f"0 to {n_heads - 1}", do="Choose one of its heads.")
    for position in positions:
        if not 0 <= position <= positions[0] or positions[0] >= replacement.n_tokens:
            wanted = f"0 to {min(positions[0], replacement.n_tokens - 1)}"
            raise TargetInvalid(
                f"a head does not look from {positions[0]} at {position}.", got=position, wanted=wanted, do="Look back, in the prompt."
            )
